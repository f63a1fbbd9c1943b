"""Sides: what recall needs of an encoder: latents of rows, latents of queries, and how these are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dploss.models.pca import PCA


class Sides(Protocol):
    """Encodes rows and queries; every `Encoder` does."""

    @property
    def latent_metric(self) -> str:
        """How latents are compared: "euclidean", the least distance is nearest, or "ip", the largest inner product."""

    def encode(self, array: np.ndarray, *, dim: int | None = None) -> np.ndarray:
        """(N, D) rows -> (N, dim) latents."""

    def encode_queries(self, array: np.ndarray, *, dim: int | None = None) -> np.ndarray:
        """(N, D) queries -> (N, dim) latents."""


@dataclass(frozen=True)
class OneSide:
    """Queries that are encoded as rows are.

    Attributes:
        latents: (N, D) vectors, and dimensions or None for all -> (N, dim) latents.
    """

    latents: Callable[[np.ndarray, int | None], np.ndarray]
    latent_metric: str = "euclidean"

    @classmethod
    def of(cls, latents: Callable[[np.ndarray], np.ndarray]) -> "OneSide":
        """Of latents of one size alone."""
        return cls(lambda rows, _: latents(rows))

    def encode(self, array: np.ndarray, *, dim: int | None = None) -> np.ndarray:
        """See `Sides.encode`."""
        return self.latents(array, dim)

    def encode_queries(self, array: np.ndarray, *, dim: int | None = None) -> np.ndarray:
        """See `Sides.encode_queries`."""
        return self.latents(array, dim)


@dataclass(frozen=True)
class InnerProducts:
    """PCA of what inner products compare: rows are centred, which changes no ranking, and queries are not.

    Attributes:
        pca: of the training rows.
        rows: (N, D) rows, and dimensions or None for all -> (N, dim) latents: one of its encodings.
    """

    pca: PCA
    rows: Callable[[np.ndarray, int | None], np.ndarray]
    latent_metric: str = "ip"

    def encode(self, array: np.ndarray, *, dim: int | None = None) -> np.ndarray:
        """See `Sides.encode`."""
        return self.rows(array, dim)

    def encode_queries(self, array: np.ndarray, *, dim: int | None = None) -> np.ndarray:
        """See `Sides.encode_queries`."""
        return array @ self.pca.components[:dim].T


def pca_sides(pca: PCA, metric: str, renormalised: bool) -> Sides:
    """PCA as people use it for a metric.

    Args:
        pca: of the training rows.
        metric: "euclidean", "cosine" or "ip".
        renormalised: restore the norm of every row.
    """
    latents = pca.encode_renormalised if renormalised else pca.encode
    return InnerProducts(pca, latents) if metric == "ip" else OneSide(latents)
