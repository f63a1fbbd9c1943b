"""MIND: how far apart are two sets of features, seen from many directions?"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from metrics.features import SetMetric

DIRECTIONS = 1000


class MIND(SetMetric):
    """Monge Inception Distance: 3 d times the squared sliced 2-Wasserstein distance of Inception features.

    Berthet et al. 2026, arXiv:2605.06797. The features, (n, d), are projected on 1,000 random directions; the squared
    2-Wasserstein distance of two projections is the mean squared difference of their sorted values, and the value is
    3 d times its mean over the directions, in the order of magnitude of an FID. The seed of the directions is fixed.
    Where there are more references than images or fewer, the quantile functions are compared, which is the exact
    distance too; torch-fidelity drops the surplus at random instead.

    0 for equal sets, unbounded above, lower is better. It is biased upwards, the more so the fewer images there are:
    compare only values of equally many. The authors find 1,000 images informative.

    Raises:
        Unavailable: without images or references; by `compute`.
    """

    name = "mind"
    higher_is_better = False
    value_range = (0.0, float("inf"))
    fewest = (1, 1)
    floor = 1000

    def value(self) -> float:
        """The distance of the two sets."""
        return self._distance(*(rows.rows() for rows in (self.features.generated, self.features.references)))

    def statistic(self, generated: np.ndarray, references: np.ndarray) -> Callable[[np.ndarray], float]:
        """See `SetMetric.statistic`."""
        directions = _directions(generated.shape[1])
        images, others = generated @ directions, np.sort(references @ directions, axis=0)
        scale = 3 * generated.shape[1]
        return lambda kept: scale * _squared_distances(np.sort(images[kept], axis=0), others).mean()

    def _distance(self, generated: np.ndarray, references: np.ndarray) -> float:
        return float(self.statistic(generated, references)(np.arange(len(generated))))


@lru_cache(maxsize=2)
def _directions(dim: int) -> np.ndarray:
    """Random unit vectors, (dim, DIRECTIONS)."""
    directions = np.random.default_rng(0).standard_normal((dim, DIRECTIONS))
    return directions / np.linalg.norm(directions, axis=0)


def _squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The squared 2-Wasserstein distance of each column's values, sorted: (n, c) and (m, c) -> (c,)."""
    n, m = len(first), len(second)
    # Both quantile functions are constant between these levels, in units of 1 / (n m).
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    shares, start = np.diff(levels) / (n * m), levels[:-1]
    return shares @ np.square(first[start // m] - second[start // n])
