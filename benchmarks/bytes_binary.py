"""Bits for benchmarks/bytes.py: signs of PCA with float queries, and by Hamming distance beside our binary code."""

from collections.abc import Callable

import faiss
import numpy as np
from bytes_search import Method, Scored, least

from dploss.evaluation.peers import closed_form
from dploss.models.pca import PCA


class Signs(Method):
    """The signs of the first principal components, ranked by their products with float queries."""

    def __init__(self, rows: np.ndarray, n_bytes: int) -> None:
        self.pca = PCA.fit(rows, min(8 * n_bytes, rows.shape[1]))
        self.model_bytes = self.pca.components.nbytes + self.pca.mean.nbytes

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """See `Method.encode`."""
        return np.packbits(self.pca.encode(rows) > 0, axis=1)

    def search(self, codes: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
        """See `Method.search`."""
        signs = 2 * np.unpackbits(codes, axis=1, count=len(self.pca.components)).astype(np.float32) - 1
        return least(-self.pca.encode(queries) @ signs.T, count)


class Hamming(Method):
    """The bits of a method, ranked by how many of them differ from those of the query."""

    def __init__(self, method: Method) -> None:
        self.method, self.model_bytes = method, method.model_bytes

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """See `Method.encode`."""
        return self.method.encode(rows)

    def search(self, codes: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
        """See `Method.search`."""
        index = faiss.IndexBinaryFlat(8 * codes.shape[1])
        index.add(codes)
        return index.search(self.method.encode(queries), count)[1]


BINARY: dict[str, Callable[[np.ndarray, int], Method]] = {
    "binary, Hamming": lambda rows, n_bytes: Hamming(Scored(closed_form("binary", rows, n_bytes))),
    "PCA, signs": Signs,
    "PCA, signs, Hamming": lambda rows, n_bytes: Hamming(Signs(rows, n_bytes)),
}
