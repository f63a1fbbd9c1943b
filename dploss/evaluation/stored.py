"""Scores of a stored form: what a search over the codes finds, with float queries and with coded ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dploss.codes.code import StoredForm, search_form
from dploss.evaluation.recall import neighbours_kept
from dploss.evaluation.scores import RERANK_FACTORS, recall_columns
from dploss.evaluation.space import Space, as_rows, over_queries
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
        symmetric: recall@k by k where queries are stored as well; empty where these have a side of their own.
    """

    bytes_per_vector: int
    model_bytes: int
    recall: dict[int, float]
    interval: dict[int, tuple[float, float]]
    tail: dict[int, float]
    reranked: dict[int, dict[int, float]]
    symmetric: dict[int, float]


def score_stored(
    original: np.ndarray,
    latents: np.ndarray,
    code: StoredForm,
    ks: Sequence[int],
    metric: str = "euclidean",
    queries: np.ndarray | None = None,
) -> StoredScores:
    """Store rows, and search them.

    Args:
        original: (N, D) vectors; every one is a query, and searched.
        latents: (N, d) float32 latents of the same rows.
        code: fitted to latents of other rows.
        ks: neighbours to look for, each below N; a re-ranking factor that would retrieve all rows is left out.
        metric: of the vectors, "euclidean" or "ip".
        queries: (N, d) float32, what the same rows are as queries; None: their latents.
    """
    codes = code.encode(latents)
    factors = [(factor, k) for factor in (1, *RERANK_FACTORS) for k in ks if k * factor < len(original)]
    originals = Space("original", as_rows("original", original), metric=metric)

    def shares_of(asked: np.ndarray, searches: Sequence[tuple[int, int]]) -> dict[tuple[int, int], np.ndarray]:
        rows, projected = search_form(code, codes, asked)
        stored = Space("stored", torch.from_numpy(rows), torch.from_numpy(projected))
        kept = neighbours_kept(originals, stored, [(k, k * factor) for factor, k in searches])
        return {search: found / search[1] for search, found in zip(searches, kept, strict=True)}

    shares = shares_of(latents if queries is None else queries, factors)
    # Rows are stored, queries of another side are not.
    both = shares_of(code.decode(codes), [(1, k) for k in ks]) if queries is None else {}
    reranked: dict[int, dict[int, float]] = {}
    for factor, k in factors:
        if factor > 1:
            reranked.setdefault(factor, {})[k] = float(shares[factor, k].mean())
    return StoredScores(
        code.bytes_per_vector,
        code.model_bytes,
        {k: float(shares[1, k].mean()) for k in ks},
        {k: bootstrap_interval(shares[1, k]) for k in ks},
        {k: float(shares[1, k][_rarest(originals, k)].mean()) for k in ks},
        reranked,
        {k: float(share.mean()) for (_, k), share in both.items()},
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
            **({"  coded queries": [f"{scores.symmetric[k]:.4f}" for k in ks]} if scores.symmetric else {}),
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


def _rarest(originals: Space, k: int) -> np.ndarray:
    """Indices of the quarter of the rows that are the least often among the k nearest of another, as a query."""

    def nearest(spaces: Sequence[Space], queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (space,) = spaces
        found = space.closeness(queries).topk(k, largest=False).indices
        return found.T, torch.zeros(len(queries), dtype=torch.bool)

    n_rows = len(originals.rows)
    times = np.bincount(over_queries([originals], nearest).numpy().ravel(), minlength=n_rows)
    return np.argsort(times, kind="stable")[: max(1, int(_TAIL * n_rows))]
