"""Scores of a stored form: what a search over the codes finds, with float queries and with coded ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dploss.codes.code import StoredForm, search_form
from dploss.evaluation.recall import RecallEvaluator
from dploss.evaluation.scores import RERANK_FACTORS, recall_columns
from dploss.evaluation.space import Space, over_queries
from dploss.experiments.recalls import Recall
from dploss.text import counted, narrow_table, number

_RESAMPLES = 1000
# Queries that are the least often a neighbour of others: those that hubs displace.
_TAIL = 0.25


@dataclass(frozen=True)
class StoredScores:
    """What is found in a stored form.

    Attributes:
        bytes_per_vector: stored for each row.
        model_bytes: stored once.
        recall: recall@k by k, 0..1, of float queries in a single pass.
        interval: by k, the bootstrap 95 % interval of that recall over the queries.
        tail: by k, the recall of the quarter of the rows that are the least often neighbours of others.
        reranked: by factor, then by k, as `Scores.reranked`.
        symmetric: recall@k by k where queries are stored as well.
    """

    bytes_per_vector: int
    model_bytes: int
    recall: dict[int, float]
    interval: dict[int, tuple[float, float]]
    tail: dict[int, float]
    reranked: dict[int, dict[int, float]]
    symmetric: dict[int, float]


def stored_recall(
    evaluator: RecallEvaluator, original: np.ndarray, latents: np.ndarray, code: StoredForm, rerank: int = 1
) -> Recall:
    """Recall@k of rows as a code stores their latents, searched by their latents as they are.

    Args:
        evaluator: has k.
        original: (N, D) vectors.
        latents: (N, d) float32 latents of the same rows.
        code: fitted to latents of other rows.
        rerank: k * rerank candidates are re-ranked by the originals; 1: a single pass.
    """
    stored, queries = search_form(code, code.encode(latents), latents)
    search = (evaluator.k, evaluator.k * rerank)
    return evaluator.evaluate_reranked(original, stored, [search], queries)[0]


def score_stored(original: np.ndarray, latents: np.ndarray, code: StoredForm, ks: Sequence[int]) -> StoredScores:
    """Store rows, and search them.

    Args:
        original: (N, D) vectors; every one is a query, and searched.
        latents: (N, d) float32 latents of the same rows.
        code: fitted to latents of other rows.
        ks: neighbours to look for, each below N; a re-ranking factor that would retrieve all rows is left out.
    """
    codes = code.encode(latents)
    stored, queries = search_form(code, codes, latents)
    _, coded_queries = search_form(code, codes, code.decode(codes))
    factors = [(factor, k) for factor in (1, *RERANK_FACTORS) for k in ks if k * factor < len(original)]
    evaluator = RecallEvaluator(1, num_samples=len(original))
    kept = evaluator.neighbours_kept(original, stored, [(k, k * factor) for factor, k in factors], queries)
    shares = {search: found / search[1] for search, found in zip(factors, kept, strict=True)}
    both = evaluator.evaluate_reranked(original, stored, [(k, k) for k in ks], coded_queries)
    reranked: dict[int, dict[int, float]] = {}
    for factor, k in factors:
        if factor > 1:
            reranked.setdefault(factor, {})[k] = float(shares[factor, k].mean())
    return StoredScores(
        code.bytes_per_vector,
        code.model_bytes,
        {k: float(shares[1, k].mean()) for k in ks},
        {k: bootstrap_interval(shares[1, k]) for k in ks},
        {k: float(shares[1, k][_rarest(original, k)].mean()) for k in ks},
        reranked,
        {k: recall.value for k, recall in zip(ks, both, strict=True)},
    )


def stored_lines(stored: Mapping[str, StoredScores], ks: Sequence[int]) -> list[str]:
    """The scores for a person; no lines where there are none.

    Args:
        stored: by name, the encoder's own first.
        ks: neighbours that were looked for.
    """
    if not stored:
        return []
    rows = [
        [name, *cells]
        for form, scores in stored.items()
        for name, cells in {
            f"{form}, {counted(scores.bytes_per_vector, 'byte')}": [""] * len(ks),
            "  float queries": [f"{scores.recall[k]:.4f}" for k in ks],
            "    95 % interval": [f"±{(high - low) / 2:.4f}" for low, high in (scores.interval[k] for k in ks)],
            "    rows rarely found": [f"{scores.tail[k]:.4f}" for k in ks],
            "  coded queries": [f"{scores.symmetric[k]:.4f}" for k in ks],
            **{
                f"  re-ranked x {factor}": [number(by_k.get(k), ".4f") for k in ks]
                for factor, by_k in scores.reranked.items()
            },
        }.items()
    ]
    own = next(iter(stored.values()))
    return [
        "",
        f"stored; once for all rows, beside the encoder: {counted(own.model_bytes, 'byte')}",
        *narrow_table(["", *recall_columns(ks)], rows),
    ]


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """The 2.5 % and 97.5 % percentiles of the mean of (n,) values, drawn anew 1,000 times."""
    random = np.random.RandomState(0)
    means = [values[random.randint(len(values), size=len(values))].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _rarest(rows: np.ndarray, k: int) -> np.ndarray:
    """Indices of the quarter of the rows that are the least often among the k nearest of another."""

    def nearest(spaces: Sequence[Space], queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (space,) = spaces
        found = space.closeness(queries).topk(k, largest=False).indices
        return found.T, torch.zeros(len(queries), dtype=torch.bool)

    found = over_queries([Space("original", torch.as_tensor(rows).float())], nearest)
    times = np.bincount(found.numpy().ravel(), minlength=len(rows))
    return np.argsort(times, kind="stable")[: max(1, int(_TAIL * len(rows)))]
