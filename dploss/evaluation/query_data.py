"""Which queries an encoder is evaluated with, and which rows these search."""

from dataclasses import dataclass

import numpy as np

from dploss.data import Vectors, open_vectors
from dploss.data.experiment_data import ExperimentData, open_experiment_data
from dploss.data.memmap import MappedRows
from dploss.data.qrels import Qrels, match_qrels, read_qrels
from dploss.data.queries import open_queries
from dploss.data.row_hashes import occur_in
from dploss.errors import InputError, SettingError
from dploss.experiments.record import ExperimentRecord
from dploss.text import counted


@dataclass(frozen=True)
class QuerySources:
    """What a person names.

    Attributes:
        queries: vectors that search; None: the experiment's held-out queries.
        query_column: of these vectors.
        database: vectors to search; None: rows of `data`.
        data: other vectors than the experiment's; None: its own.
        column, limit: of `data`.
        qrels: relevance judgements.
        skip_bad_rows: leave out rows and queries that cannot be used.
    """

    queries: str | None = None
    query_column: str | None = None
    database: str | None = None
    data: str | None = None
    column: str | None = None
    limit: int | None = None
    qrels: str | None = None
    skip_bad_rows: bool = False


@dataclass(frozen=True)
class QueryData:
    """Queries, and the rows that they search.

    Attributes:
        rows: (N, D) float32, all of them searched.
        queries: (Q, D) float32, none of them trained with.
        metric: "euclidean" (of normalised rows and queries under cosine) or "ip".
        train_rows: (n, D), what the encoder was trained on; None where it cannot be opened.
        missing: why.
        source: of the queries.
        held_out: whether they are the experiment's own held-out queries.
        training_queries_left_out: how many of the source's; None where that could not be checked.
        bad_queries: what a person should know of those that cannot be used.
        bad_queries_left_out: how many.
        database: the source of the rows.
        training_rows: how many are among the rows that are searched; None where that could not be checked.
        training_rows_left_out: how many more the source has, which are not searched.
        bad_rows: what a person should know of those that cannot be used.
        bad_rows_left_out: how many.
        qrels: the rows that are relevant to the queries; None without judgements.
        qrels_source: their file.
    """

    rows: np.ndarray
    queries: np.ndarray
    metric: str
    train_rows: np.ndarray | MappedRows | None
    missing: str
    source: str
    held_out: bool
    training_queries_left_out: int | None
    bad_queries: str | None
    bad_queries_left_out: int
    database: str
    training_rows: int | None
    training_rows_left_out: int
    bad_rows: str | None
    bad_rows_left_out: int
    qrels: Qrels | None
    qrels_source: str | None


def open_query_data(record: ExperimentRecord, sources: QuerySources) -> QueryData:
    """Open queries, the rows that they search, and their judgements.

    All rows of a database are searched, and with judgements all rows of the data, for these name them: training rows
    are stored, too. Of other data the rows are searched that the encoder was not trained on.

    Args:
        record: the experiment's.
        sources: what a person names; of an experiment without queries `queries` is one of them.

    Raises:
        InputError: something cannot be read, or does not go together; the experiment's data is gone or changed, and is
            needed.
    """
    own, missing = _opened(record, with_queries=True)
    if own is None and sources.queries is not None:
        own, missing = _opened(record, with_queries=False)
    if own is None and (sources.queries is None or (sources.database is None and sources.data is None)):
        raise InputError(missing)
    vectors = _searched(record, own, sources)
    is_training = _trained_on(own, vectors)
    searched = np.arange(len(vectors.rows))
    is_database = sources.database is not None or _own_database(own, sources) is not None
    if is_training is not None and sources.qrels is None and not is_database:
        searched = np.flatnonzero(~is_training)
    if not len(searched):
        template = "{source}: all of its rows are training rows; name rows to search with {database}"
        raise SettingError(template, source=vectors.source)
    queries, evaluated, trained = _queries(record, own, sources, vectors)
    qrels = None
    if sources.qrels is not None:
        qrels = match_qrels(read_qrels(sources.qrels), queries, evaluated, vectors)
    return QueryData(
        rows=vectors.rows[searched],
        queries=queries.rows[evaluated],
        metric=record.config.row_metric,
        train_rows=None if own is None else own.train_rows,
        missing=missing,
        source=queries.source,
        held_out=sources.queries is None,
        training_queries_left_out=trained,
        bad_queries=queries.left_out,
        bad_queries_left_out=queries.bad.count,
        database=vectors.source,
        training_rows=None if is_training is None else int(is_training[searched].sum()),
        training_rows_left_out=len(vectors.rows) - len(searched),
        bad_rows=vectors.left_out,
        bad_rows_left_out=vectors.bad.count,
        qrels=qrels,
        qrels_source=sources.qrels,
    )


def _opened(record: ExperimentRecord, with_queries: bool) -> tuple[ExperimentData | None, str]:
    """The experiment's own data; None, and why, where it cannot be opened."""
    try:
        return open_experiment_data(record, with_queries=with_queries), ""
    except InputError as error:
        return None, str(error)


def _own_database(own: ExperimentData | None, sources: QuerySources) -> Vectors | None:
    """What the experiment's own queries search, where nothing else is named."""
    if own is None or own.queries is None or sources.queries is not None or sources.data is not None:
        return None
    return own.queries.database


def _searched(record: ExperimentRecord, own: ExperimentData | None, sources: QuerySources) -> Vectors:
    metric, skip = record.config.metric, sources.skip_bad_rows
    if sources.database is not None:
        vectors = open_vectors(sources.database, None, None, metric, skip, fewest=1)
    elif sources.data is not None:
        vectors = open_vectors(sources.data, sources.column, sources.limit, metric, skip, fewest=1)
    else:
        assert own is not None
        return _own_database(own, sources) or own.vectors
    width = vectors.rows.shape[1]
    if width != record.input_dim:
        takes = f"the encoder takes {record.input_dim}"
        raise InputError(f"{vectors.source}: its vectors have {counted(width, 'dimension')}, {takes}")
    return vectors


def _trained_on(own: ExperimentData | None, vectors: Vectors) -> np.ndarray | None:
    """(N,) bool: which rows the encoder was trained on; None where that cannot be said."""
    if own is None:
        return None
    if vectors.fingerprint != own.vectors.fingerprint:
        return occur_in(vectors.rows, own.train_rows)
    # A held-out row may equal a training row, and is none.
    is_training = np.zeros(len(vectors.rows), bool)
    is_training[own.train_index] = True
    return is_training


def _queries(
    record: ExperimentRecord, own: ExperimentData | None, sources: QuerySources, vectors: Vectors
) -> tuple[Vectors, np.ndarray, int | None]:
    """All queries, the sorted indices of those to evaluate with, and how many training queries are left out."""
    config, searches = record.config, None if own is None else own.queries
    stored = [vectors] if own is None or vectors is own.vectors else [own.vectors, vectors]
    if sources.queries is not None:
        queries = open_queries(sources.queries, sources.query_column, config.metric, sources.skip_bad_rows, stored)
        if config.queries is None or searches is None:
            return queries, np.arange(len(queries.rows)), 0 if config.queries is None else None
        evaluated = np.flatnonzero(~occur_in(queries.rows, searches.train_rows))
    else:
        assert config.queries is not None and searches is not None
        skip_bad_rows = config.skip_bad_rows or sources.skip_bad_rows
        queries = open_queries(config.queries, config.query_column, config.metric, skip_bad_rows, stored)
        # Rows of another database may be among them, which shifts their indices.
        held_out = searches.vectors.in_source(searches.held_out_index)
        evaluated = np.flatnonzero(np.isin(queries.in_source(np.arange(len(queries.rows))), held_out))
    if not len(evaluated):
        template = "{source}: no query of it was held out of the training; name others with {queries}"
        raise SettingError(template, source=queries.source)
    return queries, evaluated, len(queries.rows) - len(evaluated)
