"""Several experiments side by side: the settings that differ, and what came of them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dploss.config import OPTIONS, applicable
from dploss.experiments.catalog import Experiment, short_ids
from dploss.experiments.history import BASELINES, STORED_BASELINES
from dploss.experiments.recalls import MeasuredRecall
from dploss.experiments.summary import (
    LOSSES,
    NAME_WIDTH,
    data_name,
    epochs_done,
    extremes,
    outcome,
    recall_name,
    setting,
    short,
)
from dploss.text import MISSING, duration, elided, fitted_table, narrow_table, number, wrapped_list


@dataclass(frozen=True)
class Comparison:
    """Several experiments side by side.

    Attributes:
        header: the columns: the short id, every setting that differs, then what came of it.
        rows: cells of text, an experiment each.
        records: the same as plain values, for JSON.
        settings: of each experiment the settings that differ and matter to it, as text by name.
    """

    header: list[str]
    rows: list[list[str]]
    records: list[dict[str, Any]]
    settings: list[dict[str, str]]

    def lines(self) -> list[str]:
        """The comparison for a terminal: a row of results each, the settings that differ below it; then baselines."""
        cells = [dict(zip(self.header, row, strict=True)) for row in self.rows]
        (recall,) = [name for name in self.header if name.startswith("recall@")]
        header = ["experiment", "epochs", recall, "gain", *LOSSES.values(), "time"]
        results = [
            [
                one["experiment"],
                one["done"],
                one[recall],
                number(record["gain"], "+.4f"),
                *(one[f"{name} loss"] for name in LOSSES.values()),
                one["time"],
            ]
            for one, record in zip(cells, self.records, strict=True)
        ]
        first, *table = fitted_table(header, results, left=1, elastic=0)
        lines = [first]
        for line, settings in zip(table, self.settings, strict=True):
            differing = [f"{name}={value}" for name, value in settings.items()]
            lines += [line, *(wrapped_list("    ", differing, indent=4) if differing else [])]
        columns = [name for name in ("recall rows", *BASELINES) if name in self.header]
        baselines = [[one["experiment"], *(one[name] for name in columns)] for one in cells]
        return [*lines, "", "gain is over the strongest of these:", *narrow_table(["experiment", *columns], baselines)]


def compare(experiments: Sequence[Experiment], recalls: Sequence[Sequence[MeasuredRecall]]) -> Comparison:
    """What differs between experiments' settings, beside their losses, recall and time.

    Args:
        experiments: which.
        recalls: of each, in order of epochs; may be empty.
    """
    ids = short_ids([experiment.id for experiment in experiments])
    values = [_settings(experiment) for experiment in experiments]
    differing = [name for name in OPTIONS if any(name in known for known in values) and _differs(name, experiments)]
    measured = [one for curve in recalls for one in curve[-1:]]
    several_sizes = len({one.recall.rows for one in measured}) > 1
    given = {name for one in experiments for name in one.history.baselines()}
    baselines_shown = [name for name in BASELINES if name in given or name not in STORED_BASELINES]
    header = ["experiment", *differing, "done"]
    header += [column for name in LOSSES.values() for column in (f"{name} loss", "best")]
    header += [recall_name(measured), *(["recall rows"] if several_sizes else []), *baselines_shown, "time"]
    rows, records, settings = [], [], []
    for experiment, curve, known in zip(experiments, recalls, values, strict=True):
        history = experiment.history
        losses = {name: extremes(experiment, name) for name in LOSSES}
        last = curve[-1] if curve else None
        seconds = history.cumulative_time[-1] if history.cumulative_time else math.nan
        baselines = history.baselines()
        row = [elided(ids[experiment.id], NAME_WIDTH)]
        texts = {name: data_name(experiment) if name == "data" else short(known.get(name)) for name in differing}
        settings.append({name: text for name, text in texts.items() if name in known})
        row += texts.values()
        row.append(epochs_done(experiment))
        row += [number(value) for found in losses.values() for value in (found.final, found.best)]
        row.append(number(last.recall.value if last else None, ".4f"))
        row += [f"{last.recall.rows:,}" if last else MISSING] if several_sizes else []
        row += [number(baselines.get(name), ".4f") for name in baselines_shown]
        rows.append([*row, duration(seconds)])
        records.append(
            {
                "experiment": experiment.id,
                "settings": {name: known.get(name) for name in differing},
                **outcome(experiment),
                "recall": {"epoch": last.epoch, **asdict(last.recall)} if last else None,
                "gain": last.recall.value - max(baselines.values()) if last and baselines else None,
            }
        )
    return Comparison(header, rows, records, settings)


def _settings(experiment: Experiment) -> dict[str, Any]:
    """The settings that matter to an experiment, `data` and `queries` as their paths."""
    config = experiment.config
    return {name: setting(config, name) for name in applicable(config) if config.get(name) is not None}


def _differs(name: str, experiments: Sequence[Experiment]) -> bool:
    # Whether it matters to an experiment is no difference by itself: the dropout of a linear encoder, say.
    return len({repr(setting(experiment.config, name)) for experiment in experiments}) > 1
