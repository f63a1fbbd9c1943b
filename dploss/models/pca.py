"""What people use instead of a trained encoder, at the same size."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from dploss.data.memmap import MappedRows

_CHUNK = 8192
_LONG = 4096


@dataclass(frozen=True)
class PCA:
    """Principal components of some rows: the best linear short form in the squared-error sense.

    Attributes:
        mean: (D,) float32 mean of the rows.
        components: (d, D) float32 orthonormal directions, most variance first; each one's largest entry is positive,
            so that the same rows give the same signs.
        scale: root mean square of a centred coordinate, above 0 (1 where all rows are equal).
    """

    mean: np.ndarray
    components: np.ndarray
    scale: float

    @classmethod
    def fit(cls, rows: np.ndarray | MappedRows, latent_dim: int) -> "PCA":
        """Find the components from the D x D covariance, read in chunks, or, for long rows, from the rows' products.

        Args:
            rows: (N, D) float32, in memory or on the disk. Where D is above 4096, as for images, 4096 rows evenly
                spaced stand for more.
            latent_dim: how many components, 1..D. Beyond the rank of the rows they are directions at random.
        """
        if rows.shape[1] > _LONG:
            chosen = np.linspace(0, len(rows) - 1, min(len(rows), _LONG)).astype(int)
            return cls._fit_long(rows[chosen], latent_dim)
        count, dim = rows.shape
        starts = range(0, count, _CHUNK)
        mean = sum(rows[start : start + _CHUNK].sum(axis=0, dtype=np.float64) for start in starts) / count
        covariance = np.zeros((dim, dim))
        for start in starts:
            centred = (rows[start : start + _CHUNK] - mean).astype(np.float32)
            covariance += centred.T @ centred
        covariance /= count
        _, vectors = scipy.linalg.eigh(covariance, subset_by_index=[dim - latent_dim, dim - 1])
        return cls._made(mean, vectors[:, ::-1].T, np.trace(covariance) / dim)

    @classmethod
    def _fit_long(cls, rows: np.ndarray, latent_dim: int) -> "PCA":
        """Fewer rows than numbers in a row: the N x N products have the same spectrum."""
        count, dim = rows.shape
        mean = rows.mean(axis=0, dtype=np.float64)
        centred = (rows - mean).astype(np.float32)
        products = (centred @ centred.T).astype(np.float64)
        size = min(latent_dim, count - 1)
        values, vectors = scipy.linalg.eigh(products, subset_by_index=[count - size, count - 1])
        real = values[::-1] > 1e-6 * values[-1]
        directions = centred.T @ vectors[:, ::-1][:, real]
        filling = np.random.RandomState(0).normal(size=(dim, latent_dim - directions.shape[1]))
        basis, _ = np.linalg.qr(np.concatenate([directions, filling], axis=1))
        return cls._made(mean, basis.T, np.trace(products) / (count * dim))

    @classmethod
    def _made(cls, mean: np.ndarray, components: np.ndarray, variance: float) -> "PCA":
        largest = np.abs(components).argmax(axis=1)
        signs = np.sign(components[np.arange(len(components)), largest])
        components = np.ascontiguousarray(components * signs[:, None], np.float32)
        return cls(mean.astype(np.float32), components, float(np.sqrt(variance)) or 1.0)

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) rows -> (N, d) float32 projections."""
        return (rows - self.mean) @ self.components.T


@dataclass(frozen=True)
class Truncation:
    """The first numbers of every vector: what embeddings trained for it (Matryoshka) are made for."""

    latent_dim: int

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) rows -> their first d numbers, (N, d)."""
        return rows[:, : self.latent_dim]


@dataclass(frozen=True)
class RandomProjection:
    """Gaussian random directions, which keep distances on average (Johnson & Lindenstrauss 1984).

    Attributes:
        matrix: (d, D) float32; its entries have variance 1 / d.
    """

    matrix: np.ndarray

    @classmethod
    def draw(cls, input_dim: int, latent_dim: int, seed: int) -> "RandomProjection":
        """Draw the directions; the same arguments give the same ones, and they are scikit-learn's too."""
        # RandomState: its stream is frozen by NumPy.
        directions = np.random.RandomState(seed).normal(0, latent_dim**-0.5, (latent_dim, input_dim))
        return cls(directions.astype(np.float32))

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) rows -> (N, d) float32 projections."""
        return rows @ self.matrix.T
