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
        queries: (N, D), what the same rows are as queries; None: as in `rows`.
        precise: compute in float64, about the median, which rows far away from all others do not move.

    Raises:
        ValueError: values that are not finite.
    """

    def __init__(self, name: str, rows: Tensor, queries: Tensor | None = None, precise: bool = False) -> None:
        given = rows if queries is None else torch.cat([rows, queries])
        largest = given.abs().max()
        if not largest.isfinite():
            raise ValueError(f"{name} must be finite")
        self.name, self.given = name, (rows, queries)
        if precise:
            # MPS has no float64.
            given = (given.cpu() if given.device.type == "mps" else given).double()
        # Near 1, so that no square leaves the range of float32.
        given = given / power_of_two(largest.to(given))
        # Centred, so that a large common offset costs no digits.
        given = given - (_median(given) if precise else given.mean(dim=0))
        self.rows, self.queries = given[: len(rows)], given[-len(rows) :]
        self.norms = self.rows.square().sum(-1)
        self.query_norms = self.norms if queries is None else self.queries.square().sum(-1)

    def closeness(self, queries: Tensor) -> Tensor:
        """(queries, N): squared distances to all rows, less the query's own squared norm; infinite to itself."""
        to_all = torch.mm(-2 * self.queries[queries], self.rows.T).add_(self.norms)
        to_all[torch.arange(len(queries)), queries] = torch.inf
        return to_all

    def limit(self, queries: Tensor, closeness: Tensor) -> Tensor:
        """(queries, 1): up to where rows count as no farther than one that is this close, (queries,)."""
        return (closeness + self._noise(queries, closeness))[:, None]

    def unsure(self, queries: Tensor, closeness: Tensor) -> Tensor:
        """(queries,): whether rounding may be notable beside the distance to a row that is this close.

        To a query far away from all others they are about equally far: beside the distances among the others, then.
        """
        squared = (closeness + self.query_norms[queries]).clamp(max=self.norms.median())
        return self._noise(queries, closeness) > _MOST_NOISE * squared

    def _noise(self, queries: Tensor, closeness: Tensor) -> Tensor:
        """How far apart the matrix product may put rows of equal distance that are this close."""
        norms = self.query_norms[queries]
        return 16 * torch.finfo(norms.dtype).eps * (2 * norms + closeness)


def over_queries(
    spaces: Sequence[Space], measure: Callable[[Sequence[Space], Tensor], tuple[Tensor, Tensor]]
) -> Tensor:
    """Measure every row as a query; queries that float32 is unsure of are measured in float64.

    Args:
        spaces: of the same rows.
        measure: spaces and (q,) queries -> (n, q) what is measured, and (q,) whether it is unsure.

    Returns:
        (n, N) int64.
    """
    rows = len(spaces[0].rows)
    step = max(1, CHUNK // rows)
    found, unsure = [], []
    for queries in torch.arange(rows).split(step):
        values, again = (one.cpu() for one in measure(spaces, queries))
        found.append(values.long())
        unsure.append(queries[again])
    measured, again = torch.cat(found, dim=1), torch.cat(unsure)
    if len(again):
        precise = [Space(space.name, *space.given, precise=True) for space in spaces]
        for queries in again.split(step):
            measured[:, queries] = measure(precise, queries)[0].cpu().long()
    return measured


def _median(rows: Tensor) -> Tensor:
    """(D,) median of each dimension, over some evenly spaced rows."""
    chosen = torch.from_numpy(evenly_spaced(len(rows), _CENTRE_ROWS)).to(rows.device)
    return rows[chosen].median(dim=0).values


def as_rows(name: str, values: np.ndarray | Tensor) -> Tensor:
    """(N, D) values of any real dtype as a float32 tensor, float64 as float64.

    Raises:
        TypeError: values are no real numbers.
        ValueError: values is no matrix.
    """
    given = values if isinstance(values, Tensor) else np.asarray(values)
    if given.is_complex() if isinstance(given, Tensor) else given.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be a matrix of real numbers, got {given.dtype}")
    rows = torch.as_tensor(given)
    if rows.ndim != 2:
        raise ValueError(f"{name} must be a matrix (rows, dimensions), got shape {tuple(rows.shape)}")
    return rows.detach().to(torch.float64 if rows.dtype == torch.float64 else torch.float32)
