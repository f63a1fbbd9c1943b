"""Queries: vectors that search among rows, and are none of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dploss.data import builtin
from dploss.data.memmap import select
from dploss.data.row_hashes import occur_in
from dploss.data.vectors import BUILTIN, Vectors, fingerprint_of, local_name, open_vectors, read_matrix
from dploss.errors import InputError
from dploss.text import counted

_QUERIES, _QRELS = builtin.query_files()


def query_file(source: str) -> str:
    """The file that queries are read from; "builtin" are those of the built-in rows."""
    return str(_QUERIES) if source == BUILTIN else source


def qrels_file(source: str) -> Path:
    """The file that relevance judgements are read from; "builtin" are those of the built-in queries.

    Raises:
        InputError: the name is empty, a URL or a name of the Hugging Face Hub.
    """
    return _QRELS if source == BUILTIN else Path(local_name(source))


def open_queries(
    source: str, column: str | None, metric: str, skip_bad_rows: bool, searched: Sequence[Vectors]
) -> Vectors:
    """Read queries, one or more, and check them.

    Args:
        source: as for `open_vectors`; "builtin": those of the built-in rows.
        column: of the vectors.
        metric: "euclidean", "cosine", which normalises every query, or "ip".
        skip_bad_rows: leave out queries that cannot be used.
        searched: what they search, and what is stored beside it. A query that equals one of these rows to the last bit
            cannot be used: its nearest row is itself, and proves nothing.

    Returns:
        The queries; their fingerprint is of those that are used.

    Raises:
        InputError: they cannot be read, have other dimensions than the rows, cannot be used and are not to be left out,
            or none is left.
    """
    name = query_file(source)
    queries = open_vectors(name, column, metric=metric, skip_bad_rows=skip_bad_rows, fewest=1)
    for rows in searched:
        check_width(source, queries, rows)
        queries = _without_copies(queries, name, column, metric, skip_bad_rows, rows)
    return replace(queries, source=BUILTIN) if source == BUILTIN else queries


def check_width(source: str, found: Vectors, rows: Vectors) -> None:
    """Refuse vectors of other dimensions than the rows.

    Raises:
        InputError: they are.
    """
    width, wanted = found.rows.shape[1], rows.rows.shape[1]
    if width != wanted:
        raise InputError(f"{source}: its vectors have {counted(width, 'dimension')}, those of {rows.source} {wanted}")


def _without_copies(
    queries: Vectors, name: str, column: str | None, metric: str, skip_bad_rows: bool, rows: Vectors
) -> Vectors:
    are_rows = occur_in(queries.rows, rows.rows)
    if not are_rows.any():
        return queries
    others = np.flatnonzero(~are_rows)
    queries.bad.add_copies(queries.in_source(np.flatnonzero(are_rows)), rows.source)
    if not len(others):
        raise InputError(f"{name}: {queries.bad}; none is left")
    if not skip_bad_rows:
        raise queries.bad.error(name, "{skip_bad_rows} leaves them out")
    kept = queries.in_source(others)
    # Of the rows as they are read, before they are normalised.
    fingerprint = fingerprint_of(name, select(read_matrix(local_name(name), column), kept), zeros=metric != "cosine")
    return replace(queries, rows=select(queries.rows, others), fingerprint=fingerprint, kept=kept)
