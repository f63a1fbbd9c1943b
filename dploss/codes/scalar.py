"""The scalar code: Lloyd-Max cells along the principal axes, bits by use, the norm restored.

Max, Quantizing for minimum distortion, 1960; Lloyd, Least squares quantization in PCM, 1982; bits by the variance of
each axis: Huang & Schultheiss, Block quantization of correlated Gaussian random variables, 1963.
"""

from functools import cache
from typing import ClassVar

import numpy as np
from scipy.special import ndtr, ndtri

from dploss.codes.transform_code import TransformCode

_NEWTON_STEPS = 20


def lloyd_max(bits: int) -> tuple[np.ndarray, float]:
    """The 2^bits cells with the least squared error for a unit Gaussian.

    Newton's method on: each level is the mean of its cell, whose borders are halfway between levels. It starts at the
    quantiles of a Gaussian of variance 3, the levels of many cells (Panter & Dite 1951).

    Returns:
        (2^bits,) float64 rising levels, and their mean squared error.
    """
    n = 2**bits
    levels = np.sqrt(3) * ndtri((np.arange(n) + 0.5) / n)
    for _ in range(_NEWTON_STEPS):
        borders = (levels[1:] + levels[:-1]) / 2
        densities = np.exp(-(borders**2) / 2) / np.sqrt(2 * np.pi)
        shares = np.diff(ndtr(borders), prepend=0, append=1)
        means = -np.diff(densities, prepend=0, append=0) / shares
        # Half of what a cell's mean moves by when its lower, and its upper border moves.
        lower = densities * (means[1:] - borders) / shares[1:] / 2
        upper = densities * (borders - means[:-1]) / shares[:-1] / 2
        diagonal = 1 - np.append(upper, 0) - np.append(0, lower)
        levels = levels - np.linalg.solve(np.diag(diagonal) - np.diag(upper, 1) - np.diag(lower, -1), levels - means)
    return levels, float(1 - shares @ levels**2)


@cache
def lloyd_max_tables() -> tuple[np.ndarray, np.ndarray]:
    """See `TransformCode.unit_tables`: the cells of an axis, whatever the bits of the axes before it."""
    found = [lloyd_max(bits) for bits in range(1, 9)]
    tables = np.stack([np.tile(levels, 256 // len(levels)) for levels, _ in found]).astype(np.float32)
    return tables, np.array([1.0] + [error for _, error in found])


class ScalarCode(TransformCode):
    """Each axis by itself: the number of the cell that its coordinate is in."""

    name: ClassVar[str] = "scalar"
    unit_tables = staticmethod(lloyd_max_tables)

    def _states(self, values: np.ndarray) -> np.ndarray:
        # Imported late: numba takes a second to import.
        from dploss.codes.transform_kernels import nearest_cells

        thresholds = (self._axis_tables[:, 1:] + self._axis_tables[:, :-1]) / 2
        return nearest_cells(values, thresholds, self.bits.astype(np.int64))
