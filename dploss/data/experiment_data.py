"""The data of an experiment: rows and queries, opened and split, for a training or again as they were for it."""

from dataclasses import dataclass

import numpy as np

from dploss.config import TrainConfig
from dploss.data.images import open_images
from dploss.data.memmap import MappedRows, select
from dploss.data.queries import check_width, open_queries
from dploss.data.split import split_queries, split_rows
from dploss.data.vectors import Vectors, open_vectors
from dploss.errors import InputError
from dploss.experiments.record import ExperimentRecord


@dataclass(frozen=True)
class ExperimentQueries:
    """What rows are searched with, and its split.

    Attributes:
        vectors: all queries.
        train_index: sorted indices of those to train on.
        held_out_index: sorted indices of those that recall is measured with.
        database: what these search among; None: the held-out rows.
    """

    vectors: Vectors
    train_index: np.ndarray
    held_out_index: np.ndarray
    database: Vectors | None

    @property
    def train_rows(self) -> np.ndarray | MappedRows:
        """(n, D) float32, the queries to train on."""
        return select(self.vectors.rows, self.train_index)


@dataclass(frozen=True)
class ExperimentData:
    """All rows of an experiment, and its split.

    Attributes:
        vectors: the rows, and where they came from.
        train_index: sorted indices of the rows that the encoder is trained on.
        held_out_index: sorted indices of the rows that it is not.
        queries: what the rows are searched with; None: with such rows.
    """

    vectors: Vectors
    train_index: np.ndarray
    held_out_index: np.ndarray
    queries: ExperimentQueries | None = None

    @classmethod
    def split(
        cls, config: TrainConfig, vectors: Vectors, queries: Vectors | None = None, database: Vectors | None = None
    ) -> "ExperimentData":
        """Split rows, and queries, as the settings say."""
        searches = None
        if queries is not None:
            split = split_queries(len(queries.rows), config.val_fraction, config.seed)
            searches = ExperimentQueries(queries, *split, database)
        return cls(vectors, *split_rows(len(vectors.rows), config.val_fraction, config.seed), searches)

    @property
    def train_rows(self) -> np.ndarray | MappedRows:
        """(n, D) float32, the rows to train on."""
        return select(self.vectors.rows, self.train_index)


def open_data(config: TrainConfig) -> ExperimentData:
    """Open and split what a config names.

    Raises:
        InputError: it cannot be read, or does not go together.
    """
    vectors = open_rows(config)
    if config.queries is None:
        return ExperimentData.split(config, vectors)
    database = None
    if config.database is not None:
        database = open_vectors(config.database, config.column, None, config.metric, config.skip_bad_rows)
        check_width(config.database, database, vectors)
    searched = [vectors] if database is None else [vectors, database]
    queries = open_queries(config.queries, config.query_column, config.metric, config.skip_bad_rows, searched)
    return ExperimentData.split(config, vectors, queries, database)


def open_rows(config: TrainConfig) -> Vectors:
    """Open the vectors, or the images, that a config names.

    Raises:
        InputError: they cannot be read.
    """
    if config.images is not None:
        return open_images(config.images, config.image_size, config.limit, config.skip_bad_images)
    return open_vectors(config.data, config.column, config.limit, config.metric, config.skip_bad_rows)


def open_experiment_data(
    record: ExperimentRecord, config: TrainConfig | None = None, with_queries: bool = True
) -> ExperimentData:
    """Open the data of an experiment.

    Args:
        record: the experiment's.
        config: where it is now; the record's if None.
        with_queries: also its queries, where it has any.

    Raises:
        InputError: the data is gone or changed.
    """
    config = record.config if config is None else config
    data = open_data(config) if with_queries else ExperimentData.split(config, open_rows(config))
    fingerprints = {config.images or config.data: (data.vectors.fingerprint, record.data.fingerprint)}
    if data.queries is not None and record.queries is not None:
        fingerprints[str(config.queries)] = data.queries.vectors.fingerprint, record.queries.fingerprint
    for source, (found, recorded) in fingerprints.items():
        if found != recorded:
            raise InputError(
                f"{source}: the data differs from what experiment {record.origin.experiment_id} was trained on "
                "(fingerprint mismatch)"
            )
    return data
