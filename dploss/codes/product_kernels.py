"""Compiled loops of a query's products with rows of the trellis code, which are not decoded for that.

The states that end in a half of a byte have their bits in the 11 that end with it. What they add to a product with one
query is one number for each of these 2,048 values: two look-ups for a byte, however many dimensions it stores.
"""

import numba
import numpy as np

# Values of 11 bits.
WINDOW = 2048
_ROWS = 4096
_U = np.uint32


@numba.njit(error_model="numpy", cache=True)
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
    for t in range(len(ends)):
        last = ends[t] - 1
        half, below = added[last >> 2], 3 - (last & 3)
        for above in range(8 >> below):
            for state in range(256):
                value = query[t] * tables[t, state]
                start = ((above << 8) | state) << below
                for place in range(start, start + (1 << below)):
                    half[place] += value
    return added.ravel()


@numba.njit(error_model="numpy", cache=True)
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


@numba.njit(parallel=True, error_model="numpy", cache=True)
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
