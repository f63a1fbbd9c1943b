"""What there is to say of experiments: the list of them, one alone, several side by side."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dploss.config import TrainConfig
from dploss.experiments.catalog import Experiment, short_ids
from dploss.experiments.history import LARGEST, MOST_EPOCHS, MeasuredRecall
from dploss.text import MISSING, aligned, duration, elided, number, shown, text_table

LOSSES = {"total_loss": "total", "rank_loss": "rank", "pairdist_loss": "pairdist"}
_UNCOMPARED = ("checkpoints_dir", "quiet")
_NAME_WIDTH = 28


@dataclass(frozen=True)
class Extremes:
    """A loss at the end and at its lowest; NaN where it was not recorded.

    Attributes:
        final: of the last epoch.
        best: the lowest.
        best_epoch: the first epoch that had it.
    """

    final: float
    best: float
    best_epoch: float


def extremes(experiment: Experiment, loss: str) -> Extremes:
    """The end and the best of total_loss, rank_loss or pairdist_loss."""
    history = experiment.history
    values = getattr(history, loss)
    finite = [(value, epoch) for value, epoch in zip(values, history.epochs, strict=True) if math.isfinite(value)]
    best, epoch = min(finite, default=(math.nan, math.nan))
    return Extremes(values[-1] if values else math.nan, best, epoch)


def data_name(experiment: Experiment, width: int = _NAME_WIDTH) -> str:
    """Where the vectors came from, shortened; a dash where config.json does not say."""
    data = experiment.config.get("data")
    path = data.get("path") if isinstance(data, dict) else None
    if not isinstance(path, str):
        return MISSING
    return elided(path if len(path) <= width else Path(path).name or path, width)


def created(experiment: Experiment) -> str:
    """When the training began, by this machine's clock; a dash where no calendar has that."""
    try:
        return f"{experiment.created.astimezone():%Y-%m-%d %H:%M}"
    except (OverflowError, OSError, ValueError):
        return MISSING


def listing(experiments: Sequence[Experiment]) -> list[str]:
    """The lines of `--list`: a numbered experiment each."""
    header = (
        "#",
        "id",
        "created",
        "status",
        "loss",
        "tau",
        "latent_dim",
        "data",
        "epochs",
        "total loss",
        "best recall",
    )
    ids = short_ids([experiment.id for experiment in experiments])
    rows = []
    for place, experiment in enumerate(experiments, start=1):
        config, history = experiment.config, experiment.history
        recalls = [value for value in history.recall_history if math.isfinite(value)]
        rows.append(
            (
                str(place),
                elided(ids[experiment.id], _NAME_WIDTH),
                created(experiment),
                history.status,
                _short(config.get("loss_function")),
                _short(config.get("tau")),
                _short(config.get("latent_dim")),
                data_name(experiment),
                epochs_done(experiment),
                number(extremes(experiment, "total_loss").final),
                f"{max(recalls):.4f} @{history.recall_k or '?'}" if recalls else MISSING,
            )
        )
    return text_table(header, rows, left=8)


def epochs_done(experiment: Experiment) -> str:
    """The last finished epoch, and how many there are to be: "40/100"."""
    done = number(experiment.history.epochs[-1], "g") if experiment.history.epochs else "0"
    wanted = experiment.config.get("epochs")
    return f"{done}/{wanted}" if _is_epoch(wanted) else done


def summary(experiment: Experiment, recalls: Sequence[MeasuredRecall]) -> list[str]:
    """One experiment: settings, best and final losses, recall, times.

    Args:
        experiment: which.
        recalls: measured or recorded, in order of epochs; may be empty.
    """
    config, history = experiment.config, experiment.history

    def given(*names: str) -> str:
        return ", ".join(f"{name} {_short(config[name])}" for name in names if config.get(name) is not None)

    facts = {
        "experiment": elided(experiment.id, 40),
        "created": created(experiment),
        "status": f"{history.status}, epoch {epochs_done(experiment)}",
        "data": data_name(experiment, 40),
        "": given("val_fraction", "metric", "limit"),
        "size": f"{_short(config.get('input_dim'))} -> {_short(config.get('latent_dim'))} numbers a vector",
        "loss": elided(shown(config.get("loss_function")), 40),
        " ": given("tau", "lambda_rank", "lambda_pairdist"),
        "encoder": given("hidden_dims", "init"),
        "training": given("batch_size", "lr", "seed"),
    }
    for loss, name in LOSSES.items():
        found = extremes(experiment, loss)
        facts[f"{name} loss"] = (
            f"{number(found.final)} at the end, best {number(found.best)} in epoch {number(found.best_epoch, 'g')}"
        )
    if recalls:
        last, top = recalls[-1], max(recalls, key=lambda one: one.recall.value)
        facts[recall_name(recalls)] = (
            f"{number(last.recall.value, '.4f')} in epoch {last.epoch:g}, best {number(top.recall.value, '.4f')}"
            f" in epoch {top.epoch:g}"
        )
        facts["  measured on"] = f"{last.recall.rows:,} held-out rows" if last.recall.rows else "rows not recorded"
        if history.pca_recall is not None:
            gain = last.recall.value - history.pca_recall
            facts["  PCA"] = f"{history.pca_recall:.4f} at the same size: {gain:+.4f} gained"
    for dim, values in history.recall_by_dim.items():
        if values:
            pca = number(history.pca_recall_by_dim.get(dim), ".4f")
            facts[f"  first {dim}"] = f"{number(values[-1], '.4f')} in epoch {history.recall_epochs[-1]:g} (PCA {pca})"
    best = best_epoch(experiment)
    if best is not None:
        facts["best.pt"] = f"of epoch {best}"
        facts |= {
            f"  {elided(name, _NAME_WIDTH)}": number(values[epochs.index(best)], ".4f")
            for name, (epochs, values) in evaluated(experiment).items()
            if best in epochs
        }
    seconds = history.cumulative_time[-1] if history.cumulative_time else math.nan
    each = seconds / len(history.epochs) if history.epochs else math.nan
    facts["time"] = f"{duration(seconds)} of training, {number(each, '.3g')} s an epoch"
    return aligned({name: value for name, value in facts.items() if value})


def evaluated(experiment: Experiment) -> dict[str, tuple[list[float], list[float]]]:
    """Epochs and values of every metric of images that was measured, by its name; without their deviations."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for evaluation in experiment.history.evaluations:
        epoch, metrics = evaluation.get("epoch"), evaluation.get("metrics")
        for name, value in metrics.items() if isinstance(metrics, dict) else ():
            told = name in (*LOSSES, "recall") or name.endswith("_std")
            if not told and _is_epoch(epoch) and isinstance(value, float) and not LARGEST < abs(value) < math.inf:
                epochs, values = curves.setdefault(name, ([], []))
                epochs.append(epoch)
                values.append(value)
    return curves


def best_epoch(experiment: Experiment) -> int | None:
    """The epoch of the best checkpoint, as the tracker decided while it trained."""
    best = [one.get("epoch") for one in experiment.history.evaluations if one.get("is_best") is True]
    return best[-1] if best and _is_epoch(best[-1]) else None


def _is_epoch(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_EPOCHS


def recall_name(recalls: Sequence[MeasuredRecall]) -> str:
    """recall@5; recall@k where the recalls have several k or none is known."""
    ks = {one.recall.k for one in recalls}
    k = ks.pop() if len(ks) == 1 else None
    return f"recall@{k or 'k'}"


@dataclass(frozen=True)
class Comparison:
    """Several experiments side by side.

    Attributes:
        header: the columns: the short id, every setting that differs, then what came of it.
        rows: cells of text, an experiment each.
        records: the same as plain values, for JSON.
    """

    header: list[str]
    rows: list[list[str]]
    records: list[dict[str, Any]]


def compare(experiments: Sequence[Experiment], recalls: Sequence[Sequence[MeasuredRecall]]) -> Comparison:
    """What differs between experiments' settings, beside their losses, recall and time.

    Args:
        experiments: which.
        recalls: of each, in order of epochs; may be empty.
    """
    ids = short_ids([experiment.id for experiment in experiments])
    differing = [name for name in _compared() if len({repr(_value(one, name)) for one in experiments}) > 1]
    measured = [one for curve in recalls for one in curve[-1:]]
    several_sizes = len({one.recall.rows for one in measured}) > 1
    header = ["experiment", *differing, "done"]
    header += [column for name in LOSSES.values() for column in (f"{name} loss", "best")]
    header += [recall_name(measured), *(["recall rows"] if several_sizes else []), "PCA", "time"]
    rows, records = [], []
    for experiment, curve in zip(experiments, recalls, strict=True):
        history = experiment.history
        losses = {name: extremes(experiment, name) for name in LOSSES}
        last = curve[-1] if curve else None
        seconds = history.cumulative_time[-1] if history.cumulative_time else math.nan
        pca = history.pca_recall
        row = [elided(ids[experiment.id], _NAME_WIDTH)]
        row += [data_name(experiment) if name == "data" else _short(_value(experiment, name)) for name in differing]
        row.append(epochs_done(experiment))
        row += [number(value) for found in losses.values() for value in (found.final, found.best)]
        row.append(number(last.recall.value if last else None, ".4f"))
        row += [f"{last.recall.rows:,}" if last else MISSING] if several_sizes else []
        rows.append([*row, number(pca, ".4f"), duration(seconds)])
        records.append(
            {
                "experiment": experiment.id,
                "settings": {name: _value(experiment, name) for name in differing},
                "status": history.status,
                "epochs": len(history.epochs),
                **{name: asdict(found) for name, found in losses.items()},
                "recall": {"epoch": last.epoch, **asdict(last.recall)} if last else None,
                "pca_recall": pca,
                "seconds": seconds,
            }
        )
    return Comparison(header, rows, records)


def _compared() -> list[str]:
    return [field.name for field in fields(TrainConfig) if field.name not in _UNCOMPARED]


def _short(value: Any) -> str:
    return elided(shown(value), _NAME_WIDTH)


def _value(experiment: Experiment, name: str) -> Any:
    value = experiment.config.get(name)
    return value.get("path") if name == "data" and isinstance(value, dict) else value
