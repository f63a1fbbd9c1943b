"""Neighbours before and after, as the texts that the vectors were made from."""

from collections.abc import Sequence

import numpy as np
import torch

from dploss.evaluation.space import Space, as_rows
from dploss.text import beginning, counted

_QUERIES = 5


def neighbour_lines(
    original: np.ndarray,
    latent: np.ndarray,
    texts: Sequence[str],
    count: int,
    width: int,
    seed: int,
    metric: str = "euclidean",
    queries: np.ndarray | None = None,
    latent_metric: str = "euclidean",
) -> list[str]:
    """The nearest rows of a few rows drawn at random, before and after.

    Args:
        original: (N, D) vectors.
        latent: (N, d) their latents.
        texts: of the N rows.
        count: neighbours of each, below N.
        width: of a line, in columns of a terminal.
        seed: of the draw.
        metric: of the vectors, "euclidean" or "ip".
        queries: (N, d), what the same rows are as queries; None: their latents.
        latent_metric: how these are compared, as metric.
    """
    # Precise: squares of small numbers are 0 in float32.
    asked = None if queries is None else as_rows("queries", queries)
    originals = Space("original", as_rows("original", original), metric=metric, precise=True)
    latents = Space("latent", as_rows("latent", latent), asked, latent_metric, precise=True)
    drawn = np.sort(np.random.RandomState(seed).choice(len(original), min(_QUERIES, len(original)), replace=False))
    lines = []
    for query in drawn:
        before, after = _nearest(originals, query, count), _nearest(latents, query, count)
        lines += [beginning(texts[query], width)]
        lines += [f"  nearest of {len(original):,} rows by {counted(original.shape[1], 'dimension')}"]
        lines += _marked(before, texts, after, "- ", width)
        lines += [f"  by {counted(latent.shape[1], 'dimension')}: {len({*before} & {*after})} of {count} kept"]
        lines += [*_marked(after, texts, before, "+ ", width), ""]
    return lines[:-1]


def _nearest(space: Space, query: int, count: int) -> list[int]:
    closeness = space.closeness(torch.tensor([query]))[0].numpy()
    return np.argsort(closeness, kind="stable")[:count].tolist()


def _marked(rows: Sequence[int], texts: Sequence[str], others: Sequence[int], mark: str, width: int) -> list[str]:
    return [f"    {'  ' if row in others else mark}{beginning(texts[row], width - 6)}" for row in rows]
