"""Sums of sigmoids over a row, in O(n) a row instead of O(n^2): cell-wise interpolation in one dimension.

A row is cut into cells about as wide as tau. Between two cells, sigmoid((a - b) / tau) is a short polynomial in
either argument. So each cell is summed up in a few moments, one matrix product with a matrix that all rows share
turns moments into polynomial coefficients at the target cells, and every value evaluates the polynomial of its cell.
Cells far to the left count as exactly 1, cells far to the right as 0. This is the idea of Greengard & Rokhlin,
"A fast algorithm for particle simulations" (Journal of Computational Physics 73, 1987).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Distance, in tau, from which a sigmoid is taken as 0 or 1.
_SATURATED = {torch.float32: 15.0, torch.float64: 32.0}
# Error, in 1 / tau, allowed in the sigmoid's slope, which is at most 1/4; the sigmoid itself is a digit or two better.
_TOLERANCE = {torch.float32: 2e-6, torch.float64: 2e-9}
# Widest cells, 2**this tau: the terms that wider ones need would lose digits between samples and powers.
_COARSEST = {torch.float32: 2, torch.float64: 0}
# Nanoseconds measured on a CPU; only their ratios matter, and only for the choice of method: of a sigmoid in the
# direct sum, a polynomial term at a value, an input of the matrix product, a multiply-add of it, a whole call.
PAIR_COST, _TERM, _INPUT, _MULTIPLY, _CALL = 0.5, 2.0, 0.7, 0.03, 3e5


class Cells(NamedTuple):
    """How a row is cut: cells of equal width, grouped in blocks.

    Attributes:
        width: of a cell; a power of two, so that a value splits into cell and offset without rounding.
        terms: of the polynomial in a cell.
        per_block: cells in a block.
        blocks: in a row; one that holds the row, or several wide enough that only neighbours are not saturated.
    """

    width: float
    terms: int
    per_block: int
    blocks: int

    @property
    def reach(self) -> int:
        """How many blocks to either side a block interacts with: 0 where it is alone."""
        return int(self.blocks > 1)

    @property
    def nodes(self) -> int:
        """Moments, or polynomial coefficients, of a block."""
        return self.terms * self.per_block

    @property
    def inputs(self) -> int:
        """Moments that act on a block: its own and its neighbours'."""
        return (1 + 2 * self.reach) * self.nodes


def choose_cells(span: float, size: float, tau: float, rows: int, n: int, dtype: torch.dtype) -> Cells | None:
    """Find the cells that cost least.

    Args:
        span: largest range of a row.
        size: largest absolute value.
        tau: temperature, in the same units.
        rows: number of rows.
        n: length of a row.
        dtype: float32 or float64.

    Returns:
        The cells, or None where summing one by one costs less.
    """
    best, least = None, PAIR_COST * rows * float(n) ** 2
    for exponent in range(-4, _COARSEST[dtype] + 1):
        width = 2.0 ** (math.floor(math.log2(tau)) + exponent)
        # Cells are counted in float32, which is exact below 2**24.
        if not (span / width < 2.0**20 and size / width < 2.0**100):
            continue
        count = int(span / width) + 2
        per_block = math.ceil(_SATURATED[dtype] * tau / width)
        blocks = math.ceil(count / per_block)
        if blocks <= 3:
            per_block, blocks = count, 1
        cells = Cells(width, _terms(width / tau, _TOLERANCE[dtype]), per_block, blocks)
        per_row = _TERM * cells.terms * n + cells.blocks * cells.inputs * (_INPUT + _MULTIPLY * cells.nodes)
        if _CALL + rows * per_row < least:
            best, least = cells, _CALL + rows * per_row
    return best


def _terms(width: float, tolerance: float) -> int:
    """Number of polynomial terms that reach the tolerance on a cell `width` tau wide.

    The sigmoid's poles nearest the real line, at +-i pi tau, bound the Bernstein ellipse around a cell and so the rate
    of convergence (Trefethen, "Approximation Theory and Approximation Practice", chapter 8); a slope loses one order.
    """
    pole = 2 * math.pi / width
    rate = pole + math.sqrt(1 + pole**2)
    terms = 2
    while terms * rate ** (1 - terms) >= tolerance:
        terms += 1
    return terms


def interactions(cells: Cells, tau: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix from moments to polynomial coefficients.

    Returns:
        (inputs, nodes); rows by source block, power, source cell; columns by power, target cell. Offsets count in cell
        widths from a cell's middle.
    """
    p = cells.terms
    angles = (torch.arange(p, dtype=torch.float64) + 0.5) * (math.pi / p)
    points = angles.cos() / 2
    to_powers = torch.linalg.inv(torch.vander(points, increasing=True))
    farthest = (1 + cells.reach) * cells.per_block - 1
    apart = torch.arange(-farthest, farthest + 1, dtype=torch.float64)
    samples = torch.sigmoid((points[:, None, None] - points[:, None] + apart) * (cells.width / tau))
    table = torch.einsum("bi,ijs,aj->abs", to_powers, samples, to_powers)
    table = table.to(dtype).to(device, non_blocking=True)
    # Entries depend on target cell - source cell alone: windows of the table run over the target cells, and backwards
    # over the source cells.
    pairs = table.unfold(2, cells.per_block, 1).flip(2).unflatten(2, (1 + 2 * cells.reach, cells.per_block))
    return pairs.permute(2, 0, 3, 1, 4).reshape(cells.inputs, cells.nodes)


def sums(d: Tensor, low: Tensor, weights: Tensor | None, cells: Cells, matrix: Tensor) -> tuple[Tensor, ...]:
    """Sum w_m sigmoid((d_j - d_m) / tau) over all m, and its derivative in d_j.

    Args:
        d: (R, n) values.
        low: (R, 1) the least of each row.
        weights: (R, n) w, or None where every w is 1.
        cells: the cut, which fixes tau together with the matrix.
        matrix: `interactions` of the cells.

    Returns:
        (R, n) sums and derivatives without weights; the derivatives alone with them.
    """
    scaled = d / cells.width
    cell = scaled.floor()
    offset = scaled.sub_(cell).sub_(0.5)
    cell.sub_((low / cells.width).floor_())
    place = cell.long()
    if cells.reach:
        # A block's cells stand behind all powers of the blocks before.
        place += cell.add_(0.5).div_(cells.per_block).long().mul_(cells.nodes - cells.per_block)

    moments = _moments(place, offset, weights, cells, matrix.dtype)
    # Blocks as rows of one matrix: a product per row of d would be many small ones.
    local = (moments.unfold(1, cells.inputs, cells.nodes).reshape(-1, cells.inputs) @ matrix).unflatten(0, (len(d), -1))
    if weights is None and cells.reach:
        counts = moments.unflatten(1, (-1, cells.terms, cells.per_block))[:, :, 0].sum(-1)
        local[:, :, : cells.per_block] += (counts.cumsum(1) - counts)[:, : cells.blocks, None]
    if weights is not None:
        powers = torch.arange(cells.terms, dtype=local.dtype, device=d.device)
        local.unflatten(2, (cells.terms, cells.per_block)).mul_(powers[:, None] / cells.width)
    local = local.flatten(1).to(d.dtype)

    def coefficient(power: int) -> Tensor:
        return local[:, power * cells.per_block :].gather(1, place)

    # Horner's scheme; with weights the coefficients are the derivative's, one power up.
    slope = coefficient(cells.terms - 1)
    if weights is not None:
        for power in range(cells.terms - 2, 0, -1):
            slope = coefficient(power).addcmul_(slope, offset)
        return (slope,)
    value = coefficient(cells.terms - 2).addcmul_(slope, offset)
    for power in range(cells.terms - 3, -1, -1):
        slope = torch.addcmul(value, slope, offset, out=slope)
        value = coefficient(power).addcmul_(value, offset)
    return value, slope.div_(cells.width)


def _moments(place: Tensor, offset: Tensor, weights: Tensor | None, cells: Cells, dtype: torch.dtype) -> Tensor:
    """(R, blocks x nodes) sums of w offset^power over every cell; where blocks reach, an empty one at either end."""
    offset = offset.to(dtype)
    term = torch.ones_like(offset) if weights is None else weights.to(dtype, copy=True)
    moments = offset.new_zeros(len(place), (cells.blocks + 2 * cells.reach) * cells.nodes)
    first = cells.reach * cells.nodes
    for power in range(cells.terms):
        if power:
            term.mul_(offset)
        moments[:, first + power * cells.per_block :].scatter_add_(1, place, term)
    return moments
