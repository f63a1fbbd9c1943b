"""The vectors of an experiment, opened again and split as they were for its training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dploss.config import TrainConfig
from dploss.data import Vectors, open_vectors, split_rows
from dploss.data.images import open_images
from dploss.errors import InputError


def open_rows(config: TrainConfig) -> Vectors:
    """Open the vectors, or the images, that a config names.

    Raises:
        InputError: they cannot be read.
    """
    if config.images is not None:
        return open_images(config.images, config.image_size, config.limit)
    return open_vectors(config.data, config.column, config.limit, config.metric)


@dataclass(frozen=True)
class ExperimentRows:
    """All rows of an experiment's data.

    Attributes:
        config: the experiment's settings; `data` is where the rows were read from.
        vectors: the rows, and where they came from.
        training: sorted row numbers the encoder was trained on.
        held_out: sorted row numbers it has never seen.
    """

    config: TrainConfig
    vectors: Vectors
    training: np.ndarray
    held_out: np.ndarray


def open_experiment_rows(record: Mapping[str, Any]) -> ExperimentRows:
    """Open the rows that an experiment was trained and judged on.

    Args:
        record: what its config.json, or a checkpoint's config, holds.

    Raises:
        InputError: the data is gone or changed, or the record lacks a setting.
    """
    config = TrainConfig.from_experiment(record)
    vectors = open_experiment_vectors(config, record)
    return ExperimentRows(config, vectors, *split_rows(len(vectors.rows), config.val_fraction, config.seed))


def open_experiment_vectors(config: TrainConfig, record: Mapping[str, Any]) -> Vectors:
    """Open the vectors that `config` names, which must be those of the experiment that `record` tells of.

    Raises:
        InputError: they cannot be read, or are other rows.
    """
    vectors = open_rows(config)
    if vectors.fingerprint != record["data"].get("fingerprint"):
        source, experiment = config.images or config.data, record.get("experiment_id")
        raise InputError(f"{source}: these are not the rows that experiment {experiment} is trained on")
    return vectors
