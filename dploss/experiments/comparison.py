"""Several experiments side by side: the settings that differ, and what came of them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dploss.config import OPTIONS
from dploss.experiments.catalog import Experiment, short_ids
from dploss.experiments.history import BASELINES, STORED_BASELINES, MeasuredRecall
from dploss.experiments.summary import LOSSES, NAME_WIDTH, data_name, epochs_done, extremes, recall_name, short
from dploss.text import MISSING, duration, elided, number

_NOT_COMPARED = ("checkpoints_dir", "quiet")


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
    differing = [
        name
        for name in OPTIONS
        if name not in _NOT_COMPARED and len({repr(_value(one, name)) for one in experiments}) > 1
    ]
    measured = [one for curve in recalls for one in curve[-1:]]
    several_sizes = len({one.recall.rows for one in measured}) > 1
    given = {name for one in experiments for name in one.history.baselines()}
    baselines_shown = [name for name in BASELINES if name in given or name not in STORED_BASELINES]
    header = ["experiment", *differing, "done"]
    header += [column for name in LOSSES.values() for column in (f"{name} loss", "best")]
    header += [recall_name(measured), *(["recall rows"] if several_sizes else []), *baselines_shown, "time"]
    rows, records = [], []
    for experiment, curve in zip(experiments, recalls, strict=True):
        history = experiment.history
        losses = {name: extremes(experiment, name) for name in LOSSES}
        last = curve[-1] if curve else None
        seconds = history.cumulative_time[-1] if history.cumulative_time else math.nan
        baselines = history.baselines()
        row = [elided(ids[experiment.id], NAME_WIDTH)]
        row += [data_name(experiment) if name == "data" else short(_value(experiment, name)) for name in differing]
        row.append(epochs_done(experiment))
        row += [number(value) for found in losses.values() for value in (found.final, found.best)]
        row.append(number(last.recall.value if last else None, ".4f"))
        row += [f"{last.recall.rows:,}" if last else MISSING] if several_sizes else []
        row += [number(baselines.get(name), ".4f") for name in baselines_shown]
        rows.append([*row, duration(seconds)])
        records.append(
            {
                "experiment": experiment.id,
                "settings": {name: _value(experiment, name) for name in differing},
                "status": history.status,
                "epochs": len(history.epochs),
                **{name: asdict(found) for name, found in losses.items()},
                "recall": {"epoch": last.epoch, **asdict(last.recall)} if last else None,
                "start_recall": history.start_recall,
                "pca_renormalised_recall": history.pca_renormalised_recall,
                "pca_recall": history.pca_recall,
                "pca_int8_recall": history.pca_int8_recall,
                "pca_pq_recall": history.pca_pq_recall,
                "seconds": seconds,
            }
        )
    return Comparison(header, rows, records)


def _value(experiment: Experiment, name: str) -> Any:
    value = experiment.config.get(name)
    return value.get("path") if name == "data" and isinstance(value, dict) else value
