"""Compiled loops of the trellis code: the search for the best path.

A code of n bits is read as a ring. Dimension t adds b_t of its bits; its state is the byte that ends with them, so each
state shares 8 - b_t bits with the one before it, and the first with the last (a tail-biting trellis).
"""

import numba
import numpy as np

from dploss.files.kernel_cache import kernel

STATES = 256
# Rows that are searched together, one in each lane of the processor's vectors. Always as many: a row's code does not
# depend on the rows beside it, nor on the number of threads.
LANES = 64


@kernel(error_model="numpy")
def _step(cost, following, back, values, table, bits, weight, least, choice):  # noqa: ANN001, ANN202
    """Extend the cheapest paths by a dimension: (STATES, LANES) costs of paths by their state, before and after."""
    lanes = values.shape[0]
    n_choices, n_groups = 1 << bits, STATES >> bits
    for group in range(n_groups):
        for lane in range(lanes):
            least[lane] = cost[group, lane]
            choice[lane] = 0
        # The states that can precede differ in their highest bits alone, which this step drops.
        for high in range(1, n_choices):
            other = cost[high * n_groups + group]
            for lane in range(lanes):
                choice[lane] = high if other[lane] < least[lane] else choice[lane]
                least[lane] = min(other[lane], least[lane])
        kept = back[group]
        for lane in range(lanes):
            kept[lane] = choice[lane]
        for low in range(n_choices):
            state = (group << bits) | low
            value, after = table[state], following[state]
            for lane in range(lanes):
                error = values[lane] - value
                after[lane] = least[lane] + weight * error * error


@kernel(error_model="numpy")
def _path_back(state, first, last, dims, bits, back, lane, path):  # noqa: ANN001, ANN202
    """Follow the cheapest path from the state after step `last` - 1 back to before `first`; its state there."""
    for step in range(last - 1, first - 1, -1):
        path[step, lane] = state
        group = state >> bits[dims[step]]
        state = np.int64(back[step, group, lane]) * (STATES >> bits[dims[step]]) + group
    return state


@kernel(error_model="numpy")
def _search(values, tables, bits, weights, seam, ring, cost, following, back, least, choice, path):  # noqa: ANN001, ANN202
    """The states of the cheapest ring for (d, LANES) values, into (d, LANES) `path`.

    Two passes (as QTIP's tail-biting approximation): the first, with any state at its ends, runs over the seam of the
    ring and tells the state there; the second runs around the ring from that state to itself.
    """
    dims, lanes = values.shape
    cost[:] = 0
    for step in range(2 * seam):
        t = ring[dims - seam + step]
        _step(cost, following, back[step], values[t], tables[t], bits[t], weights[t], least, choice)
        cost, following = following, cost
    around = ring[dims - seam :]
    for lane in range(lanes):
        at_seam = _path_back(np.argmin(cost[:, lane]), seam, 2 * seam, around, bits, back, lane, path)
        choice[lane] = at_seam
    ends = choice.copy()
    for state in range(STATES):
        for lane in range(lanes):
            cost[state, lane] = 0.0 if state == ends[lane] else np.inf
    for t in range(dims):
        _step(cost, following, back[t], values[t], tables[t], bits[t], weights[t], least, choice)
        cost, following = following, cost
    for lane in range(lanes):
        _path_back(np.int64(ends[lane]), 0, dims, ring, bits, back, lane, path)


@kernel(parallel=True, error_model="numpy")
def encode_paths(values, tables, bits, weights, seam, threads):  # noqa: ANN001, ANN201
    """The states of the cheapest path of each row: least sum of weight * (value - table[state])^2.

    Args:
        values: (n, d) float32.
        tables: (d, STATES) float32, the value of each state, by dimension.
        bits: (d,) int64, 1 to 8.
        weights: (d,) float32, above 0.
        seam: dimensions on either side of the ring's seam that the first pass runs over, 1 to d.
        threads: to run in; a constant in here could not be cached.

    Returns:
        (n, d) uint8.
    """
    n, dims = values.shape
    states = np.empty((n, dims), np.uint8)
    ring = np.arange(2 * dims) % dims
    blocks = (n + LANES - 1) // LANES
    for thread in numba.prange(threads):
        cost = np.empty((STATES, LANES), np.float32)
        following = np.empty((STATES, LANES), np.float32)
        back = np.empty((max(dims, 2 * seam), STATES // 2, LANES), np.uint8)
        least, choice = np.empty(LANES, np.float32), np.empty(LANES, np.int32)
        path = np.empty((max(dims, 2 * seam), LANES), np.uint8)
        block_values = np.zeros((dims, LANES), np.float32)
        for block in range(thread, blocks, threads):
            start = block * LANES
            size = min(LANES, n - start)
            block_values[:, :size] = values[start : start + size].T
            _search(block_values, tables, bits, weights, seam, ring, cost, following, back, least, choice, path)
            states[start : start + size] = path[:dims, :size].T
    return states
