"""Codes moved by a loss of the family: distances among rows, or from queries, against those that searches see.

What is stored has no gradient: where it is rounded, that of what was rounded takes its place (straight-through: Bengio,
Léonard & Courville, arXiv:1308.3432).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dploss.codes.code import Code
from dploss.codes.neighbours import K, shares_kept
from dploss.data.split import evenly_spaced
from dploss.losses.distance_preserving import DPLoss, DPLossV3, without_diagonal

_Start = TypeVar("_Start", bound=Code)
_Trained = TypeVar("_Trained", bound=Code)
_BATCH, _STEPS, _LR, _WARMUP = 512, 300, 4e-3, 0.1
_LEAST_SQUARE = 1e-6
# The fewer rows answer, the less of the gain there is to see: measured.
_HELD_OUT, _MOST_ASKING = 4, 2000


def trained_or_start(
    latents: np.ndarray,
    fit: Callable[[np.ndarray], _Start],
    train: Callable[[_Start, np.ndarray, DPLoss, np.ndarray | None], _Trained],
    scores: Callable[[_Start | _Trained, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    loss: DPLoss | None,
    queries: np.ndarray | None,
) -> _Start | _Trained:
    """Train a code where that pays: tried with three quarters of the rows and of the queries, on the other quarters.

    Args:
        latents: (n, d) float32; of fewer than two batches, or equal ones, nothing is trained.
        fit: makes the start, in closed form, of (m, d) latents.
        train: makes another code of the start, its latents, the loss and latents of queries.
        scores: from a code, (n, d) latents and the (m,) indices of those that ask, (m, n) scores of the stored rows for
            float queries, and others for queries that are stored, too.
        loss: None: DPLossV3.
        queries: (m, d) float32 latents of training queries, compared by inner product; of fewer than a batch nothing is
            trained. None: the rows search by distance.

    Returns:
        The trained code where one keeps more for float queries, and as much among stored rows where rows search; or the
        start.
    """
    start, is_held_out = fit(latents), np.arange(len(latents)) % _HELD_OUT == 0
    others, rest = latents[~is_held_out], latents[is_held_out]
    too_few = len(latents) < 2 * _BATCH or (queries is not None and len(queries) < _BATCH)
    if too_few or (others == others[0]).all():
        return start
    before, loss = fit(others), loss or DPLossV3()
    if queries is None:
        ask, after = evenly_spaced(len(rest), _MOST_ASKING), train(before, others, loss, None)
        found = [scores(code, rest, ask) for code in (before, after)]
        floats, stored = (shares_kept(rest, rest[ask], kind, ask) for kind in zip(*found, strict=True))
        pays = floats[1] > floats[0] and stored[1] >= stored[0]
    else:
        is_held_out = np.arange(len(queries)) % _HELD_OUT == 0
        asked, after = queries[is_held_out][:_MOST_ASKING], train(before, others, loss, queries[~is_held_out])
        floats = shares_kept(rest, asked, (code.score(asked, code.encode(rest)) for code in (before, after)))
        # More than recalls differ by chance, of codes that find much the same.
        pays = floats[1] > floats[0] + 0.5 * (0.5 / (K * len(asked))) ** 0.5
    return train(start, latents, loss, queries) if pays else start


def minimise(
    loss: DPLoss,
    rows: Tensor,
    parameters: Sequence[Tensor],
    scale: Tensor,
    squared_distances: Callable[[Tensor, Tensor], Iterable[Tensor]],
) -> None:
    """Move parameters in place, by Adam.

    Args:
        loss: of the family; it is added up over all kinds of distances.
        rows: (n, d) float32, centred.
        parameters: to move.
        scale: a logarithm, to move faster.
        squared_distances: from a (B, d) batch and the mean squared distance among its rows, divided by d, what searches
            see in these units: (B, B - 1) each.
    """
    batches = _batches(rows, 0)

    def total() -> Tensor:
        batch = next(batches)
        # As encoders are trained: norms are near 1.
        d_x, tau = loss.original(batch / rows.shape[1] ** 0.5)
        squares = squared_distances(batch, d_x.square().mean())
        distances = (one.clamp(min=_LEAST_SQUARE).sqrt() for one in squares)
        return torch.stack([loss.terms(d_x, one, tau).total for one in distances]).sum()

    _descend([{"params": parameters, "lr": _LR}, {"params": [scale], "lr": 2.5 * _LR}], total)


def minimise_for_queries(
    loss: DPLoss,
    rows: Tensor,
    queries: Tensor,
    parameters: Sequence[Tensor],
    products: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Move parameters in place, by Adam, for queries that search by inner product.

    With queries as long as the longest row, and rows made as long by one more dimension, which queries have 0 in, the
    order of inner products is that of distances (Bachrach et al., Speeding up the Xbox recommender system, 2014).

    Args:
        loss: of the family.
        rows: (n, d) float32, centred.
        queries: (m, d) float32, in the unit of the rows.
        parameters: to move.
        products: from (Q, d) queries and a (B, d) batch of rows, (Q, B) inner products as searches see them.
    """
    batches, asked = _batches(rows, 0), _batches(queries, 1)

    def total() -> Tensor:
        batch = next(batches)
        longest = batch.norm(dim=1).max()
        q = functional.normalize(next(asked), dim=1) * longest
        exact, seen = (
            ((2 * longest**2 - 2 * one) / rows.shape[1]).clamp(min=_LEAST_SQUARE).sqrt()
            for one in (q @ batch.T, products(q, batch))
        )
        return loss.terms(exact, seen, loss.tau * exact.std()).total

    _descend([{"params": parameters, "lr": _LR}], total)


def _batches(rows: Tensor, seed: int) -> Iterator[Tensor]:
    """Batches of (n, d) rows in random orders, without end."""
    random = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    while True:
        if len(order) < min(_BATCH, len(rows)):
            order = torch.randperm(len(rows), generator=random)
        yield rows[order[:_BATCH]]
        order = order[_BATCH:]


def _descend(groups: list[dict[str, Any]], total: Callable[[], Tensor]) -> None:
    """Steps of Adam that lower a total."""
    optimizer = torch.optim.Adam(groups)
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=_STEPS, pct_start=_WARMUP)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        total().backward()
        optimizer.step()
        scheduler.step()


def of_float_queries(batch: Tensor, scores: Tensor, mean: Tensor) -> Tensor:
    """(B, B) scores of stored rows -> (B, B - 1) squared distances, for `minimise`.

    Of what is the same for all rows there is no gradient, for only differences rank.
    """
    squares = without_diagonal(batch.square().sum(dim=1, keepdim=True) + scores) / batch.shape[1]
    return squares + (mean - squares.mean()).detach()
