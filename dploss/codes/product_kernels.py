"""Compiled loops of products between queries and rows of a transform code, which are not decoded for that.

One query and many rows: the states that end in a half of a byte have their bits in the 11 that end with it. What they
add to a product is one number for each of these 2,048 values: two look-ups for a byte, however many dimensions it has.

Some queries for each row: every value is looked up once, for a block of rows, and multiplied while it is at hand.
"""

import numba
import numpy as np

from dploss.files.kernel_cache import kernel

# Values of 11 bits.
WINDOW = 2048
_ROWS = 1024
# Rows that are multiplied together, one in each lane of the processor's vectors.
LANES = 64
# Axes whose values are multiplied together.
AXES = 8
_U = np.uint32


@kernel(error_model="numpy")
def tables_of(query, tables, ends, width):  # noqa: ANN001, ANN201
    """What each half of a byte adds to the products with a query.

    Args:
        query: (d,) float32.
        tables: (d, 256) float32, the value of each state, by dimension.
        ends: (d,) int64, the bit after the last one of each dimension.
        width: bytes of a ring.

    Returns:
        (2 * width * WINDOW,) float32.
    """
    added = np.zeros((2 * width, WINDOW), np.float32)
    # The bits below a state count up to `size` with it; those above repeat that.
    values = np.empty(WINDOW, np.float32)
    for t in range(len(ends)):
        last = ends[t] - 1
        half, below = added[last >> 2], 3 - (last & 3)
        size = 256 << below
        for place in range(size):
            values[place] = query[t] * tables[t, place >> below]
        for start in range(0, WINDOW, size):
            for place in range(size):
                half[start + place] += values[place]
    return added.ravel()


@kernel(error_model="numpy")
def _add_pairs(codes, added, factors, products):  # noqa: ANN001, ANN202
    """`add_tables` in one thread, two rows at a time: a single sum would wait for its last addition."""
    n, width = codes.shape[0], codes.shape[1] - 1
    for row in range(0, n, 2):
        following = min(row + 1, n - 1)
        one, other = codes[row], codes[following]
        one_bits, other_bits = _U(one[width - 1]), _U(other[width - 1])
        one_sum, other_sum = np.float32(0), np.float32(0)
        for place in range(width):
            base = _U(place) << _U(12)
            one_bits = ((one_bits << _U(8)) | _U(one[place])) & _U(32767)
            other_bits = ((other_bits << _U(8)) | _U(other[place])) & _U(32767)
            one_sum += added[base | (one_bits >> _U(4))] + added[base | _U(WINDOW) | (one_bits & _U(WINDOW - 1))]
            other_sum += added[base | (other_bits >> _U(4))] + added[base | _U(WINDOW) | (other_bits & _U(WINDOW - 1))]
        products[row] = one_sum * factors[one[width]]
        products[following] = other_sum * factors[other[width]]


@kernel(parallel=True, error_model="numpy")
def add_tables(codes, added, factors, products):  # noqa: ANN001, ANN201
    """Products of rows with the query of `added`.

    Args:
        codes: (n, w + 1) uint8: rings of w bytes, then the byte of the norm.
        added: from `tables_of`.
        factors: (256,) float32, what each value of the last byte multiplies a row by.
        products: (n,) float32, which they are written to.
    """
    for block in numba.prange((len(codes) + _ROWS - 1) // _ROWS):
        rows = slice(block * _ROWS, (block + 1) * _ROWS)
        _add_pairs(codes[rows], added, factors, products[rows])


@kernel(error_model="numpy")
def _multiply(values, asked, sums):  # noqa: ANN001, ANN202
    """Add the products of (AXES, LANES) values and (n, AXES) coordinates of queries to (n, LANES) sums."""
    one, two, three, four = values[0], values[1], values[2], values[3]
    five, six, seven, eight = values[4], values[5], values[6], values[7]
    for j in range(len(asked)):
        by, total = asked[j], sums[j]
        for i in range(LANES):
            low = (by[0] * one[i] + by[1] * two[i]) + (by[2] * three[i] + by[3] * four[i])
            high = (by[4] * five[i] + by[5] * six[i]) + (by[6] * seven[i] + by[7] * eight[i])
            total[i] += low + high


@kernel(parallel=True, error_model="numpy")
def visit(codes, first, second, shifts, tables, factors, projected, visits, blocks, starts, products):  # noqa: ANN001, ANN201
    """Products of queries with the rows that they visit.

    Args:
        codes: see `look_up`, as are first, second, shifts, tables and factors.
        first: of each axis; there are a multiple of AXES.
        second: of each axis.
        shifts: of each axis.
        tables: of each axis.
        factors: of the last byte.
        projected: (m, d) float32 queries.
        visits: (v, 3) int64: a query, and the bounds of its rows; ordered by these.
        blocks: (b, 3) int64: a first row, and the bounds of the visits to it and up to LANES - 1 following ones.
        starts: (v,) int64, where the products of a visit begin.
        products: (sum of the visits' rows,) float32, which they are written to.
    """
    width, dim = codes.shape[1] - 1, len(first)
    for block in numba.prange(len(blocks)):
        row, begin, end = blocks[block]
        size = min(LANES, visits[begin, 2] - row)
        turned = np.zeros((width, LANES), np.uint16)
        for i in range(size):
            for place in range(width):
                turned[place, i] = codes[row + i, place]
        asked = np.empty((dim // AXES, end - begin, AXES), np.float32)
        for j in range(end - begin):
            query = projected[visits[begin + j, 0]]
            for t in range(dim):
                asked[t // AXES, j, t % AXES] = query[t]
        sums = np.zeros((end - begin, LANES), np.float32)
        states, values = np.empty(LANES, np.uint8), np.empty((AXES, LANES), np.float32)
        for t in range(0, dim, AXES):
            for a in range(AXES):
                high, low, shift = turned[first[t + a]], turned[second[t + a]], np.uint16(shifts[t + a])
                table, value = tables[t + a], values[a]
                for i in range(LANES):
                    states[i] = np.uint8(((high[i] << np.uint16(8)) | low[i]) >> shift)
                for i in range(LANES):
                    value[i] = table[states[i]]
            _multiply(values, asked[t // AXES], sums)
        for j in range(end - begin):
            place = starts[begin + j] + row - visits[begin + j, 1]
            for i in range(size):
                products[place + i] = sums[j, i] * factors[codes[row + i, width]]
