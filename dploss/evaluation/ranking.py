"""Rankings: the nearest rows of every query in order, the lower row index first among rows that are equally near."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dploss.evaluation.space import Space, over_queries

# Values of rows and queries in float64 at a time, of each.
_VALUES = 2**19


def nearest_rows(space: Space, n: int) -> np.ndarray:
    """Rank the nearest rows of every query.

    Args:
        space: of N rows and queries that are none of them.
        n: how many, 1..N.

    Returns:
        (Q, n) int64 row indices, nearest first.
    """

    def nearest(spaces: Sequence[Space], queries: Tensor) -> tuple[Tensor, Tensor]:
        (space,) = spaces
        closeness = space.closeness(queries)
        farthest = closeness.topk(n, largest=False).values[:, -1]
        unsure = _unsure(space, queries, farthest)
        ranked = torch.zeros(len(queries), n, dtype=torch.long)
        if not unsure.all():
            sure, closeness = queries[~unsure], closeness[~unsure]
            # As many as may be equally near as the last one: some queries have more of them.
            fetched = int((closeness <= space.limit(sure, farthest[~unsure])).sum(dim=1).max())
            closeness, rows = closeness.topk(fetched, largest=False)
            ranked[~unsure] = rows.gather(1, _order(space, sure, rows, closeness)[:, :n])
        return ranked.T, unsure

    return over_queries([space], nearest).numpy().T


def order_of(space: Space, candidates: np.ndarray) -> np.ndarray:
    """In which order each query's candidates are.

    Args:
        space: of Q queries.
        candidates: (Q, c) int64 row indices.

    Returns:
        (Q, c) int64 indices of the candidates, nearest first.
    """
    rows = torch.from_numpy(candidates)

    def ordered(spaces: Sequence[Space], queries: Tensor) -> tuple[Tensor, Tensor]:
        (space,) = spaces
        closeness = space.closeness(queries).gather(1, rows[queries])
        unsure = _unsure(space, queries, closeness.min(dim=1).values)
        order = torch.zeros(closeness.shape, dtype=torch.long)
        order[~unsure] = _order(space, queries[~unsure], rows[queries][~unsure], closeness[~unsure])
        return order.T, unsure

    return over_queries([space], ordered).numpy().T


def _unsure(space: Space, queries: Tensor, closeness: Tensor) -> Tensor:
    """(q,): which queries come again in float64."""
    return space.unsure(queries, closeness) & (closeness.dtype == torch.float32)


def _order(space: Space, queries: Tensor, rows: Tensor, closeness: Tensor) -> Tensor:
    """(q, c): the order of candidates; those that rounding may have put in another are measured in float64."""
    closeness, order = closeness.sort(dim=1)
    rows = rows.gather(1, order)
    farthest = closeness[:, -1]
    noise = space.limit(queries, farthest) - farthest[:, None]
    apart = closeness.diff(dim=1) > noise
    first = torch.ones(len(rows), 1, dtype=torch.bool)
    begins, ends = torch.cat([first, apart], dim=1), torch.cat([apart, first], dim=1)
    asking, place = (~(begins & ends)).nonzero(as_tuple=True)
    exact = torch.zeros(closeness.shape, dtype=torch.float64)
    exact[asking, place] = _distances(space, queries[asking], rows[asking, place])
    within = np.lexsort((rows.numpy(), exact.numpy(), begins.cumsum(dim=1).numpy()), axis=-1)
    return order.gather(1, torch.from_numpy(within))


def _distances(space: Space, queries: Tensor, rows: Tensor) -> Tensor:
    """(p,) float64 squared distances of pairs of queries and rows, or their inner products times -1."""
    stored, asked = space.given
    asked = stored if asked is None else asked
    found, step = [torch.empty(0, dtype=torch.float64)], max(1, _VALUES // stored.shape[1])
    for start in range(0, len(rows), step):
        q, x = (one[index[start : start + step]].double() for one, index in ((asked, queries), (stored, rows)))
        found.append((q - x).square().sum(dim=-1) if space.metric == "euclidean" else -(q * x).sum(dim=-1))
    return torch.cat(found)
