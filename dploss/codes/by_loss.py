"""Codes moved by a loss of the family: distances among rows against those that searches see.

What is stored has no gradient: where it is rounded, that of what was rounded takes its place (straight-through: Bengio,
Léonard & Courville, arXiv:1308.3432).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from dploss.codes.code import Code
from dploss.codes.neighbours import shares_kept
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
    train: Callable[[_Start, np.ndarray, DPLoss], _Trained],
    scores: Callable[[_Start | _Trained, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    loss: DPLoss | None,
) -> _Start | _Trained:
    """Train a code where that pays: tried with three quarters of the rows, on the other quarter.

    Args:
        latents: (n, d) float32; of fewer than two batches, or equal ones, nothing is trained.
        fit: makes the start, in closed form, of (m, d) latents.
        train: makes another code of the start, its latents and the loss.
        scores: from a code, (n, d) latents and the (m,) indices of those that ask, (m, n) scores of the stored rows for
            float queries, and others for queries that are stored, too.
        loss: None: DPLossV3.

    Returns:
        The trained code where one keeps more for float queries, and as much among stored rows; or the start.
    """
    start, is_held_out = fit(latents), np.arange(len(latents)) % _HELD_OUT == 0
    others, rest = latents[~is_held_out], latents[is_held_out]
    if len(latents) < 2 * _BATCH or (others == others[0]).all():
        return start
    before, ask, loss = fit(others), evenly_spaced(len(rest), _MOST_ASKING), loss or DPLossV3()
    found = [scores(code, rest, ask) for code in (before, train(before, others, loss))]
    floats, stored = (shares_kept(rest, ask, kind) for kind in zip(*found, strict=True))
    pays = floats[1] > floats[0] and stored[1] >= stored[0]
    return train(start, latents, loss) if pays else start


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
    groups = [{"params": parameters, "lr": _LR}, {"params": [scale], "lr": 2.5 * _LR}]
    optimizer = torch.optim.Adam(groups)
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=_STEPS, pct_start=_WARMUP)
    random = torch.Generator().manual_seed(0)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(_STEPS):
        if len(order) < min(_BATCH, len(rows)):
            order = torch.randperm(len(rows), generator=random)
        batch, order = rows[order[:_BATCH]], order[_BATCH:]
        # As encoders are trained: norms are near 1.
        d_x, tau = loss.original(batch / rows.shape[1] ** 0.5)
        squares = squared_distances(batch, d_x.square().mean())
        distances = (one.clamp(min=_LEAST_SQUARE).sqrt() for one in squares)
        total = torch.stack([loss.terms(d_x, one, tau).total for one in distances]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        scheduler.step()


def of_float_queries(batch: Tensor, scores: Tensor, mean: Tensor) -> Tensor:
    """(B, B) scores of stored rows -> (B, B - 1) squared distances, for `minimise`.

    Of what is the same for all rows there is no gradient, for only differences rank.
    """
    squares = without_diagonal(batch.square().sum(dim=1, keepdim=True) + scores) / batch.shape[1]
    return squares + (mean - squares.mean()).detach()
