"""Precision, recall, density, coverage: do the images lie among the references, and the references among them?"""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch

from metrics.features import SetMetric

# Distances by a matrix product are equal up to rounding only; the farthest neighbour lies on its ball.
_ROUNDING = 1 + 1e-7


class ManifoldMetric(SetMetric):
    """A share of images within balls around features; the radius of a ball is the distance to the k-th neighbour.

    Attributes:
        neighbours: k.
        of_references: Whether the balls are around the references, or around the generated images.
    """

    higher_is_better = True
    value_range = (0.0, 1.0)
    # Among few images the balls are wide, and the shares steps of one image.
    floor = 1000
    neighbours: ClassVar[int]
    of_references: ClassVar[bool] = True

    @abstractmethod
    def share(self, inside: np.ndarray) -> float:
        """The value, from whether image i and reference j are within the ball that one of them has: bool (n, m)."""

    def value(self) -> float:
        """The value of the two sets."""
        images = self.features.generated.rows()
        return self.statistic(images, self.features.references.rows())(np.arange(len(images)))

    def statistic(self, generated: np.ndarray, references: np.ndarray) -> Callable[[np.ndarray], float]:
        """See `SetMetric.statistic`."""
        across = distances(generated, references)
        if self.of_references:
            inside = across <= radii(distances(references, references), self.neighbours) * _ROUNDING
            return lambda kept: self.share(inside[kept])
        own = distances(generated, generated)

        def without(kept: np.ndarray) -> float:
            reach = radii(own[np.ix_(kept, kept)], self.neighbours) * _ROUNDING
            return self.share(across[kept] <= reach[:, None])

        return without


class ImagePrecision(ManifoldMetric):
    """The share of images within the ball of a reference, k = 3 (Kynkäänniemi et al. 2019, arXiv:1904.06991).

    "Improved precision": are the images realistic? 0..1. The formula is torch-fidelity's and the authors', who take the
    features of a VGG-16; here they are Inception's.

    Raises:
        Unavailable: of less than 4 references; by `compute`.
    """

    name = "image_precision"
    neighbours = 3
    fewest = (1, 4)

    def share(self, inside: np.ndarray) -> float:
        """See `ManifoldMetric.share`."""
        return float(inside.any(axis=1).mean())


class ImageRecall(ManifoldMetric):
    """The share of references within the ball of an image, k = 3 (Kynkäänniemi et al. 2019, arXiv:1904.06991).

    "Improved recall": are the images as varied as the references? 0..1; see `ImagePrecision`. Its key is not "recall",
    which elsewhere is that of nearest neighbours.

    Raises:
        Unavailable: of less than 4 images; by `compute`.
    """

    name = "image_recall"
    neighbours = 3
    of_references = False
    fewest = (4, 1)

    def share(self, inside: np.ndarray) -> float:
        """See `ManifoldMetric.share`."""
        return float(inside.any(axis=0).mean())


class Density(ManifoldMetric):
    """In how many balls of references an image lies, on average, divided by k = 5 (Naeem et al. 2020).

    arXiv:2002.09797. A precision that outliers among the references hardly raise. From 0, around 1 for sets of one
    distribution, and above it where the images crowd where references are dense.

    Raises:
        Unavailable: of less than 6 references; by `compute`.
    """

    name = "density"
    value_range = (0.0, float("inf"))
    neighbours = 5
    fewest = (1, 6)

    def share(self, inside: np.ndarray) -> float:
        """See `ManifoldMetric.share`."""
        return float(inside.sum(axis=1).mean() / self.neighbours)


class Coverage(ManifoldMetric):
    """The share of references with an image in their ball, k = 5 (Naeem et al. 2020, arXiv:2002.09797).

    A recall whose balls are the references', so that outliers among the images do not raise it. 0..1.

    Raises:
        Unavailable: of less than 6 references; by `compute`.
    """

    name = "coverage"
    neighbours = 5
    fewest = (1, 6)

    def share(self, inside: np.ndarray) -> float:
        """See `ManifoldMetric.share`."""
        return float(inside.any(axis=0).mean())


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances, float64 (n, d) and (m, d) -> (n, m)."""
    return torch.cdist(torch.from_numpy(first), torch.from_numpy(second)).numpy()


def radii(own: np.ndarray, neighbours: int) -> np.ndarray:
    """The distance of each row to its k-th nearest other row, from the distances (n, n): (n,)."""
    others = own.copy()
    np.fill_diagonal(others, np.inf)
    return np.partition(others, neighbours - 1, axis=1)[:, neighbours - 1]
