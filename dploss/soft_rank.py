"""Ranks along the last axis of a distance matrix: hard, and soft with a temperature.

Rank 1 is the nearest. The soft rank is that of Qin, Liu & Li, "A general approximation framework for direct
optimization of information retrieval measures" (Information Retrieval 13, 2010), there called ApproxNDCG.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Sigmoids held at a time: 2**22 of them are 16 MB in float32.
_CHUNK = 2**22


def hard_rank(d: Tensor) -> Tensor:
    """Rank every entry among its row: 1 + how many entries are strictly smaller; ties share a rank.

    Args:
        d: (..., n) distances, any real dtype.

    Returns:
        (..., n) int64 ranks in 1..n.
    """
    d = d.contiguous()
    return torch.searchsorted(d.sort(dim=-1).values, d) + 1


def soft_rank(d: Tensor, tau: float | Tensor) -> Tensor:
    """Rank every entry among its row, differentiably.

    r_j = 1 + sum over m != j of sigmoid((d_j - d_m) / tau). As tau -> 0 this is `hard_rank`, but that entries
    which tie share the middle of their ranks instead of the first.

    Memory is O(size of d): the n x n sigmoids of a row are summed in chunks, forward and backward.

    Args:
        d: (..., n) distances, floating point. bfloat16 and float16 are computed in float32.
        tau: temperature above 0, in the units of d; a number or a tensor with one element. It gets no gradient.

    Returns:
        (..., n) ranks between 0.5 and n + 0.5, in d's dtype.

    Raises:
        ValueError: d is not a floating-point tensor with at least one axis, or tau is not above 0.
    """
    if d.ndim == 0 or not d.is_floating_point():
        raise ValueError(f"d must be a floating-point tensor (..., n), got {d.dtype} of shape {tuple(d.shape)}")
    if not isinstance(tau, Tensor) and not (math.isfinite(tau) and tau > 0):
        raise ValueError(f"tau must be a finite number above 0, got {tau}")
    return _SoftRank.apply(d, tau)


class _SoftRank(torch.autograd.Function):
    """The sum and its derivative, a block of rows and columns at a time.

    With s' the sigmoid's derivative, an even function: grad_j = sum over m of s'((d_j - d_m) / tau) (g_j - g_m) / tau.
    """

    @staticmethod
    def forward(ctx: Any, d: Tensor, tau: float | Tensor) -> Tensor:
        scaled = d.to(torch.promote_types(d.dtype, torch.float32)).reshape(-1, d.shape[-1]) / tau
        rank = torch.empty_like(scaled)
        for rows, columns in _blocks(*scaled.shape):
            rank[rows, columns] = _sigmoids(scaled, rows, columns).sum(-1) + 0.5
        ctx.save_for_backward(scaled)
        ctx.tau = tau
        return rank.view(d.shape).to(d.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (scaled,) = ctx.saved_tensors
        g = grad.reshape(scaled.shape).to(scaled.dtype)
        out = torch.empty_like(scaled)
        for rows, columns in _blocks(*scaled.shape):
            s = _sigmoids(scaled, rows, columns)
            slope = s.mul_(1 - s)
            out[rows, columns] = slope.sum(-1) * g[rows, columns] - (slope @ g[rows, :, None]).squeeze(-1)
        return (out / ctx.tau).view(grad.shape).to(grad.dtype), None


def _sigmoids(scaled: Tensor, rows: slice, columns: slice) -> Tensor:
    """sigmoid(scaled_j - scaled_m) for j in `columns` and every m: (rows, columns, n)."""
    return torch.sigmoid(scaled[rows, columns, None] - scaled[rows, None, :])


def _blocks(count: int, n: int) -> Iterator[tuple[slice, slice]]:
    """Cover a (count, n) matrix with blocks whose (rows, columns, n) sigmoids stay within the chunk."""
    height = max(1, _CHUNK // (n * n))
    width = max(1, _CHUNK // (height * n))
    for top in range(0, count, height):
        for left in range(0, n, width):
            yield slice(top, top + height), slice(left, left + width)
