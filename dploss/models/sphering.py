"""The closed form that knows both sides: two linear maps from the second moments of queries and rows.

Rows and queries are written so that an inner product ranks the rows: of the Euclidean distance by one more dimension,
|q - x|^2 = |q|^2 - 2 (<q, x> - |x|^2 / 2). With S the second moment of these queries, W = S^(1/2), and P the principal
components of the rows times W, a row x becomes P W x and a query q becomes P W^-1 q. Among all linear maps to as many
dimensions, their inner products are nearest to those of x and q in the mean square over the queries.

Source: LeanVec-Sphering, Tepper et al., arXiv:2410.22347, section 3, of the problem that LeanVec (arXiv:2312.16335)
states. There rows and queries are given as they are; here rows are centred, which changes no ranking, the Euclidean
distance has its dimension, and S is shrunk towards the second moment that rows would have as queries, the more, the
fewer queries there are for their dimensions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dploss.data.memmap import MappedRows
from dploss.models.pca import CHUNK_ROWS, PCA

# Of the largest eigenvalue of S: directions that no query has are kept in float32's range.
_LEAST = 1e-6


@dataclass(frozen=True)
class Sphering:
    """Rows and queries written for inner products, with the queries sphered: E[q q^T] is the identity.

    D' is D + 1 for the Euclidean distance, else D.

    Attributes:
        mean: (D,) float32 mean of the rows, which they are centred about; of queries, for the Euclidean distance alone.
        scale: standard deviation over all centred coordinates of the rows, the unit of rows and queries, above 0.
        half_norm: mean of |x|^2 / 2 of the rows, centred and in that unit.
        rows: (D', D') float32 symmetric, W in a unit in which sphered rows have coordinates near 1.
        queries: (D', D') float32 symmetric, its inverse.
        pca: of the sphered rows; their mean is 0, and their scale 1.
    """

    mean: np.ndarray
    scale: float
    half_norm: float
    rows: np.ndarray
    queries: np.ndarray
    pca: PCA

    @classmethod
    def fit(
        cls,
        rows: np.ndarray | MappedRows,
        queries: np.ndarray | MappedRows,
        metric: str,
        latent_dim: int,
    ) -> "Sphering":
        """Sphere queries wholly; see `of_powers`."""
        return cls.of_powers(rows, queries, metric, latent_dim, (1.0,))[0]

    @classmethod
    def of_powers(
        cls,
        rows: np.ndarray | MappedRows,
        queries: np.ndarray | MappedRows,
        metric: str,
        latent_dim: int,
        powers: Sequence[float],
    ) -> list["Sphering"]:
        """Fit to training rows and training queries, in float64.

        Args:
            rows: (N, D) float32, in memory or on the disk; under cosine normalised.
            queries: (Q, D), as rows.
            metric: "euclidean", "cosine" or "ip".
            latent_dim: number of components, 1..D.
            powers: how far queries are sphered, 0 to 1 each: W is S^(power / 2).
        """
        mean = sum(chunk.sum(axis=0) for chunk in _chunks(rows)) / len(rows)
        squares = sum(float(np.square(chunk - mean).sum()) for chunk in _chunks(rows))
        scale = (squares / (len(rows) * len(mean))) ** 0.5 or 1.0
        half_norm, is_euclidean = squares / scale**2 / (2 * len(rows)), metric == "euclidean"

        def written(chunk: np.ndarray) -> np.ndarray:
            centred = (chunk - mean) / scale
            return lifted(centred, half_norm) if is_euclidean else centred

        def asking(chunk: np.ndarray) -> np.ndarray:
            return lowered((chunk - mean) / scale) if is_euclidean else chunk / scale

        covariance = _moment(written(chunk) for chunk in _chunks(rows)) / len(rows)
        of_rows = _moment(asking(chunk) for chunk in _chunks(rows)) / len(rows)
        of_queries = _moment(asking(chunk) for chunk in _chunks(queries)) / len(queries)
        shrinkage = len(of_rows) / (len(of_rows) + 2 * len(queries))
        values, axes = np.linalg.eigh(shrinkage * of_rows + (1 - shrinkage) * of_queries)
        values = np.maximum(values, _LEAST * values[-1])
        about = mean.astype(np.float32), scale, half_norm
        return [cls._to_power(about, covariance, values ** (power / 2), axes, latent_dim) for power in powers]

    @classmethod
    def _to_power(
        cls,
        about: tuple[np.ndarray, float, float],
        covariance: np.ndarray,
        roots: np.ndarray,
        axes: np.ndarray,
        latent_dim: int,
    ) -> "Sphering":
        """From the covariance of written rows, and the eigenvalues and -vectors of W."""
        root, inverse = (axes * roots) @ axes.T, (axes / roots) @ axes.T
        spread = root @ covariance @ root
        unit = (np.trace(spread) / len(spread)) ** 0.5 or 1.0
        pca = PCA.of_covariance(spread / unit**2, latent_dim)
        return cls(
            *about,
            (root / unit).astype(np.float32),
            (inverse * unit).astype(np.float32),
            pca,
        )


def lifted(centred: np.ndarray, half_norm: float) -> np.ndarray:
    """(n, D) centred rows -> (n, D + 1): with half of their squared norm, less its mean."""
    return np.column_stack([centred, np.square(centred).sum(axis=1) / 2 - half_norm])


def lowered(centred: np.ndarray) -> np.ndarray:
    """(n, D) centred queries -> (n, D + 1): what rows of `lifted` are multiplied by."""
    return np.column_stack([centred, np.full(len(centred), -1.0)])


def _chunks(rows: np.ndarray | MappedRows) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CHUNK_ROWS):
        yield rows[start : start + CHUNK_ROWS].astype(np.float64)


def _moment(chunks: Iterator[np.ndarray]) -> np.ndarray:
    """Sum of x x^T over rows that come in chunks."""
    return sum(chunk.T @ chunk for chunk in chunks)
