"""Relevance judgements (qrels): which rows answer which queries, in TREC's form, BEIR's, or a parquet file."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dploss.data.formats.csv_layout import is_number
from dploss.data.formats.nested import text_columns_of, unwrapped
from dploss.data.formats.tables import open_table
from dploss.data.queries import qrels_file, query_file
from dploss.data.texts import column_names, read_texts
from dploss.data.vectors import Vectors
from dploss.errors import InputError
from dploss.files.compressed import open_bytes
from dploss.files.untrusted import decoding, regular_file
from dploss.text import counted

_QUERY_IDS = ("query-id", "query_id", "qid")
_ROW_IDS = ("corpus-id", "corpus_id", "doc-id", "doc_id", "docid", "passage_id", "pid")
_SCORES = ("score", "relevance", "rel", "label")
# Of a file of vectors: what a column of its own ids is also called.
_IDS = ("_id", "id")
_TROUBLE = "not readable judgements"


@dataclass(frozen=True)
class Judgements:
    """What a file of qrels says, in its order.

    Attributes:
        source: the file.
        query_ids, row_ids: as text.
        scores: (n,) float64; above 0 is relevant.
        places: where each is: "line 3".
    """

    source: str
    query_ids: list[str]
    row_ids: list[str]
    scores: np.ndarray
    places: list[str]


@dataclass(frozen=True)
class Qrels:
    """The relevant rows of queries.

    Attributes:
        query: (n,) int64 indices of the queries that are evaluated, sorted.
        row: (n,) int64 indices of rows; no pair of both occurs twice.
        gain: (n,) float64 scores above 0.
        unused: how many judgements are of a query or a row that is left out.
    """

    query: np.ndarray
    row: np.ndarray
    gain: np.ndarray
    unused: int


def read_qrels(source: str) -> Judgements:
    """Read a file of qrels.

    Args:
        source: "builtin", those of the built-in queries; lines of TREC, "query 0 row relevance" between blanks or tabs;
            BEIR's .tsv, whose first line is query-id, corpus-id and score; or a .parquet of such columns. Lines may be
            compressed, as .gz or .zst.

    Raises:
        InputError: no such file, it is empty, a line that cannot be read, or a pair with two scores.
    """
    path = regular_file(qrels_file(source))
    found: dict[tuple[str, str], tuple[float, str]] = {}
    for place, (query, row, score) in _parquet(path) if path.suffix.lower() == ".parquet" else _lines(path):
        if not (is_number(score) and math.isfinite(float(score))):
            raise InputError(f"{path}: {place} cannot be read: its relevance is {score[:40]!r}, not a number")
        known, first = found.setdefault((query, row), (float(score), place))
        if known != float(score):
            raise InputError(f"{path}: {place} judges query {query!r} and row {row!r} otherwise than {first} does")
    if not found:
        raise InputError(f"{path}: there are no judgements in it")
    queries, rows = zip(*found, strict=True)
    scores, places = zip(*found.values(), strict=True)
    return Judgements(str(path), list(queries), list(rows), np.array(scores), list(places))


def match_qrels(judgements: Judgements, queries: Vectors, evaluated: np.ndarray, rows: Vectors) -> Qrels:
    """Find the queries and rows that judgements name.

    An id is a value of the file's column of ids, where it has one that knows any of these ids; else a row's number in
    its file, counted from 0, with rows that are left out.

    Args:
        judgements: of these queries and rows.
        queries: all of a file.
        evaluated: (q,) sorted indices of those that are evaluated.
        rows: all of a file; all are searched.

    Raises:
        InputError: ids that name no query or no row, or several rows; or no evaluated query has a relevant row.
    """
    query = _indices(judgements, judgements.query_ids, "query", queries, query_file(queries.source), _QUERY_IDS)
    row = _indices(judgements, judgements.row_ids, "row", rows, rows.source, _ROW_IDS)
    place = np.full(len(queries.rows) + 1, -1)
    place[evaluated] = np.arange(len(evaluated))
    # What is left out has the index -1, which is the last.
    query = place[query]
    used = (query >= 0) & (row >= 0)
    relevant = np.flatnonzero(used & (judgements.scores > 0))
    if not len(relevant):
        raise InputError(f"{judgements.source}: no query that is evaluated has a relevant row (a score above 0)")
    order = relevant[np.lexsort((row[relevant], query[relevant]))]
    return Qrels(query[order], row[order], judgements.scores[order], int((~used).sum()))


def _lines(path: Path) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Where each judgement is, and its query, row and score."""
    places: list[int] = []
    with decoding(path, _TROUBLE), open_bytes(path) as file:
        for number, line in enumerate(io.TextIOWrapper(file, "utf-8-sig"), start=1):
            if not line.strip():
                continue
            if not places:
                names = [name.strip().lower() for name in line.split("\t" if "\t" in line else None)]
                heads = [_named(names, wanted) for wanted in (_QUERY_IDS, _ROW_IDS, _SCORES)]
                is_headed = None not in heads
                separator, width = ("\t" if "\t" in line else None, len(names)) if is_headed else (None, 4)
                places = [names.index(str(head)) for head in heads] if is_headed else [0, 2, 3]
                if is_headed:
                    continue
            fields = [field.strip() for field in line.split(separator)]
            if len(fields) != width:
                form = "as its first line has" if separator else "query, 0, row and relevance"
                raise InputError(
                    f"{path}: line {number} cannot be read: {counted(len(fields), 'field')}, not {width}, {form}"
                )
            query, row, score = (fields[place] for place in places)
            yield f"line {number}", (query, row, score)


def _parquet(path: Path) -> Iterator[tuple[str, tuple[str, str, str]]]:
    with decoding(path, _TROUBLE):
        table = open_table(path)
        names, columns = list(text_columns_of(table.schema)), []
        for wanted in (_QUERY_IDS, _ROW_IDS, _SCORES):
            name = _named(names, wanted)
            if name is None:
                raise InputError(f"{path}: no column {' or '.join(wanted)} among {', '.join(names[:20]) or 'none'}")
            chunks = [unwrapped(str(path), chunk, 0).to_pylist() for chunk in table.values(name)]
            columns.append([value for chunk in chunks for value in chunk])
    for row, values in enumerate(zip(*columns, strict=True)):
        if None in values:
            raise InputError(f"{path}: row {row} cannot be read: a value is null")
        query, found, score = map(str, values)
        yield f"row {row}", (query, found, score)


def _named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of the wanted names that is there, in whatever case."""
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[name] for name in wanted if name in by_lower), None)


def _indices(
    judgements: Judgements, ids: Sequence[str], kind: str, vectors: Vectors, file: str, names: Sequence[str]
) -> np.ndarray:
    """(n,) int64 indices of the vectors that ids name; -1 for those that are left out."""
    n_source = len(vectors.rows) if vectors.kept is None else vectors.bad.n_rows
    numbers, where = _numbers(ids, file, n_source, names)
    unknown = [place for place, number in enumerate(numbers) if number is None]
    if unknown:
        n_ids, first = len({ids[place] for place in unknown}), unknown[0]
        raise InputError(
            f"{judgements.source}: {counted(n_ids, 'id')} of it {'names' if n_ids == 1 else 'name'} no {kind} of "
            f"{vectors.source} ({where}); the first, in {judgements.places[first]}, is {ids[first]!r}"
        )
    index = np.full(n_source, -1)
    index[vectors.in_source(np.arange(len(vectors.rows)))] = np.arange(len(vectors.rows))
    return index[np.array(numbers, np.int64)]


def _numbers(ids: Sequence[str], file: str, n_source: int, names: Sequence[str]) -> tuple[list[int | None], str]:
    """The number in its file of each vector that an id names, None of none; and how ids are understood, in words."""
    there = column_names(file)
    for column in filter(None, (_named(there, [name]) for name in (*names, *_IDS))):
        values = read_texts(file, np.arange(n_source), column)
        number = dict(zip(values, range(n_source), strict=True))
        found = [number.get(one) for one in ids]
        if all(one is None for one in found):
            continue
        # The one has the last of equal ids, the other the first.
        first = dict(zip(reversed(values), reversed(range(n_source)), strict=True))
        twice = next((one for one, place in zip(ids, found, strict=True) if place != first.get(one)), None)
        if twice is not None:
            raise InputError(f"{file}: its column {column} has the id {twice!r} more than once")
        return found, f"by its column {column}"
    number = {str(place): place for place in range(n_source)}
    return [number.get(one) for one in ids], f"rows are 0 to {n_source - 1:,}"
