"""Search with FAISS by short vectors: a linear encoder inside an index, any encoder with re-ranking by the long ones.

Needs the package of the extra `faiss`. https://github.com/facebookresearch/faiss/wiki/Pre--and-post-processing
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from dploss.integrations.onnx_export import linear_map
from dploss.models.encoder import DPEncoder

if TYPE_CHECKING:
    import faiss


def linear_transform(encoder: DPEncoder) -> "faiss.LinearTransform":
    """A linear encoder as FAISS has them, for faiss.IndexPreTransform(transform, index of the short vectors).

    Raises:
        ValueError: an encoder that is not linear.
    """
    import faiss

    matrix, bias = linear_map(encoder)
    transform = faiss.LinearTransform(encoder.input_dim, encoder.latent_dim, True)
    faiss.copy_array_to_vector(matrix.ravel(), transform.A)
    faiss.copy_array_to_vector(bias, transform.b)
    transform.is_trained = True
    return transform


class RerankingIndex:
    """Fetches by short vectors, and keeps the nearest of these by the long ones.

    Args:
        encoder: of vectors, any.
        vectors: (N, D) long vectors, the base; an array, or anything that gives rows[numbers], a numpy.memmap say. Only
            the rows that are fetched are read again.
        index: an empty FAISS index of the short vectors; faiss.IndexFlatL2 if None.
    """

    def __init__(self, encoder: DPEncoder, vectors: np.ndarray, index: Any = None) -> None:
        import faiss

        self.encoder, self.vectors = encoder, vectors
        self.index = faiss.IndexFlatL2(encoder.latent_dim) if index is None else index
        for start in range(0, len(vectors), 8192):
            short = encoder.encode(np.asarray(vectors[start : start + 8192], np.float32))
            if not self.index.is_trained:
                self.index.train(short)
            self.index.add(short)

    def search(self, queries: np.ndarray, k: int, fetch: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows of each query.

        Args:
            queries: (n, D) float32 long vectors.
            k: neighbours to find, 1..N.
            fetch: k times so many are fetched by their short forms.

        Returns:
            (n, k) squared Euclidean distances of the long vectors, nearest first (under cosine of these brought to
            length 1), and (n, k) int64 row numbers.

        Raises:
            ValueError: k outside its range, or a fetch below 1.
        """
        if not 1 <= k <= len(self.vectors) or fetch < 1:
            raise ValueError(f"k must be within 1 and {len(self.vectors)}, fetch at least 1, got {k} and {fetch}")
        candidates = min(k * fetch, len(self.vectors))
        _, numbers = self.index.search(self.encoder.encode(np.asarray(queries, np.float32)), candidates)
        distances = np.empty((len(queries), k), np.float32)
        nearest = np.empty((len(queries), k), np.int64)
        for row, (query, found) in enumerate(zip(self._long(queries), numbers, strict=True)):
            # An index that does not look everywhere may find fewer: -1.
            found = found[found >= 0]
            squared = np.square(self._long(self.vectors[found]) - query).sum(axis=1)
            order = np.argsort(squared, kind="stable")[:k]
            missing = k - len(order)
            distances[row] = np.pad(squared[order], (0, missing), constant_values=np.inf)
            nearest[row] = np.pad(found[order], (0, missing), constant_values=-1)
        return distances, nearest

    def _long(self, rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows, np.float32)
        if self.encoder.metric == "cosine":
            return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return rows
