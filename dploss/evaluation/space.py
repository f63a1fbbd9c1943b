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
    """The rows of one space, and the queries that search among them.

    Args:
        name: of the space, for messages.
        rows: (N, D).
        queries: (Q, D); None: the rows themselves.
        metric: "euclidean", the least distance is nearest, or "ip", the largest inner product is.
        are_rows: whether query i is row i, which then is not its own neighbour; Q is N.
        precise: compute in float64, about the median, which rows far away from all others do not move.

    Raises:
        ValueError: values that are not finite.
    """

    def __init__(
        self,
        name: str,
        rows: Tensor,
        queries: Tensor | None = None,
        metric: str = "euclidean",
        are_rows: bool = True,
        precise: bool = False,
    ) -> None:
        self.name, self.metric, self.are_rows, self.given = name, metric, are_rows, (rows, queries)
        given = rows if queries is None else torch.cat([rows, queries])
        largest = given.abs().max()
        if not largest.isfinite():
            raise ValueError(f"{name} must be finite")
        if precise:
            # MPS has no float64.
            given = (given.cpu() if given.device.type == "mps" else given).double()
        # Near 1, so that no square leaves the range of float32.
        given = given / power_of_two(largest.to(given))
        # Centred, so that a large common offset costs no digits. Inner products with rows that are all moved differ by
        # what is the same for all rows of a query; a query that is moved is another one.
        centre = _median(given[: len(rows)]) if precise else given[: len(rows)].mean(dim=0)
        self.rows = given[: len(rows)] - centre
        self.queries = given[-len(given if queries is None else queries) :]
        if metric == "euclidean":
            self.queries = self.queries - centre
        self.norms = self.rows.square().sum(-1)
        self.query_norms = self.queries.square().sum(-1)

    def precisely(self) -> "Space":
        """The same in float64."""
        return Space(self.name, *self.given, self.metric, self.are_rows, precise=True)

    def closeness(self, queries: Tensor) -> Tensor:
        """(queries, N), the least is nearest: squared distances, less the query's own squared norm; inf to itself.

        Of inner products -2 times these.
        """
        to_all = torch.mm(-2 * self.queries[queries], self.rows.T)
        if self.metric == "euclidean":
            to_all += self.norms
        if self.are_rows:
            to_all[torch.arange(len(queries)), queries] = torch.inf
        return to_all

    def limit(self, queries: Tensor, closeness: Tensor) -> Tensor:
        """(queries, 1): up to where rows count as no farther than one that is this close, (queries,)."""
        return (closeness + self._noise(queries, closeness))[:, None]

    def unsure(self, queries: Tensor, closeness: Tensor) -> Tensor:
        """(queries,): whether rounding may be notable beside the distance to a row that is this close.

        To a query far away from all others they are about equally far: beside the distances among the others, then.
        """
        norms = self.query_norms[queries]
        if self.metric == "euclidean":
            notable = (closeness + norms).clamp(max=self.norms.median())
        else:
            notable = (norms * self.norms.median()).sqrt()
        return self._noise(queries, closeness) > _MOST_NOISE * notable

    def _noise(self, queries: Tensor, closeness: Tensor) -> Tensor:
        """How far apart the matrix product may put rows of equal distance that are this close."""
        norms = self.query_norms[queries]
        summed = 2 * norms + closeness if self.metric == "euclidean" else 2 * (norms * self.norms.max()).sqrt()
        return 16 * torch.finfo(norms.dtype).eps * summed


def over_queries(
    spaces: Sequence[Space], measure: Callable[[Sequence[Space], Tensor], tuple[Tensor, Tensor]]
) -> Tensor:
    """Measure every query; queries that float32 is unsure of are measured in float64.

    Args:
        spaces: of the same rows and queries.
        measure: spaces and (q,) queries -> (n, q) what is measured, and (q,) whether it is unsure.

    Returns:
        (n, Q) int64.
    """
    step = max(1, CHUNK // len(spaces[0].rows))
    found, unsure = [], []
    for queries in torch.arange(len(spaces[0].queries)).split(step):
        values, again = (one.cpu() for one in measure(spaces, queries))
        found.append(values.long())
        unsure.append(queries[again])
    measured, again = torch.cat(found, dim=1), torch.cat(unsure)
    if len(again):
        precise = [space.precisely() for space in spaces]
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
