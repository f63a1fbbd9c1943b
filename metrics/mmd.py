"""Maximum mean discrepancy of two sets of features, the base of KID and CMMD (Gretton et al. 2012)."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from metrics.features import SetMetric

_BLOCK = 1000


class MMD(SetMetric):
    """scale * (mean of k(x, x') + mean of k(y, y') - 2 mean of k(x, y)), for images x and references y.

    Unbiased, the first two means leave out the pairs of an image with itself.
    """

    unbiased: ClassVar[bool]
    scale: ClassVar[float] = 1.0

    @abstractmethod
    def kernel(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The kernel of every pair: float64 (n, d) and (m, d) -> (n, m)."""

    def embedded(self, rows: np.ndarray) -> np.ndarray:
        """The features as the kernel takes them."""
        return rows

    def value(self) -> float:
        """The discrepancy of the two sets."""
        images, references = (
            self.embedded(rows.rows()) for rows in (self.features.generated, self.features.references)
        )
        within = self._mean_within(images) + self._mean_within(references)
        return self.scale * (within - 2 * float(self._row_means(images, references).mean()))

    def statistic(self, generated: np.ndarray, references: np.ndarray) -> Callable[[np.ndarray], float]:
        """See `SetMetric.statistic`; without the references' own term, which is the same for all images."""
        images = self.embedded(generated)
        own, across = self.kernel(images, images), self._row_means(images, self.embedded(references))

        def without(kept: np.ndarray) -> float:
            block, pairs = own[np.ix_(kept, kept)], len(kept) ** 2
            total = block.sum()
            if self.unbiased:
                total, pairs = total - np.trace(block), pairs - len(kept)
            return self.scale * float(total / pairs - 2 * across[kept].mean())

        return without

    def _row_means(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The mean of k(x, y) over all y, for every x: (n,)."""
        blocks = range(0, len(first), _BLOCK)
        return np.concatenate([self.kernel(first[start : start + _BLOCK], second).mean(axis=1) for start in blocks])

    def _mean_within(self, rows: np.ndarray) -> float:
        count, mean = len(rows), float(self._row_means(rows, rows).mean())
        if not self.unbiased:
            return mean
        blocks = range(0, count, _BLOCK)
        diagonal = sum(np.trace(self.kernel(part, part)) for part in (rows[at : at + _BLOCK] for at in blocks))
        return float((mean * count**2 - diagonal) / (count * (count - 1)))
