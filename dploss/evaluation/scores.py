"""Scores of an encoding: neighbours preserved, with and without re-ranking, and what became of the distances."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from dploss.data.split import evenly_spaced
from dploss.evaluation.recall import neighbours_kept, recall_of
from dploss.evaluation.space import Space, as_rows

RERANK_FACTORS = (2, 5, 10)
_PAIRED_ROWS = 1000
TIMED_SECONDS = 1.0


@dataclass(frozen=True)
class Scores:
    """What an encoding preserves.

    Attributes:
        recall: recall@k by k, 0..1.
        reranked: by factor, then by k: recall@k where k x factor candidates are retrieved by their latents and the k of
            them that are nearest by the originals are kept.
        distortion: mean of abs(D_z - D_x) / D_x over pairs of rows; 0 where all distances are preserved. NaN of latents
            that are compared by inner product.
        spearman: rank correlation of D_x and D_z over the same pairs, -1..1; NaN, too, where either is constant.
    """

    recall: dict[int, float]
    reranked: dict[int, dict[int, float]]
    distortion: float
    spearman: float


def score(
    original: np.ndarray,
    latent: np.ndarray,
    ks: Sequence[int],
    metric: str = "euclidean",
    queries: np.ndarray | None = None,
    latent_metric: str = "euclidean",
) -> Scores:
    """Compare rows with their latents.

    Args:
        original: (N, D) vectors; every one is a query, and searched.
        latent: (N, d) latents of the same rows.
        ks: neighbours to look for, each below N; a re-ranking factor that would retrieve all rows is left out.
        metric: of the vectors, "euclidean" or "ip".
        queries: (N, d), what the same rows are as queries; None: their latents.
        latent_metric: how these are compared, as metric; inner products have no distances to compare.

    Raises:
        ValueError: rows that differ in number, or are too few.
    """
    searches = {(factor, k): (k, k * factor) for factor in (1, *RERANK_FACTORS) for k in ks if k * factor < len(latent)}
    originals = Space("original", as_rows("original", original), metric=metric)
    asked = None if queries is None else as_rows("queries", queries)
    latents = Space("latent", as_rows("latent", latent), asked, latent_metric)
    kept = neighbours_kept(originals, latents, list(searches.values()))
    found: dict[int, dict[int, float]] = {}
    for (factor, k), one in zip(searches, kept, strict=True):
        found.setdefault(factor, {})[k] = recall_of(one, k, len(original)).value
    both = math.nan, math.nan
    return Scores(found.pop(1), found, *(both if latent_metric == "ip" else _distances_preserved(original, latent)))


def _distances_preserved(original: np.ndarray, latent: np.ndarray) -> tuple[float, float]:
    """Distortion and Spearman correlation over all pairs of up to 1,000 rows, evenly spaced."""
    chosen = evenly_spaced(len(original), _PAIRED_ROWS)
    before, after = pdist(original[chosen]), pdist(latent[chosen])
    apart = before > 0
    distortion = float(np.mean(np.abs(after[apart] - before[apart]) / before[apart])) if apart.any() else 0.0
    constant = np.ptp(before) == 0 or np.ptp(after) == 0
    return distortion, float("nan") if constant else float(spearmanr(before, after).statistic)


def recall_columns(ks: Sequence[int]) -> list[str]:
    """Names of the columns that hold recalls: "recall@1", "@5", "@10"."""
    return [f"{'' if place else 'recall'}@{k}" for place, k in enumerate(ks)]


def rows_per_second(encode: Callable[[np.ndarray], object], rows: np.ndarray) -> float:
    """Encoding speed: the median over about a second of encoding all `rows` again and again, after a first time."""
    encode(rows)
    times: list[float] = []
    while sum(times) < TIMED_SECONDS:
        start = time.perf_counter()
        encode(rows)
        times.append(time.perf_counter() - start)
    return len(rows) / float(np.median(times))
