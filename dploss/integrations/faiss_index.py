"""Search latents with FAISS: a linear encoder inside an index, or any encoder with re-ranking by the original vectors.

Needs the extra `faiss`: pip install 'dploss[faiss]'. See https://github.com/facebookresearch/faiss/wiki/Pre--and-post-processing
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from dploss.arguments import whole_number
from dploss.integrations.onnx_export import linear_map
from dploss.losses.units import power_of_two
from dploss.models.encoder import DPEncoder
from dploss.search.rerank import rerank

if TYPE_CHECKING:
    import faiss


def linear_transform(encoder: DPEncoder) -> "faiss.LinearTransform":
    """A linear encoder as a FAISS transform, for faiss.IndexPreTransform(transform, index of the latents).

    Raises:
        ValueError: the encoder is not linear.
    """
    import faiss

    matrix, bias = linear_map(encoder)
    transform = faiss.LinearTransform(encoder.input_dim, encoder.latent_dim, True)
    faiss.copy_array_to_vector(matrix.ravel(), transform.A)
    faiss.copy_array_to_vector(bias, transform.b)
    transform.is_trained = True
    return transform


class RerankingIndex:
    """Finds candidates by their latents, and re-ranks them by the original vectors.

    Args:
        encoder: any encoder of vectors.
        vectors: (N, D) original vectors, the database; an array, or anything indexable by row indices, such as a
            numpy.memmap. A search reads the candidates' rows only.
        index: an empty FAISS index of latents, which it gets divided by a power of two near the encoder's scale: the
            squares of small numbers are 0 in float32. faiss.IndexFlatL2 if None.
    """

    def __init__(self, encoder: DPEncoder, vectors: np.ndarray, index: Any = None) -> None:
        import faiss

        self.encoder, self.vectors = encoder, vectors
        self.index = faiss.IndexFlatL2(encoder.latent_dim) if index is None else index
        for start in range(0, len(vectors), 8192):
            latents = self._latents(vectors[start : start + 8192], f"vectors[{start}:]" if start else "vectors")
            if not self.index.is_trained:
                self.index.train(latents)
            self.index.add(latents)

    def search(self, queries: np.ndarray, k: int, fetch: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows of each query.

        Args:
            queries: (n, D) float32 original vectors.
            k: neighbours to find, 1..N.
            fetch: k * fetch candidates are found by their latents.

        Returns:
            (n, k) squared Euclidean distances of the original vectors (normalised where the encoder's metric is
            cosine), nearest first, and (n, k) int64 row indices; inf and -1 where the index found fewer.

        Raises:
            ValueError: k is outside its range, or fetch is below 1.
        """
        k, fetch = whole_number("k", k, 1, len(self.vectors)), whole_number("fetch", fetch, 1)
        n_candidates = min(k * fetch, len(self.vectors))
        _, candidate_index = self.index.search(self._latents(queries, "queries"), n_candidates)
        return rerank(queries, self.vectors, candidate_index, k, self.encoder.metric)

    def _latents(self, rows: np.ndarray, name: str) -> np.ndarray:
        """(n, d) float32 latents of (n, D) rows, as they are in the index; messages call the rows by the name."""
        latents = self.encoder.encode(np.asarray(rows, np.float32), input_name=name)
        return latents / power_of_two(self.encoder.scale).numpy(force=True)
