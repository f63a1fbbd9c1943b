"""Sets of vectors with search queries of their own, as make_queries.py writes them; the built-in set is one."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dploss.data import BUILTIN, builtin, open_vectors
from dploss.errors import InputError
from dploss.files.untrusted import decoding, regular_file


class RetrievalSet(NamedTuple):
    """Known-item search: to each query one row is relevant.

    Attributes:
        rows: (N, D) float32, the vectors to search.
        queries: (Q, D) float32.
        relevant: (Q,) int64, the row that is relevant to each query, counted from 0.
    """

    rows: np.ndarray
    queries: np.ndarray
    relevant: np.ndarray


def load_set(source: str | Path = BUILTIN) -> RetrievalSet:
    """Load a set.

    Args:
        source: "builtin", or the vectors of a set, NAME.parquet, which has its queries and qrels beside it.

    Raises:
        InputError: a file is missing or cannot be read, queries and rows differ in dimensions, or the qrels are not
            those of queries and rows.
    """
    vectors = builtin.VECTORS if source == BUILTIN else Path(source)
    queries_file, qrels_file = builtin.query_files(vectors)
    rows, queries = open_vectors(vectors).rows, open_vectors(queries_file).rows
    if rows.shape[1] != queries.shape[1]:
        raise InputError(f"{queries_file}: queries have {queries.shape[1]} dimensions, the rows {rows.shape[1]}")
    with decoding(regular_file(qrels_file), "not qrels, whose ids are numbers of rows"):
        qrels = np.loadtxt(qrels_file, np.int64, delimiter="\t", skiprows=1, ndmin=2)
        query, relevant = qrels[:, 0], qrels[:, 1]
    if not np.array_equal(query, np.arange(len(queries))) or not np.all((relevant >= 0) & (relevant < len(rows))):
        raise InputError(f"{qrels_file}: not one row of {vectors.name} for each query of {queries_file.name}, in order")
    return RetrievalSet(rows, queries, relevant)
