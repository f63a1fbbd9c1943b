"""The rows of one space, and which of them are near: in float32, and where that has too few digits in float64."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dploss.data.split import evenly_spaced
from dploss.losses.units import power_of_two

# Distances held at a time, per space: 2**23 of them are 32 MB in float32.
CHUNK = 2**23
# A query's neighbours are searched again in float64 where rounding may be more than this share of a squared distance.
_MOST_NOISE = 1e-3
_CENTRE_ROWS = 256


class Space:
    """The rows of one space, ready to be compared with any of them.

    Args:
        name: of the space, for messages.
        rows: (N, D).
        precise: compute in float64, about the median, which rows far away from all others do not move.

    Raises:
        ValueError: values that are not finite.
    """

    def __init__(self, name: str, rows: Tensor, precise: bool = False) -> None:
        largest = rows.abs().max()
        if not largest.isfinite():
            raise ValueError(f"{name} must be finite")
        self.name, self.given = name, rows
        if precise:
            # MPS has no float64.
            rows = (rows.cpu() if rows.device.type == "mps" else rows).double()
        # Near 1, so that no square leaves the range of float32.
        rows = rows / power_of_two(largest.to(rows))
        # Centred, so that a large common offset costs no digits.
        self.rows = rows - (_median(rows) if precise else rows.mean(dim=0))
        self.norms = self.rows.square().sum(-1)

    def closeness(self, queries: Tensor) -> Tensor:
        """(queries, N): squared distances to all rows, less the query's own squared norm; infinite to itself."""
        to_all = torch.mm(-2 * self.rows[queries], self.rows.T).add_(self.norms)
        to_all[torch.arange(len(queries)), queries] = torch.inf
        return to_all

    def limit(self, queries: Tensor, closeness: Tensor) -> Tensor:
        """(queries, 1): up to where rows count as no farther than one that is this close, (queries,)."""
        return (closeness + self._noise(queries, closeness))[:, None]

    def unsure(self, queries: Tensor, closeness: Tensor) -> Tensor:
        """(queries,): whether rounding may be notable beside the distance to a row that is this close.

        To a query far away from all others they are about equally far: beside the distances among the others, then.
        """
        squared = (closeness + self.norms[queries]).clamp(max=self.norms.median())
        return self._noise(queries, closeness) > _MOST_NOISE * squared

    def _noise(self, queries: Tensor, closeness: Tensor) -> Tensor:
        """How far apart the matrix product may put rows of equal distance that are this close."""
        norms = self.norms[queries]
        return 16 * torch.finfo(norms.dtype).eps * (2 * norms + closeness)


def sum_over_queries(
    spaces: Sequence[Space], measure: Callable[[Sequence[Space], Tensor], tuple[Tensor, Tensor]]
) -> list[int]:
    """Measure every row as a query, and add up; queries that float32 is unsure of are measured in float64.

    Args:
        spaces: of the same rows.
        measure: spaces and (q,) queries -> (n, q) what is added up, and (q,) whether it is unsure.
    """
    rows = len(spaces[0].rows)
    step = max(1, CHUNK // rows)
    total = torch.zeros((), dtype=torch.int64)
    unsure = []
    for queries in torch.arange(rows).split(step):
        values, again = (one.cpu() for one in measure(spaces, queries))
        total = total + values[:, ~again].sum(-1)
        unsure.append(queries[again])
    again = torch.cat(unsure)
    if len(again):
        precise = [Space(space.name, space.given, precise=True) for space in spaces]
        for queries in again.split(step):
            total = total + measure(precise, queries)[0].cpu().sum(-1)
    return total.tolist()


def _median(rows: Tensor) -> Tensor:
    """(D,) median of each dimension, over some evenly spaced rows."""
    chosen = torch.from_numpy(evenly_spaced(len(rows), _CENTRE_ROWS)).to(rows.device)
    return rows[chosen].median(dim=0).values


def as_rows(name: str, values: np.ndarray | Tensor) -> Tensor:
    """(N, D) values of any real dtype as a float32 tensor, float64 as float64.

    Raises:
        ValueError: values is no matrix.
    """
    rows = torch.as_tensor(values)
    if rows.ndim != 2:
        raise ValueError(f"{name} must be a matrix (rows, dimensions), got shape {tuple(rows.shape)}")
    return rows.detach().to(torch.float64 if rows.dtype == torch.float64 else torch.float32)
