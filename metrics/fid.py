"""Frechet Inception Distance: how far is the distribution of the images from that of the references?"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from metrics.errors import Unavailable
from metrics.inception import Inception
from metrics.metric import Metric


class Moments:
    """Mean and covariance of rows given in batches, in float64 (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(())
        self._scatter = np.zeros(())

    def add(self, rows: np.ndarray) -> None:
        """Take a batch, (n, d)."""
        if not len(rows):
            return
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0)
        centred, shift = rows - mean, mean - self.mean
        total = self.count + len(rows)
        self._scatter = self._scatter + centred.T @ centred
        if self.count:
            self._scatter += np.outer(shift, shift * (self.count * len(rows) / total))
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total

    def covariance(self) -> np.ndarray:
        """The unbiased covariance, (d, d), of at least two rows."""
        return self._scatter / (self.count - 1)


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


class FID(Metric):
    """The Frechet distance of Gaussians fitted to both sets' Inception features (Heusel et al. 2017, arXiv:1706.08500).

    0 for equal sets, unbounded above, lower is better. It is biased upwards, the more so the fewer images there are:
    compare only values from equally many images. Only mean and covariance of the features are kept.

    Args:
        extractor: uint8 (n, 3, height, width) -> features (n, d); by default the shared Inception-v3's, d = 2048.
        inception: The network whose features are used; one is made where neither it nor an extractor is given.
        weights: A file for that network; see `Inception`.
        device: Where that network runs.
    """

    name = "fid"
    higher_is_better = False
    value_range = (0.0, float("inf"))
    needs_references = True

    def __init__(
        self,
        extractor: Callable[[Tensor], Tensor] | None = None,
        inception: Inception | None = None,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self._inception: Inception | None = None
        if extractor is None:
            self._inception = inception or Inception(weights, device)
            extractor = self._inception.features
        self._extractor = extractor
        self.reset()

    def prepare(self) -> None:
        """Load the network; see `Metric.prepare`."""
        if self._inception:
            self._inception.prepare()

    def update(self, generated: Tensor, references: Tensor | None = None, prompts: Sequence[str] | None = None) -> None:
        """Add a batch of generated images; the references go to `add_references`."""
        self._generated.add(self._features(generated))

    def add_references(self, references: Tensor) -> None:
        """Add a batch of the references, uint8 (n, 3, height, width)."""
        self._references.add(self._features(references))

    def _features(self, images: Tensor) -> np.ndarray:
        return self._extractor(images).detach().cpu().double().numpy()

    def compute(self) -> float:
        """The distance of the two sets, of at least two images each."""
        if min(self._generated.count, self._references.count) < 2:
            raise Unavailable("it needs at least two images and two references")
        return frechet_distance(
            self._generated.mean,
            self._generated.covariance(),
            self._references.mean,
            self._references.covariance(),
        )

    def notes(self) -> list[str]:
        """The number of images, and whether it suffices."""
        generated, references = self._generated.count, self._references.count
        note = f"fid: {generated} images and {references} references"
        enough = len(self._generated.mean) + 1
        if min(generated, references) < enough:
            note += f"; with less than {enough} of each it means little: it is too high, and grows as they get fewer"
        return [note]

    def weights(self) -> dict[str, str] | None:
        """The network's file; see `Metric.weights`."""
        return self._inception.weights if self._inception else None

    def reset(self) -> None:
        """Forget the batches."""
        self._generated, self._references = Moments(), Moments()

    def release(self) -> None:
        """Free the network."""
        if self._inception:
            self._inception.release()
