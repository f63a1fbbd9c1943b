"""TrainHistory: what a training measured; train_history.json is it, written out."""

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dploss.errors import InputError
from dploss.experiments.recalls import Recall
from dploss.files.atomic import write_json
from dploss.files.untrusted import read_json

_PER_EPOCH = (
    "epochs",
    "total_loss",
    "rank_loss",
    "pairdist_loss",
    "learning_rate",
    "epoch_times",
    "epoch_timestamps",
    "cumulative_time",
)
_LISTS_OF = {
    **dict.fromkeys((*_PER_EPOCH, "recall_history"), (int, float, type(None))),
    **dict.fromkeys(("epochs", "recall_epochs"), (int, float)),
    "epoch_timestamps": (str,),
    "evaluations": (dict,),
}
_EVALUATION = {"epoch": int, "step": int, "metrics": dict, "is_best": bool}
_BY_DIM = {
    "recall_by_dim": "recall_history",
    "pca_recall_by_dim": "pca_recall",
    "pca_renormalised_recall_by_dim": "pca_renormalised_recall",
}
_WORDS = {int: "numbers", str: "text", dict: "objects"}
# What is printed and drawn has to stay below: no training gets there.
MOST_EPOCHS, LARGEST = 10**9, 1e250
START, PCA_RENORMALISED, PCA = "start", "PCA, renormalised", "PCA"
PCA_INT8, PCA_PQ = STORED_BASELINES = ("PCA, int8", "PCA, pq")
BASELINES = (START, PCA_RENORMALISED, PCA, *STORED_BASELINES)
STATUSES = ("running", "completed", "interrupted", "failed", "unknown")


@dataclass(frozen=True)
class Evaluation:
    """What was measured of one checkpoint.

    Attributes:
        epoch: epochs it was trained for.
        step: optimizer steps it was trained for.
        metrics: by name, ready for JSON; of images also what metrics were left out, and why.
        is_best: whether it was the best checkpoint so far.
    """

    epoch: int
    step: int
    metrics: Mapping[str, Any]
    is_best: bool

    def values(self) -> dict[str, float]:
        """The metrics that are numbers, NaN and infinity among them, but none too large to be drawn."""
        return {
            name: value
            for name, value in self.metrics.items()
            if isinstance(value, float) and not LARGEST < abs(value) < math.inf
        }


@dataclass
class TrainHistory:
    """Lists that grow with the epochs, and what was measured now and then.

    Attributes:
        epochs: finished epochs, from 1.
        total_loss, rank_loss, pairdist_loss: their means over the epoch's batches.
        learning_rate: at the epoch's last step.
        epoch_times: seconds of training, without recall and saving.
        epoch_timestamps: when the epoch ended, ISO 8601 in UTC.
        cumulative_time: seconds, the running sum of epoch_times.
        recall_epochs, recall_history: epochs at which recall@k was measured, from 0 (the start), and the recalls, 0..1.
        recall_k, recall_rows: k of those recalls, and the number of held-out rows, which were searched.
        recall_queries: how many held-out queries searched among them; None: the rows themselves.
        pca_recall: recall@k of PCA at the same size, fitted on the same training rows, on the same held-out rows.
        pca_renormalised_recall: the same of PCA with each row's norm restored.
        recall_by_dim: of a Matryoshka encoder, recall_history for each of its sizes, by the size as text.
        pca_recall_by_dim, pca_renormalised_recall_by_dim: PCA's recall@k at these sizes.
        pca_int8_recall: of a training with --bytes, recall@k of renormalised PCA stored in as many bytes, a dimension
            in each. All recalls of the encoder are those of its stored form, then.
        pca_pq_recall: the same of PQ along principal axes; None where that is the code, or bytes do not allow it.
        evaluations: what was measured of the checkpoints that were evaluated, in their order.
        status: running, completed, interrupted or failed; unknown where another program wrote the history.
    """

    epochs: list[int] = field(default_factory=list)
    total_loss: list[float] = field(default_factory=list)
    rank_loss: list[float] = field(default_factory=list)
    pairdist_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    epoch_times: list[float] = field(default_factory=list)
    epoch_timestamps: list[str] = field(default_factory=list)
    cumulative_time: list[float] = field(default_factory=list)
    recall_epochs: list[int] = field(default_factory=list)
    recall_history: list[float] = field(default_factory=list)
    recall_k: int | None = None
    recall_rows: int | None = None
    recall_queries: int | None = None
    pca_recall: float | None = None
    pca_renormalised_recall: float | None = None
    recall_by_dim: dict[str, list[float]] = field(default_factory=dict)
    pca_recall_by_dim: dict[str, float] = field(default_factory=dict)
    pca_renormalised_recall_by_dim: dict[str, float] = field(default_factory=dict)
    pca_int8_recall: float | None = None
    pca_pq_recall: float | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    status: str = "running"

    def add_epoch(self, total: float, rank: float, pairdist: float, learning_rate: float, seconds: float) -> None:
        """Append a finished epoch."""
        self.epochs.append(len(self.epochs) + 1)
        self.total_loss.append(float(total))
        self.rank_loss.append(float(rank))
        self.pairdist_loss.append(float(pairdist))
        self.learning_rate.append(float(learning_rate))
        self.epoch_times.append(float(seconds))
        self.epoch_timestamps.append(datetime.now(UTC).isoformat(timespec="seconds"))
        self.cumulative_time.append(sum(self.epoch_times))

    def add_recall(self, recall: float, by_dim: Mapping[int, float] = MappingProxyType({})) -> None:
        """Append the held-out recall of the last finished epoch, and of a Matryoshka encoder that of each size.

        Before the first epoch it is that of the start, epoch 0.
        """
        self.recall_epochs.append(self.epochs[-1] if self.epochs else 0)
        self.recall_history.append(float(recall))
        for dim, value in by_dim.items():
            self.recall_by_dim.setdefault(str(dim), []).append(float(value))

    @property
    def start_recall(self) -> float | None:
        """Recall@k before the first epoch; None where it was not measured."""
        return self.recall_history[0] if self.recall_epochs[:1] == [0] else None

    def baselines(self, dim: str | None = None) -> dict[str, float]:
        """Recall@k of what costs no training, by its name: the start of the training, PCA with norms restored, PCA.

        Of a stored form it is the start, and PCA stored in as many bytes, as int8 and by PQ.

        Args:
            dim: a size of a Matryoshka encoder, as text; None: the whole latents.
        """
        values: dict[str, float | None]
        values = {START: self.start_recall, PCA_RENORMALISED: self.pca_renormalised_recall, PCA: self.pca_recall}
        if self.pca_int8_recall is not None:
            values = {START: self.start_recall, PCA_INT8: self.pca_int8_recall, PCA_PQ: self.pca_pq_recall}
        if dim is not None:
            of_size = self.recall_by_dim.get(dim, [])
            values[START] = of_size[0] if of_size and self.start_recall is not None else None
            values[PCA_RENORMALISED] = self.pca_renormalised_recall_by_dim.get(dim)
            values[PCA] = self.pca_recall_by_dim.get(dim)
        return {name: value for name, value in values.items() if value is not None}

    def recall(self, value: float) -> Recall:
        """A recall with the k, rows and queries that all recalls of this history have; 0 where it does not say."""
        return Recall(value, self.recall_k or 0, self.recall_rows or 0, queries=self.recall_queries)

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON and for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainHistory":
        """Read a history back, also one that another program wrote with no more than epochs and total_loss.

        Keys it does not know are left out. What JSON cannot say is put back: null is NaN. A per-epoch list that is
        not there is NaN throughout, and a status that is not there is "unknown".

        Raises:
            InputError: no epochs or total_loss, lists of unequal length, or values of another kind.
        """
        if not isinstance(values, dict):
            raise InputError(f"a history is a JSON object, got {type(values).__name__}")
        missing = [name for name in ("epochs", "total_loss") if name not in values]
        if missing:
            raise InputError(f"a history needs the lists epochs and total_loss, this one lacks {' and '.join(missing)}")
        read = {
            item.name: _checked(item.name, values[item.name])
            for item in fields(cls)
            if values.get(item.name) is not None
        }
        count = len(read.get("epochs", []))
        absent = {name: [""] * count if name == "epoch_timestamps" else [math.nan] * count for name in _PER_EPOCH}
        read["evaluations"] = [_evaluation(one) for one in read.get("evaluations", [])]
        history = cls(**{"status": "unknown", **absent, **read})
        for together in (_PER_EPOCH, ("recall_epochs", "recall_history")):
            lengths = {name: len(getattr(history, name)) for name in together}
            if len(set(lengths.values())) > 1:
                raise InputError(f"the lists of the history differ in length: {lengths}")
        if any(len(recalls) != len(history.recall_epochs) for recalls in history.recall_by_dim.values()):
            raise InputError("recall_by_dim of the history has lists of other lengths than recall_epochs")
        return history

    @classmethod
    def load(cls, path: str | Path) -> "TrainHistory":
        """Read train_history.json.

        Raises:
            InputError: no such file, not JSON, or not a history.
        """
        values = read_json(Path(path), "not a readable history")
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{path}: not a readable history: {error}") from error

    def save(self, path: Path) -> None:
        """Write train_history.json atomically; values that are not finite become null."""
        write_json(path, self.as_dict())


def _checked(name: str, value: Any) -> Any:
    """One entry of a history as read from JSON, null among its numbers turned into NaN.

    Raises:
        InputError: another kind of value than `name` has.
    """
    if name == "status":
        if value not in STATUSES:
            raise InputError(f"the history's status must be one of {', '.join(STATUSES)}, got {str(value)[:40]}")
        return value
    if name in _BY_DIM:
        if not (isinstance(value, dict) and all(re.fullmatch("[1-9][0-9]{0,8}", dim) for dim in value)):
            raise InputError(f"the history's {name} must be an object by size, got {str(value)[:40]}")
        return {dim: _checked(_BY_DIM[name], item) for dim, item in value.items()}
    if name not in _LISTS_OF:
        _check_items(name, [value], (int, float))
        return value
    if not isinstance(value, list):
        raise InputError(f"the history's {name} must be a list, got {type(value).__name__}")
    _check_items(name, value, _LISTS_OF[name])
    return [math.nan if item is None else item for item in value]


def _evaluation(value: Mapping[str, Any]) -> Evaluation:
    wrong = [name for name, kind in _EVALUATION.items() if type(value.get(name)) is not kind]
    if wrong or not 0 <= value["epoch"] <= MOST_EPOCHS:
        name = wrong[0] if wrong else "epoch"
        raise InputError(f"an evaluation of the history has no usable {name}: {str(value.get(name))[:40]}")
    return Evaluation(*(value[name] for name in _EVALUATION))


def _check_items(name: str, items: list[Any], kinds: tuple[type, ...]) -> None:
    for item in items:
        if not isinstance(item, kinds) or isinstance(item, bool) or not _fits(name, item):
            raise InputError(f"the history's {name} must hold {_WORDS[kinds[0]]}, got {str(item)[:40]}")


def _fits(name: str, item: Any) -> bool:
    if not isinstance(item, int | float):
        return True
    if isinstance(item, float) and not math.isfinite(item):
        return name not in ("epochs", "recall_epochs")
    if name == "epochs" or "recall" in name:
        return abs(item) <= MOST_EPOCHS
    return abs(item) <= (LARGEST if isinstance(item, float) else sys.maxsize)
