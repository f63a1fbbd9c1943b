"""Frechet Inception Distance: how far is the distribution of the images from that of the references?"""

from collections.abc import Callable

import numpy as np
import scipy.linalg

from metrics.features import SetMetric


def frechet_distance(
    mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray
) -> float:
    """The squared Frechet (2-Wasserstein) distance of two Gaussians (Dowson & Landau 1982), never below 0.

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)). With C = F F^T the last trace is the sum of the singular values
    of F1^T F2. Unlike the eigenvalues of C1 C2, these lose no digits to square roots near 0 where a covariance is
    singular: equal Gaussians have distance 0 up to rounding.

    Args:
        mean: (d,).
        covariance: (d, d), symmetric positive semidefinite.
        other_mean: (d,).
        other_covariance: Like `covariance`.
    """
    overlap = scipy.linalg.svdvals(_factor(covariance).T @ _factor(other_covariance)).sum()
    apart = np.square(mean - other_mean).sum()
    return max(0.0, float(apart + np.trace(covariance) + np.trace(other_covariance) - 2 * overlap))


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F with F F^T = covariance, (d, rank): pivoted Cholesky, which stops where no variance is left."""
    triangle, pivots, rank, _ = scipy.linalg.lapack.dpstrf(covariance, lower=1)
    # A constant set has rank 0, and the product with an empty factor no singular values.
    factor = np.empty((len(covariance), max(rank, 1)))
    factor[pivots - 1] = np.tril(triangle)[:, : max(rank, 1)]
    return factor


class FID(SetMetric):
    """The Frechet distance of Gaussians fitted to both sets' Inception features (Heusel et al. 2017, arXiv:1706.08500).

    0 for equal sets, unbounded above, lower is better. It is biased upwards, the more so the fewer images there are:
    compare only values from equally many images. Of all images, mean and covariance of the features are used.

    Raises:
        Unavailable: of less than two images or references; by `compute`.
    """

    name = "fid"
    higher_is_better = False
    value_range = (0.0, float("inf"))
    _features_of_default = 2048

    @property
    def floor(self) -> int:
        """One more than there are features: the covariance of fewer images has directions without variance."""
        generated = self.features.generated
        return (generated.moments.mean.size if generated.count else self._features_of_default) + 1

    def value(self) -> float:
        """The distance of the two sets."""
        generated, references = self.features.generated.moments, self.features.references.moments
        return frechet_distance(generated.mean, generated.covariance(), references.mean, references.covariance())

    def statistic(self, generated: np.ndarray, references: np.ndarray) -> Callable[[np.ndarray], float]:
        """See `SetMetric.statistic`; without the variance of the references, which is the same for all images.

        With X the centred features of the n images, the last term of `frechet_distance` is the sum of the square roots
        of the eigenvalues of X C2 X^T / (n - 1): n x n, however many features there are.
        """
        mean = references.mean(axis=0)
        across = generated @ (references - mean).T / np.sqrt(len(references) - 1)
        gram = across @ across.T

        def without(kept: np.ndarray) -> float:
            rows, block = generated[kept], gram[np.ix_(kept, kept)]
            block = block - block.mean(axis=0) - block.mean(axis=1, keepdims=True) + block.mean()
            eigenvalues = np.linalg.eigvalsh(block / (len(kept) - 1)).clip(min=0)
            apart = np.square(rows.mean(axis=0) - mean).sum()
            return float(apart + rows.var(axis=0, ddof=1).sum() - 2 * np.sqrt(eigenvalues).sum())

        return without

    def notes(self) -> list[str]:
        """The number of images, and whether it suffices."""
        generated, references = self.features.generated, self.features.references
        note = f"{self.name}: {generated.count} images and {references.count} references"
        if min(generated.count, references.count) < self.floor:
            note += (
                f"; with less than {self.floor} of each it means little: it is too high, and grows as they get fewer"
            )
        return [note]
