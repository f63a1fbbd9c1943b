"""Re-ranking: candidates that were found by latents or codes, in the order of their original vectors."""

import numpy as np

from dploss.data.memmap import MappedRows


def rerank(
    queries: np.ndarray, originals: np.ndarray | MappedRows, candidates: np.ndarray, k: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of each query's candidates.

    Args:
        queries: (n, D) original vectors.
        originals: (N, D) original vectors of the database; an array, or anything indexable by row indices, such as a
            numpy.memmap. The candidates' rows only are read.
        candidates: (n, c) int64 row indices; -1 stands for none.
        k: neighbours to keep, at least 1.
        metric: "euclidean"; "cosine", which normalises every vector first; or "ip", the inner product.

    Returns:
        (n, k) float32 squared Euclidean distances of the original vectors (normalised under cosine), nearest first,
        and (n, k) int64 row indices; inf and -1 where there are fewer candidates. Under "ip" inner products, largest
        first, and -inf.
    """
    by_product = metric == "ip"
    scores = np.full((len(queries), k), -np.inf if by_product else np.inf, np.float32)
    nearest_index = np.full((len(queries), k), -1, np.int64)
    for row, (query, found) in enumerate(zip(_comparable(queries, metric), candidates, strict=True)):
        # By row index: of equally near rows the first counts.
        found = np.sort(found[found >= 0])
        rows = _comparable(originals[found], metric)
        # In float64: squares of small numbers are 0 in float32.
        if by_product:
            own = np.einsum("nd,d->n", rows, query, dtype=np.float64)
        else:
            own = np.square(np.subtract(rows, query, dtype=np.float64)).sum(axis=1)
        order = np.argsort(-own if by_product else own, kind="stable")[:k]
        scores[row, : len(order)], nearest_index[row, : len(order)] = own[order], found[order]
    return scores, nearest_index


def _comparable(rows: np.ndarray, metric: str) -> np.ndarray:
    """The rows as distances are measured: float32, normalised under cosine."""
    rows = np.asarray(rows, np.float32)
    if metric == "cosine":
        norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        return (rows / np.maximum(norms, np.finfo(np.float64).tiny)).astype(np.float32)
    return rows
