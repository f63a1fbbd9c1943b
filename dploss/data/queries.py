"""Queries: vectors that search among rows, and are none of them."""

from collections.abc import Sequence

from dploss.data.vectors import Vectors, open_vectors
from dploss.errors import InputError
from dploss.text import counted


def open_queries(
    source: str, column: str | None, metric: str, skip_bad_rows: bool, searched: Sequence[Vectors]
) -> Vectors:
    """Placeholder."""
    queries = open_vectors(source, column, None, metric, skip_bad_rows)
    check_width(source, queries, searched[0])
    return queries


def check_width(source: str, found: Vectors, rows: Vectors) -> None:
    """Refuse."""
    if found.rows.shape[1] != rows.rows.shape[1]:
        raise InputError(
            f"{source}: its vectors have {counted(found.rows.shape[1], 'dimension')}, the rows have {rows.rows.shape[1]}"
        )
