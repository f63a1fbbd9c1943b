"""Neighbours before and after, as the texts that the vectors were made from."""

from collections.abc import Sequence

import numpy as np

from dploss.text import beginning, counted

_QUERIES = 5


def neighbour_lines(
    original: np.ndarray,
    latent: np.ndarray,
    texts: Sequence[str],
    count: int,
    width: int,
    seed: int,
) -> list[str]:
    """The nearest rows of a few rows drawn at random, before and after.

    Args:
        original: (N, D) vectors.
        latent: (N, d) their latents.
        texts: of the N rows.
        count: neighbours of each, below N.
        width: of a line, in columns of a terminal.
        seed: of the draw.
    """
    queries = np.sort(np.random.RandomState(seed).choice(len(original), min(_QUERIES, len(original)), replace=False))
    lines = []
    for query in queries:
        before, after = _nearest(original, query, count), _nearest(latent, query, count)
        lines += [beginning(texts[query], width)]
        lines += [f"  nearest of {len(original):,} rows by {counted(original.shape[1], 'dimension')}"]
        lines += _marked(before, texts, after, "- ", width)
        lines += [f"  by {counted(latent.shape[1], 'dimension')}: {len({*before} & {*after})} of {count} kept"]
        lines += [*_marked(after, texts, before, "+ ", width), ""]
    return lines[:-1]


def _nearest(rows: np.ndarray, query: int, count: int) -> list[int]:
    # In float64: squares of small numbers are 0 in float32.
    distances = np.linalg.norm(np.subtract(rows, rows[query], dtype=np.float64), axis=1)
    distances[query] = np.inf
    return np.argsort(distances, kind="stable")[:count].tolist()


def _marked(rows: Sequence[int], texts: Sequence[str], others: Sequence[int], mark: str, width: int) -> list[str]:
    return [f"    {'  ' if row in others else mark}{beginning(texts[row], width - 6)}" for row in rows]
