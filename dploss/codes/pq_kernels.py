"""Compiled loop of the product quantiser: the nearest centroid in every sub-space."""

import numba
import numpy as np

from dploss.files.kernel_cache import kernel

CENTROIDS = 256
# Rows that are compared together, one in each lane of the processor's vectors.
_LANES = 64


@kernel(parallel=True, error_model="numpy")
def nearest_centroids(values, starts, centroids):  # noqa: ANN001, ANN201
    """The nearest centroid of each row in each sub-space; the first of equal ones.

    Args:
        values: (n, p) float32.
        starts: (g + 1,) int64, the coordinates of sub-space i are starts[i] to starts[i + 1].
        centroids: (p, CENTROIDS) float32.

    Returns:
        (n, g) uint8.
    """
    n, n_groups = len(values), len(starts) - 1
    nearest = np.empty((n, n_groups), np.uint8)
    for block in numba.prange((n + _LANES - 1) // _LANES):
        start = block * _LANES
        size = min(_LANES, n - start)
        rows = np.zeros((values.shape[1], _LANES), np.float32)
        rows[:, :size] = values[start : start + size].T
        errors, least = np.empty(_LANES, np.float32), np.empty(_LANES, np.float32)
        choice = np.empty(_LANES, np.int32)
        for group in range(n_groups):
            least[:] = np.inf
            choice[:] = 0
            for number in range(CENTROIDS):
                errors[:] = 0
                for t in range(starts[group], starts[group + 1]):
                    row, centroid = rows[t], centroids[t, number]
                    for lane in range(_LANES):
                        error = row[lane] - centroid
                        errors[lane] += error * error
                for lane in range(_LANES):
                    choice[lane] = number if errors[lane] < least[lane] else choice[lane]
                    least[lane] = min(errors[lane], least[lane])
            for lane in range(size):
                nearest[start + lane, group] = choice[lane]
    return nearest
