"""Which rows an encoder is evaluated on, and which its baselines may be fitted on."""

from dataclasses import dataclass, replace

import numpy as np

from dploss.config import TrainConfig
from dploss.data import MappedRows, Vectors, select, split_rows
from dploss.data.experiment_data import open_experiment_data, open_rows
from dploss.data.row_hashes import occur_in
from dploss.errors import InputError, SettingError
from dploss.evaluation.recall import RecallEvaluator
from dploss.experiments.record import ExperimentRecord
from dploss.text import counted


@dataclass(frozen=True)
class EvalRows:
    """Rows that the encoder has not been trained on, and those that it has.

    Attributes:
        rows: (n, D) float32, to evaluate on.
        index: (n,) their indices in `source`.
        source: where they are from.
        held_out: whether they are the experiment's own held-out rows, or rows of another file.
        train_rows: (N, D), what the encoder was trained on; None where they cannot be opened.
        missing: why they cannot be.
        n_source: how many rows the source has, that can be used.
        training_rows_left_out: how many rows of another file are left out, for the encoder was trained on them; None
            where that could not be checked.
        bad_rows_left_out: how many more rows the source has, which cannot be used.
        bad_rows: what a person should know of these; None where there are none.
        source_rows: (n_source, D), all rows of the source, bad ones apart.
        unseen: sorted indices of those among them that the encoder was not trained on; `rows` is a sample.
        own_held_out: (m, D) float32, beside rows of another file: a sample of the experiment's own held-out rows; None
            where these cannot be opened, or there are none.
    """

    rows: np.ndarray
    index: np.ndarray
    source: str
    held_out: bool
    train_rows: np.ndarray | MappedRows | None
    missing: str
    n_source: int
    training_rows_left_out: int | None
    bad_rows_left_out: int
    bad_rows: str | None
    source_rows: np.ndarray | MappedRows
    unseen: np.ndarray
    own_held_out: np.ndarray | None

    @property
    def note(self) -> str:
        """What a person should know of training rows in another file; empty where there are none."""
        if self.training_rows_left_out is None:
            return "whether training rows are among them could not be checked"
        if not self.training_rows_left_out:
            return ""
        left_out = self.training_rows_left_out
        kind = "is a training row" if left_out == 1 else "are training rows"
        return f"{left_out:,} of {self.n_source:,} rows {kind}, left out"


def own_rows(record: ExperimentRecord, most: int) -> EvalRows:
    """The held-out rows of an experiment's own data.

    Args:
        record: the experiment's.
        most: of more rows, a random sample of this size.

    Raises:
        InputError: the data is gone or changed, or no rows were held out.
    """
    return _held_out(record.config, open_experiment_data(record, with_queries=False).vectors, most)


def other_rows(
    record: ExperimentRecord, source: str, column: str | None, limit: int | None, skip_bad_rows: bool, most: int
) -> EvalRows:
    """Rows of a file that a person names, without those that the encoder was trained on.

    Where the file holds the experiment's own rows, they are the held-out ones. In any other, rows that equal a training
    row are left out.

    Args:
        record: the experiment's.
        source: as for `open_vectors`, like column, limit and skip_bad_rows.
        column: of the vectors.
        limit: only the first N rows.
        skip_bad_rows: leave out rows that cannot be used.
        most: of more rows, a random sample of this size.

    Raises:
        InputError: the file cannot be read, or holds vectors of other dimensions.
    """
    config = replace(record.config, column=column, limit=limit, skip_bad_rows=skip_bad_rows)
    config = replace(config, data=source) if config.images is None else replace(config, images=source)
    vectors = open_rows(config)
    if vectors.fingerprint == record.data.fingerprint:
        return _held_out(config, vectors, most)
    if vectors.rows.shape[1] != record.input_dim:
        dimensions = counted(vectors.rows.shape[1], "dimension")
        raise InputError(f"{source}: its vectors have {dimensions}, the encoder takes {record.input_dim}")
    train_rows: np.ndarray | MappedRows | None
    own_held_out = None
    try:
        own = open_experiment_data(record, with_queries=False)
    except InputError as error:
        train_rows, missing, left_out = None, str(error), None
        unseen = np.arange(len(vectors.rows))
    else:
        train_rows, missing = own.train_rows, ""
        unseen = np.flatnonzero(~occur_in(vectors.rows, train_rows))
        left_out = len(vectors.rows) - len(unseen)
        if len(own.held_out_index):
            own_held_out = own.vectors.rows[own.held_out_index[_sample(len(own.held_out_index), most, config.seed)]]
    return _eval_rows(vectors, unseen, most, config.seed, False, train_rows, left_out, missing, own_held_out)


def _held_out(config: TrainConfig, vectors: Vectors, most: int) -> EvalRows:
    train_index, held_out_index = split_rows(len(vectors.rows), config.val_fraction, config.seed)
    if not len(held_out_index):
        template = "{source}: the training held out none of its rows; name other vectors with {data}"
        raise SettingError(template, source=config.images or config.data)
    return _eval_rows(vectors, held_out_index, most, config.seed, True, select(vectors.rows, train_index), 0)


def _eval_rows(
    vectors: Vectors,
    unseen: np.ndarray,
    most: int,
    seed: int,
    held_out: bool,
    train_rows: np.ndarray | MappedRows | None,
    training_rows_left_out: int | None,
    missing: str = "",
    own_held_out: np.ndarray | None = None,
) -> EvalRows:
    index = unseen[_sample(len(unseen), most, seed)]
    return EvalRows(
        vectors.rows[index],
        vectors.in_source(index),
        vectors.source,
        held_out=held_out,
        train_rows=train_rows,
        missing=missing,
        n_source=len(vectors.rows),
        training_rows_left_out=training_rows_left_out,
        bad_rows_left_out=vectors.bad.count,
        bad_rows=vectors.left_out,
        source_rows=vectors.rows,
        unseen=unseen,
        own_held_out=own_held_out,
    )


def _sample(n_rows: int, most: int, seed: int) -> np.ndarray:
    return RecallEvaluator(1, most, seed).sample(n_rows)
