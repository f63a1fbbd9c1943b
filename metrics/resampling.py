"""How far would a value move with other images? The jackknife, from a sample of bounded size."""

from collections.abc import Callable

import numpy as np

GROUPS = 20
# A jackknife recomputes a value for every group; of more images it uses a sample of this many.
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


def jackknife(statistic: Callable[[np.ndarray], float], count: int, of: int | None = None) -> np.ndarray:
    """A statistic of `count` images without each of several groups of them, (G,): what standard errors follow from.

    There are 20 random groups of equal size up to one image, or as many as images; the same for the same count, so that
    the values of two evaluations of the same prompts belong to each other.

    Args:
        statistic: Indices of the images that are kept, sorted -> the value.
        count: The number of images, at least 2.
        of: Of how many images these are a sample; the values then lie as close together as those of all would.
    """
    groups = min(count, GROUPS)
    group_of = np.random.default_rng(0).permutation(count) % groups
    values = np.array([statistic(np.flatnonzero(group_of != group)) for group in range(groups)])
    return values.mean() + (values - values.mean()) * (count / (of or count)) ** 0.5


def jackknife_error(values: np.ndarray) -> float:
    """The standard error that `jackknife`'s values say: sqrt((G - 1) / G * sum of (value - mean)^2) (Kott 2001).

    With as many groups as images it is that of Tukey (1958). Of the differences of two evaluations' values it is that
    of the difference, in which what both share cancels.
    """
    return float(np.sqrt((len(values) - 1) * np.var(values)))
