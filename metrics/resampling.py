"""How far would a value move with other images? Standard errors by the jackknife, from a sample of bounded size."""

from collections.abc import Callable

import numpy as np

GROUPS = 20
# A jackknife recomputes a value for every group; beyond so many images it uses a sample of them.
MOST_IMAGES = 500


class Reservoir:
    """A uniform sample of rows that come in batches, of bounded size (Vitter 1985, algorithm R); the seed is fixed.

    Args:
        limit: The most rows; up to that all are kept, in their order.
    """

    def __init__(self, limit: int) -> None:
        self.count, self._limit = 0, limit
        self._rows: list[np.ndarray] = []
        self._random = np.random.default_rng(0)

    def add(self, rows: np.ndarray) -> None:
        """Take a batch, (n, d)."""
        for row in rows:
            self.count += 1
            if len(self._rows) < self._limit:
                self._rows.append(row.copy())
            elif (place := self._random.integers(self.count)) < self._limit:
                self._rows[place] = row.copy()

    @property
    def rows(self) -> np.ndarray:
        """The sample in float64, (at most `limit`, d)."""
        return np.array(self._rows, np.float64)


def few_of(rows: np.ndarray) -> np.ndarray:
    """The rows to jackknife: all, or a random sample of `MOST_IMAGES`."""
    if len(rows) <= MOST_IMAGES:
        return rows
    return rows[np.random.default_rng(0).choice(len(rows), MOST_IMAGES, replace=False)]


def jackknife(statistic: Callable[[np.ndarray], float], count: int) -> float:
    """The standard error of a statistic of `count` images, by deleting groups of them (Kott 2001).

    sqrt((G - 1) / G * sum over the groups of (value without the group - mean of these values)^2), for G random groups
    of equal size up to one image. With as many groups as images it is the jackknife of Tukey (1958).

    Args:
        statistic: Indices of the images that are kept, sorted -> the value.
        count: The number of images, at least 2.
    """
    groups = min(count, GROUPS)
    group_of = np.random.default_rng(0).permutation(count) % groups
    values = np.array([statistic(np.flatnonzero(group_of != group)) for group in range(groups)])
    return float(np.sqrt((groups - 1) * values.var()))
