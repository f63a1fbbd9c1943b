"""Neighbours that training rows keep among each other, or that queries keep: what a code's settings are chosen by.

The more rows there are, the more norms matter: the best settings among 1,000 rows are not those among 50,000, measured;
so few rows ask, and as many as possible answer.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from dploss.data.split import evenly_spaced

Setting = TypeVar("Setting")
K = 10
_QUERIES = 1000


def asking(n: int) -> np.ndarray:
    """Indices of the rows among n whose neighbours are compared, evenly spaced."""
    return evenly_spaced(n, _QUERIES)


def keeping_most(settings: Sequence[Setting], rows: np.ndarray, scores: Callable[[Setting], np.ndarray]) -> Setting:
    """The setting that keeps most of the ten nearest neighbours; of equals the first.

    Args:
        settings: to choose from.
        rows: (n, d) float32.
        scores: from a setting, (m, n) scores of the stored rows for the m rows of `asking(n)`; the least is nearest.
    """
    own = asking(len(rows))
    kept = shares_kept(rows, rows[own], (scores(setting) for setting in settings), own)
    return settings[int(np.argmax(kept))]


def shares_kept(
    rows: np.ndarray, queries: np.ndarray, all_scores: Iterable[np.ndarray], own: np.ndarray | None = None
) -> list[float]:
    """The share of the ten nearest neighbours that each of several scores keeps.

    Args:
        rows: (n, d) float32.
        queries: (m, d) float32.
        all_scores: each (m, n), of the stored rows for the queries; the least is nearest.
        own: (m,) indices of the rows that the queries are, compared by Euclidean distance; None: they are others, and
            compared by inner product.
    """
    exact = -2 * queries @ rows.T
    true = _nearest(exact if own is None else exact + np.square(rows).sum(axis=1), own)
    return [float((true & _nearest(scores, own)).sum() / true.sum()) for scores in all_scores]


def _nearest(scores: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    """(m, n) bool: which rows are the nearest of each query, `own` left out; fewer than ten of few rows."""
    if own is not None:
        scores = scores.copy()
        scores[np.arange(len(own)), own] = np.inf
    k = max(1, min(K, scores.shape[1] // 10))
    near = np.zeros(scores.shape, bool)
    np.put_along_axis(near, np.argpartition(scores, k - 1, axis=1)[:, :k], True, axis=1)
    return near
