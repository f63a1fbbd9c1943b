"""The data of an experiment, opened again and split as it was for the training."""

from dataclasses import dataclass

import numpy as np

from dploss.config import TrainConfig
from dploss.data.images import open_images
from dploss.data.split import split_rows
from dploss.data.vectors import Vectors, open_vectors
from dploss.errors import InputError
from dploss.experiments.record import ExperimentRecord


def open_data(config: TrainConfig) -> Vectors:
    """Open the vectors, or the images, that a config names.

    Raises:
        InputError: they cannot be read.
    """
    if config.images is not None:
        return open_images(config.images, config.image_size, config.limit, config.skip_bad_images)
    return open_vectors(config.data, config.column, config.limit, config.metric, config.skip_bad_rows)


@dataclass(frozen=True)
class ExperimentData:
    """All rows of an experiment, and its split.

    Attributes:
        vectors: the rows, and where they came from.
        train_index: sorted indices of the rows that the encoder was trained on.
        held_out_index: sorted indices of the rows that it was not.
    """

    vectors: Vectors
    train_index: np.ndarray
    held_out_index: np.ndarray


def open_experiment_data(record: ExperimentRecord, config: TrainConfig | None = None) -> ExperimentData:
    """Open the rows of an experiment.

    Args:
        record: the experiment's.
        config: where the rows are now; the record's if None.

    Raises:
        InputError: the data is gone or changed.
    """
    config = record.config if config is None else config
    vectors = open_data(config)
    if vectors.fingerprint != record.data.fingerprint:
        raise InputError(
            f"{config.images or config.data}: the data differs from what experiment {record.origin.experiment_id} was "
            "trained on (fingerprint mismatch)"
        )
    return ExperimentData(vectors, *split_rows(len(vectors.rows), config.val_fraction, config.seed))
