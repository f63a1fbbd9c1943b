"""Compiled loops of the transform codes: packing the bits of each axis, the table look-up of decoding, Gaussian cells.

A code of n bits is read as a ring. Axis t adds b_t of its bits, the lowest of its state; its state is the byte that
ends with them.
"""

import numba
import numpy as np


@numba.njit(parallel=True, cache=True)
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


@numba.njit(parallel=True, cache=True)
def look_up(codes, first, shifts, tables, values, norms):  # noqa: ANN001, ANN201
    """Decode packed states.

    Args:
        codes: (n, w) uint8, rings of 8 * w bits.
        first: (d,) int64, the byte in which each axis's state begins.
        shifts: (d,) int64, 0 to 7: how many of that byte's highest bits are not the state's.
        tables: (d, 256) float32.
        values: (n, d) float32, which the decoded values are written to.
        norms: (n,) float32, which their squared norms are written to.
    """
    width = codes.shape[1]
    for row in numba.prange(len(codes)):
        norm = np.float32(0)
        for t in range(len(first)):
            place = first[t]
            following = place + 1 if place + 1 < width else 0
            pair = (np.int64(codes[row, place]) << 8) | codes[row, following]
            value = tables[t, (pair >> (8 - shifts[t])) & 255]
            values[row, t] = value
            norm += value * value
        norms[row] = norm


@numba.njit(parallel=True, cache=True)
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
