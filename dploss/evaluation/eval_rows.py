"""Which rows an encoder is judged on, and which its baselines may learn from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dploss.config import TrainConfig
from dploss.data import MappedRows, Vectors, select, split_rows
from dploss.data.experiment_data import open_experiment_rows, open_rows
from dploss.errors import InputError
from dploss.evaluation.recall import RecallEvaluator


@dataclass(frozen=True)
class JudgedRows:
    """Rows the encoder has not been trained on, and those it has.

    Attributes:
        vectors: the rows (n, D) float32 to judge on.
        numbers: (n,) their row numbers in `source`.
        source: where they are from.
        held_out: whether they are the experiment's own held-out rows, or rows of another file.
        training: (N, D) the rows that the encoder was trained on; None where they cannot be opened.
        missing: why they cannot be.
    """

    vectors: np.ndarray
    numbers: np.ndarray
    source: str
    held_out: bool
    training: np.ndarray | MappedRows | None
    missing: str


def own_rows(record: Mapping[str, Any], most: int) -> JudgedRows:
    """The held-out rows of an experiment's own data.

    Args:
        record: the checkpoint's config.
        most: a sample of so many stands for more.

    Raises:
        InputError: the data is gone or changed, or no rows were held out.
    """
    data = open_experiment_rows(record)
    return _split(data.config, data.vectors, most)


def other_rows(record: Mapping[str, Any], source: str, column: str | None, limit: int | None, most: int) -> JudgedRows:
    """Rows of a file that a person names; where it holds the experiment's own rows, the held-out ones.

    Args:
        record: the checkpoint's config.
        source: as for `open_vectors`, like column and limit.
        column: of the vectors.
        limit: only the first so many rows.
        most: a sample of so many stands for more.

    Raises:
        InputError: the file cannot be read, or holds vectors of another length.
    """
    config = TrainConfig.from_experiment(record)
    config = replace(config, **{"data" if config.images is None else "images": source}, column=column, limit=limit)
    vectors = open_rows(config)
    if vectors.fingerprint == record["data"].get("fingerprint"):
        return _split(config, vectors, most)
    if vectors.rows.shape[1] != record.get("input_dim"):
        raise InputError(
            f"{source}: its vectors have {vectors.rows.shape[1]} numbers, the encoder takes {record.get('input_dim')}"
        )
    try:
        own = open_experiment_rows(record)
        training, missing = select(own.vectors.rows, own.training), ""
    except InputError as error:
        training, missing = None, str(error)
    numbers = _sample(len(vectors.rows), most, config.seed)
    return JudgedRows(vectors.rows[numbers], numbers, vectors.source, False, training, missing)


def _split(config: TrainConfig, vectors: Vectors, most: int) -> JudgedRows:
    training, held_out = split_rows(len(vectors.rows), config.val_fraction, config.seed)
    if not len(held_out):
        raise InputError(
            f"{config.images or config.data}: the training held out none of its rows; name other vectors with --data"
        )
    numbers = held_out[_sample(len(held_out), most, config.seed)]
    return JudgedRows(vectors.rows[numbers], numbers, vectors.source, True, select(vectors.rows, training), "")


def _sample(rows: int, most: int, seed: int) -> np.ndarray:
    return RecallEvaluator(1, most, seed).sample(rows)
