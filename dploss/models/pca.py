"""Baselines of the same latent_dim that need no training: PCA, truncation and random projection."""

from dataclasses import dataclass

import numpy as np

from dploss.data.memmap import MappedRows
from dploss.data.split import evenly_spaced

CHUNK_ROWS = 8192
# With more dimensions, the covariance would be too large: at most as many rows are used, by their Gram matrix.
MOST_DIMENSIONS = 4096


@dataclass(frozen=True)
class PCA:
    """Principal components of some rows: the linear projection of least squared error.

    They are fitted in float64: beside a row 1e5 times as long as the others, products in float32 would lose these.

    Attributes:
        mean: (D,) float32 mean of the rows.
        components: (d, D) float32 orthonormal directions, most variance first; the entry of largest magnitude of each
            is positive, so that the signs are reproducible.
        scale: standard deviation over all centred coordinates, above 0 (1 where all rows are equal).
        held: (d,) float64 share of the rows' variance along each component, 0..1.
    """

    mean: np.ndarray
    components: np.ndarray
    scale: float
    held: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray | MappedRows, latent_dim: int) -> "PCA":
        """Fit to rows by their D x D covariance, or, where D is large, by the Gram matrix of fewer rows.

        Args:
            rows: (N, D) float32, in memory or on the disk. Where D is above 4096, as for images, at most 4096 rows are
                used, evenly spaced.
            latent_dim: number of components, 1..D. Beyond the rank of the rows they are arbitrary directions.
        """
        if rows.shape[1] > MOST_DIMENSIONS:
            return cls._fit_gram(rows[evenly_spaced(len(rows), MOST_DIMENSIONS)], latent_dim)
        return cls._fit_covariance(rows, latent_dim)

    @classmethod
    def _fit_covariance(cls, rows: np.ndarray | MappedRows, latent_dim: int) -> "PCA":
        """Fit by the covariance, D x D, reading the rows in chunks."""
        count, dim = rows.shape
        starts = range(0, count, CHUNK_ROWS)
        mean = sum(rows[start : start + CHUNK_ROWS].sum(axis=0, dtype=np.float64) for start in starts) / count
        covariance = np.zeros((dim, dim))
        for start in starts:
            centred = rows[start : start + CHUNK_ROWS] - mean
            covariance += centred.T @ centred
        return cls.of_covariance(covariance / count, latent_dim, mean)

    @classmethod
    def of_covariance(cls, covariance: np.ndarray, latent_dim: int, mean: np.ndarray | None = None) -> "PCA":
        """From the (D, D) float64 covariance of rows, and their (D,) mean; None: 0."""
        values, directions = _eigenvectors(covariance, latent_dim)
        dim = len(covariance)
        mean = np.zeros(dim) if mean is None else mean
        return cls._from_directions(mean, directions.T, values, np.trace(covariance), dim)

    @classmethod
    def _fit_gram(cls, rows: np.ndarray, latent_dim: int) -> "PCA":
        """Fit by the Gram matrix of the centred rows, N x N, which has the same nonzero spectrum as the covariance."""
        count, dim = rows.shape
        mean = rows.mean(axis=0, dtype=np.float64)
        centred = rows - mean
        gram = centred @ centred.T
        rank = min(latent_dim, max(count - 1, 1))
        values, vectors = _eigenvectors(gram, rank)
        values, vectors = values[values > 1e-12 * values[0]], vectors[:, values > 1e-12 * values[0]]
        directions = centred.T @ vectors
        arbitrary = np.random.RandomState(0).normal(size=(dim, latent_dim - directions.shape[1]))
        basis, _ = np.linalg.qr(np.concatenate([directions, arbitrary], axis=1))
        values = np.concatenate([values, np.zeros(arbitrary.shape[1])])
        return cls._from_directions(mean, basis.T, values, np.trace(gram), count * dim)

    @classmethod
    def _from_directions(
        cls, mean: np.ndarray, components: np.ndarray, squares: np.ndarray, total: float, coordinates: int
    ) -> "PCA":
        """From directions, the sums of squares along each and in total, and the number of centred coordinates."""
        largest = np.abs(components).argmax(axis=1)
        signs = np.sign(components[np.arange(len(components)), largest])
        components = np.ascontiguousarray(components * signs[:, None], np.float32)
        held = squares.clip(min=0) / total if total > 0 else np.zeros(len(squares))
        return cls(mean.astype(np.float32), components, float(np.sqrt(total / coordinates)) or 1.0, held)

    def lost(self, dim: int) -> float:
        """Share of the rows' variance that the first `dim` components do not hold, 0..1."""
        return max(0.0, 1 - float(self.held[:dim].sum()))

    def encode(self, rows: np.ndarray, dim: int | None = None) -> np.ndarray:
        """(N, D) rows -> (N, dim) float32 projections on the first `dim` components, on all d if None."""
        return (rows - self.mean) @ self.components[:dim].T

    def encode_renormalised(self, rows: np.ndarray, dim: int | None = None) -> np.ndarray:
        """The projections, each row with its norm restored: as far from 0 as the row is from the mean.

        Of rows of norm 1 it is what people store: projected, and divided by their norm.
        """
        return restore_norm(self.encode(rows, dim), rows - self.mean)


def _eigenvectors(matrix: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues of a symmetric matrix, descending, and their eigenvectors as columns."""
    # Imported here: encoders are loaded and used without it.
    import scipy.linalg

    size = len(matrix)
    values, vectors = scipy.linalg.eigh(matrix, subset_by_index=[size - count, size - 1])
    return values[::-1], vectors[:, ::-1]


def restore_norm(latents: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Scale each of (N, d) latents to the norm of its row, of (N, D); latents of norm 0 stay 0."""
    # In float64: squares of small numbers are 0 in float32.
    wanted, norms = (np.linalg.norm(one.astype(np.float64), axis=1, keepdims=True) for one in (rows, latents))
    ratios = np.divide(wanted, norms, out=np.zeros_like(wanted), where=norms > 0)
    return (latents * ratios).astype(latents.dtype)


@dataclass(frozen=True)
class Truncation:
    """The first dimensions of every vector, norm restored; Matryoshka embeddings are trained for it."""

    latent_dim: int

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) rows -> their first d dimensions, each with its row's norm, (N, d)."""
        return restore_norm(rows[:, : self.latent_dim], rows)


@dataclass(frozen=True)
class RandomProjection:
    """Gaussian random projection, which keeps distances on average (Johnson & Lindenstrauss 1984).

    Attributes:
        components: (d, D) float32; its entries have variance 1 / d.
    """

    components: np.ndarray

    @classmethod
    def draw(cls, input_dim: int, latent_dim: int, seed: int) -> "RandomProjection":
        """Draw the matrix by scikit-learn's GaussianRandomProjection; the same arguments give the same one."""
        # Imported here: scikit-learn takes a second to import.
        from sklearn.random_projection import GaussianRandomProjection

        projection = GaussianRandomProjection(latent_dim, random_state=seed)
        return cls(projection.fit(np.zeros((1, input_dim), np.float32)).components_)

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) rows -> (N, d) float32 projections."""
        return rows @ self.components.T
