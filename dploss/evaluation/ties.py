"""Ties: rows whose nearest neighbours are not determined, and of which recall therefore says little."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dploss.evaluation.space import Space, as_rows, over_queries

_NOTABLE_SHARE = 0.1


@dataclass(frozen=True)
class Ties:
    """How many rows have nearest neighbours that are not determined: recall counts any of those that tie.

    Attributes:
        tied: by k, rows that have more than k others within the distance of their k-th nearest.
        twins: rows that are equal to another.
        rows: how many were looked at.
    """

    tied: dict[int, int]
    twins: int
    rows: int

    def warning(self, kind: str) -> str | None:
        """A line for a person where over a tenth of the rows tie or have twins; None where fewer do.

        Args:
            kind: of rows, in the plural.
        """
        k, tied = max(self.tied.items(), key=lambda item: item[1])
        if max(tied, self.twins) <= _NOTABLE_SHARE * self.rows:
            return None
        return (
            f"{tied:,} of {self.rows:,} {kind} have more than {k} nearest neighbours, for some are equally far, and "
            f"{self.twins:,} are identical to another row: recall counts any that tie, and says little of such rows"
        )


def count_ties(rows: np.ndarray | Tensor, ks: Sequence[int], metric: str = "euclidean") -> Ties:
    """Count the rows of a sample that have ties; distances are compared in float64.

    Args:
        rows: (N, D) vectors, of which recall is measured.
        ks: neighbours, each within 1 and N - 1.
        metric: "euclidean" or "ip".

    Raises:
        ValueError: rows is no matrix, or has values that are not finite.
    """

    def tied(spaces: Sequence[Space], queries: Tensor) -> tuple[Tensor, Tensor]:
        (space,) = spaces
        closeness = space.closeness(queries)
        nearest = closeness.topk(max(ks), largest=False).values
        within = [(closeness <= space.limit(queries, nearest[:, k - 1])).sum(-1) > k for k in ks]
        return torch.stack(within), torch.zeros(len(queries), dtype=torch.bool)

    def has_twin(spaces: Sequence[Space], queries: Tensor) -> tuple[Tensor, Tensor]:
        (space,) = spaces
        nearest = space.closeness(queries).min(dim=1).values
        twins = nearest[:, None] <= space.limit(queries, -space.norms[queries])
        return twins.T, torch.zeros(len(queries), dtype=torch.bool)

    # With the few digits of float32, rows that are merely near would tie.
    given = as_rows("rows", rows)
    counts = over_queries([Space("rows", given, metric=metric, precise=True)], tied).sum(dim=1).tolist()
    twins = int(over_queries([Space("rows", given, precise=True)], has_twin).sum())
    return Ties(dict(zip(ks, counts, strict=True)), twins, len(rows))
