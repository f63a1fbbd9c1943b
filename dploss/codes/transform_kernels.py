"""Compiled loops of the transform codes: packing the bits of each axis, the table look-up of decoding, Gaussian cells.

A code of n bits is read as a ring. Axis t adds b_t of its bits, the lowest of its state; its state is the byte that
ends with them.
"""

import numba
import numpy as np

from dploss.files.kernel_cache import kernel

# Indices that are known not to be below 0 take less time.
_U = np.uint64


@kernel(parallel=True)
def pack_states(states, bits, codes):  # noqa: ANN001, ANN201
    """Write the bits that each axis adds, the lowest of its state, into (n, w) uint8 `codes`, highest first."""
    for row in numba.prange(len(states)):
        pending, n_pending, place = 0, 0, 0
        for t in range(states.shape[1]):
            pending = (pending << bits[t]) | (states[row, t] & ((1 << bits[t]) - 1))
            n_pending += bits[t]
            while n_pending >= 8:
                n_pending -= 8
                codes[row, place] = (pending >> n_pending) & 255
                place += 1
            pending &= (1 << n_pending) - 1


@kernel(parallel=True, error_model="numpy")
def look_up(codes, first, second, shifts, tables, factors, values, norms):  # noqa: ANN001, ANN201
    """Decode packed states, two rows at a time: a single sum would wait for its last addition.

    Args:
        codes: (n, w + 1) uint8: rings of w bytes, then the byte of the norm.
        first: (d,) uint64, the byte in which each axis's state begins.
        second: (d,) uint64, the byte in which it ends, or the one after it.
        shifts: (d,) uint64, 1 to 8: how many of the lowest bits of both are not the state's.
        tables: (d, 256) float32.
        factors: (256,) float32, what each value of the last byte multiplies a row by.
        values: (n, d) float32, which the decoded values are written to.
        norms: (n,) float32, which their squared norms before that are written to.
    """
    n, width = len(codes), codes.shape[1] - 1
    for pair in numba.prange((n + 1) // 2):
        row, other_row = 2 * pair, min(2 * pair + 1, n - 1)
        code, other, decoded, other_decoded = codes[row], codes[other_row], values[row], values[other_row]
        factor, other_factor = factors[code[width]], factors[other[width]]
        norm, other_norm = np.float32(0), np.float32(0)
        for t in range(len(first)):
            begin, end, shift, table = first[t], second[t], shifts[t], tables[t]
            value = table[(((_U(code[begin]) << _U(8)) | _U(code[end])) >> shift) & _U(255)]
            other_value = table[(((_U(other[begin]) << _U(8)) | _U(other[end])) >> shift) & _U(255)]
            decoded[t], other_decoded[t] = value * factor, other_value * other_factor
            norm += value * value
            other_norm += other_value * other_value
        norms[row], norms[other_row] = norm, other_norm


@kernel(parallel=True)
def nearest_cells(values, thresholds, bits):  # noqa: ANN001, ANN201
    """The cell of each value, by binary search.

    Args:
        values: (n, d) float32.
        thresholds: (d, 255) float32, rising, between the 2^bits cells of each axis; the rest is not looked at.
        bits: (d,) int64, 1 to 8.

    Returns:
        (n, d) uint8.
    """
    cells = np.empty(values.shape, np.uint8)
    for row in numba.prange(len(values)):
        for t in range(values.shape[1]):
            cell, value = 0, values[row, t]
            for step in range(bits[t] - 1, -1, -1):
                cell += (value > thresholds[t, cell + (1 << step) - 1]) << step
            cells[row, t] = cell
    return cells
