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


def linear_transform(encoder: DPEncoder, queries: bool = False) -> "faiss.LinearTransform":
    """A linear encoder as a FAISS transform, for faiss.IndexPreTransform(transform, index of the latents).

    An AsymmetricEncoder has two, of rows and of queries, for an index of latents by itself, compared by inner product:
    index.add(of_rows.apply(rows)), index.search(of_queries.apply(queries), k).

    Args:
        encoder: trained without hidden layers (hidden_dims=()).
        queries: the side of the queries, see `linear_map`.

    Raises:
        ValueError: that side of the encoder is not linear.
    """
    import faiss

    matrix, bias = linear_map(encoder, queries)
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
            squares of small numbers are 0 in float32. It compares as the encoder's latent_metric says. None:
            faiss.IndexFlatL2, or for inner products faiss.IndexFlatIP.
    """

    def __init__(self, encoder: DPEncoder, vectors: np.ndarray, index: Any = None) -> None:
        import faiss

        self.encoder, self.vectors = encoder, vectors
        flat = faiss.IndexFlatL2 if encoder.latent_metric == "euclidean" else faiss.IndexFlatIP
        self.index = flat(encoder.latent_dim) if index is None else index
        for start in range(0, len(vectors), 8192):
            rows = np.asarray(vectors[start : start + 8192], np.float32)
            latents = encoder.encode(rows, input_name=f"vectors[{start}:]" if start else "vectors") / self._unit
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
            cosine), nearest first, and (n, k) int64 row indices; inf and -1 where the index found fewer. Where the
            encoder's metric is ip, inner products of the original vectors, largest first, and -inf.

        Raises:
            ValueError: k is outside its range, or fetch is below 1.
        """
        k, fetch = whole_number("k", k, 1, len(self.vectors)), whole_number("fetch", fetch, 1)
        n_candidates = min(k * fetch, len(self.vectors))
        latents = self.encoder.encode_queries(np.asarray(queries, np.float32)) / self._unit
        _, candidate_index = self.index.search(latents, n_candidates)
        return rerank(queries, self.vectors, candidate_index, k, self.encoder.metric)

    @property
    def _unit(self) -> np.ndarray:
        """Of the latents in the index; of both sides, which changes no order."""
        return power_of_two(self.encoder.scale).numpy(force=True)
