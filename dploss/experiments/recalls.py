"""Recalls, with what they mean little without."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recall:
    """A recall@k with the k and the number of rows without which the value means little.

    Attributes:
        value: 0..1, 1 is perfect.
        k: neighbours per query.
        rows: rows searched; recall falls as rows are added.
        standard_error: of the value over the queries; None where it is not known.
        queries: how many searched; None: these are the rows themselves.
    """

    value: float
    k: int
    rows: int
    standard_error: float | None = field(default=None, compare=False)
    queries: int | None = None

    def __str__(self) -> str:
        of_queries = "" if self.queries is None else f" of {self.queries:,} queries"
        return f"recall@{self.k} {self.value:.4f}{of_queries} on {self.rows:,} rows"


@dataclass(frozen=True)
class MeasuredRecall:
    """The recall of the encoder in one checkpoint.

    Attributes:
        epoch: epochs it was trained for.
        recall, others: on held-out rows; the others at other k.
    """

    epoch: float
    recall: Recall
    others: tuple[Recall, ...] = ()
