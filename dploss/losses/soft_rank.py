"""Ranks along the last axis of a distance matrix: hard, and soft with a temperature.

Rank 1 is the nearest. The soft rank is that of Qin, Liu & Li, "A general approximation framework for direct
optimization of information retrieval measures" (Information Retrieval 13, 2010), there called ApproxNDCG.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dploss.losses import sigmoid_sums as cell_sums
from dploss.losses.sigmoid_sums import Cells, choose_cells

# Values worked on at a time: some megabytes stay in a processor's cache; a GPU wants more at once.
_CPU_CHUNK, _GPU_CHUNK = 2**18, 2**24


def hard_rank(d: Tensor) -> Tensor:
    """Rank every entry among its row: 1 + how many entries are strictly smaller; ties share a rank.

    Args:
        d: (..., n) distances, any real dtype.

    Returns:
        (..., n) int64 ranks in 1..n.
    """
    values, order = d.detach().sort(dim=-1)
    # A place in the sorted row is the rank of the first of equals, and 0 for the others until the running maximum.
    places = torch.arange(1, d.shape[-1] + 1, device=d.device).expand_as(values).clone()
    places[..., 1:].masked_fill_(values[..., 1:] == values[..., :-1], 0)
    ranks = places.cummax(dim=-1).values
    return torch.empty_like(ranks).scatter_(-1, order, ranks)


def soft_rank(d: Tensor, tau: float | Tensor) -> Tensor:
    """Rank every entry among its row, differentiably.

    r_j = 1 + sum over m != j of sigmoid((d_j - d_m) / tau). As tau -> 0 this is `hard_rank`, but that entries which
    tie share the middle of their ranks instead of the first.

    The n^2 sigmoids of a row are summed through cells (see sigmoid_sums.py), or one by one where that is less work: in
    short rows, or where tau is tiny against the row's range. Either way the error is below 2e-6 n in float32 and
    1e-10 n in float64, and the memory O(size of d). The device is read back once per call.

    Args:
        d: (..., n) distances, finite, floating point. bfloat16 and float16 are computed in float32.
        tau: temperature above 0, in the units of d; a number or a tensor with one element. It gets no gradient.

    Returns:
        (..., n) ranks between 0.5 and n + 0.5, in d's dtype; differentiable once.

    Raises:
        ValueError: d is not a floating-point tensor with at least one axis, or tau is not a finite number above 0.
    """
    # The method depends on the values in d, which torch.compile cannot trace: a compiled loss calls this uncompiled.
    # Not by `disable` as a decorator: it would import the compiler with this module, which takes a second or more.
    if torch.compiler.is_compiling():
        return torch.compiler.disable(_soft_rank)(d, tau)
    return _soft_rank(d, tau)


def _soft_rank(d: Tensor, tau: float | Tensor) -> Tensor:
    if d.ndim == 0 or not d.is_floating_point():
        raise ValueError(f"d must be a floating-point tensor (..., n), got {d.dtype} of shape {tuple(d.shape)}")
    if d.numel() == 0:
        return d.clone()
    rows = d.detach().reshape(-1, d.shape[-1]).to(torch.promote_types(d.dtype, torch.float32))
    low, high = rows.aminmax(dim=-1, keepdim=True)
    scalar = torch.as_tensor(tau, dtype=rows.dtype).detach().to(rows.device).reshape(())
    span, size, temperature = torch.stack([(high - low).max(), torch.maximum(high, -low).max(), scalar]).tolist()
    if not 0 < temperature < math.inf:
        raise ValueError(f"tau must be a finite number above 0, got {temperature}")
    temperature = max(
        temperature, 2**10 * torch.finfo(rows.dtype).tiny
    )  # cells are a little narrower, and must not vanish
    count, n = rows.shape
    return _SoftRank.apply(d, rows, low, temperature, choose_cells(span, size, temperature, count, n, rows.dtype))


class _SoftRank(torch.autograd.Function):
    """The sums and their gradient.

    With s' the sigmoid's derivative, an even function: grad_j = sum over m of s'((d_j - d_m) / tau) (g_j - g_m) / tau.
    """

    @staticmethod
    def forward(ctx: Any, d: Tensor, rows: Tensor, low: Tensor, tau: float, cells: Cells | None) -> Tensor:
        matrix = None
        if cells is not None:
            # float64 keeps equal values from adding up equal roundings; MPS has none.
            precision = rows.dtype if rows.device.type == "mps" else torch.float64
            matrix = cell_sums.interactions(cells, tau, precision, rows.device)
        value, slope = _sums(rows, low, None, tau, cells, matrix)
        ctx.save_for_backward(d, low, slope)
        ctx.method = tau, cells, matrix
        return value.add_(0.5).to(d.dtype).view(d.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        d, low, slope = ctx.saved_tensors
        rows, g = (tensor.reshape(slope.shape).to(slope.dtype) for tensor in (d, grad))
        (weighted,) = _sums(rows, low, g, *ctx.method)
        return torch.addcmul(weighted.neg_(), g, slope).to(d.dtype).view(d.shape), None, None, None, None


def _sums(
    rows: Tensor, low: Tensor, weights: Tensor | None, tau: float, cells: Cells | None, matrix: Tensor | None
) -> list[Tensor]:
    """Sum w_m sigmoid((d_j - d_m) / tau) over all m, and its derivative in d_j, a chunk of rows at a time.

    Args:
        rows: (R, n) distances d, float32 or float64.
        low: (R, 1) the least of each row.
        weights: (R, n) w, or None where every w is 1.
        tau: temperature.
        cells: the cells to sum through, or None to sum one by one.
        matrix: their interactions.

    Returns:
        (R, n) sums and derivatives without weights; the derivatives alone with them.
    """
    count, n = rows.shape
    out = [torch.empty_like(rows) for _ in range(2 if weights is None else 1)]
    chunk = _CPU_CHUNK if rows.device.type == "cpu" else _GPU_CHUNK
    if cells is None:
        height, width = max(1, 4 * chunk // n**2), max(1, 4 * chunk // n)
    else:
        height, width = max(1, chunk // max(n, cells.blocks * cells.inputs // 8)), n
    with torch.autocast(rows.device.type, enabled=False):
        for top in range(0, count, height):
            part = slice(top, top + height)
            w = None if weights is None else weights[part]
            for left in range(0, n, width):
                columns = slice(left, left + width)
                if cells is None or matrix is None:
                    pieces = _direct(rows[part], rows[part, columns], w, tau)
                else:
                    pieces = cell_sums.sums(rows[part], low[part], w, cells, matrix)
                for whole, piece in zip(out, pieces, strict=True):
                    whole[part, columns] = piece
    return out


def _direct(rows: Tensor, targets: Tensor, weights: Tensor | None, tau: float) -> tuple[Tensor, ...]:
    """What `_sums` does, for the columns of `rows` that are `targets`, one sigmoid a pair."""
    sigmoids = (targets[:, :, None] - rows[:, None, :]).div_(tau).sigmoid_()
    values = (sigmoids.sum(-1),) if weights is None else ()
    slopes = torch.addcmul(sigmoids, sigmoids, sigmoids, value=-1, out=sigmoids)
    if weights is not None:
        slopes.mul_(weights[:, None])
    return (*values, slopes.sum(-1).div_(tau))
