"""The table of a comparison: for each run its line, the settings that differ, recall as a bar, and losses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dploss.experiments.catalog import Experiment, short_ids
from dploss.experiments.history import PCA, PCA_INT8, PCA_PQ, PCA_RENORMALISED, START
from dploss.experiments.recalls import MeasuredRecall
from dploss.experiments.summary import LOSSES, NAME_WIDTH, data_name, epochs_done, extremes, recall_name, short
from dploss.plots.curves import level_names
from dploss.plots.style import bar_style, baseline_style, line_style
from dploss.text import display_width, duration, elided, number

# Inches.
_LINE, _AROUND, _HEADER, _LEGEND, _AXIS, _BOTTOM = 0.175, 0.11, 0.3, 0.3, 0.5, 0.15
_MARGIN, _SWATCH, _SPACE = 0.3, 0.5, 0.3
_COLUMN, _BAR = 0.88, 0.2
_LETTER = 0.078  # of a label, at most
_LABEL_COLUMNS, _LABEL_LINES, _MORE = 48, 3, " · …"
_SIZE, _SMALL = 9, 8
_GREY = "#666666"
# How settings are named in a row's label, the most telling first; others by their name and value.
_WORDS = {
    "loss_function": "{}",
    "latent_dim": "{} d",
    "bytes": "{} bytes",
    "code": "{}",
    "data": "{}",
    "tau": "tau {}",
    "lr": "lr {}",
}
# A row's own levels have a marker each: the start, mostly that of renormalised PCA, above the bar, the others below.
_MARK: Mapping[str, Any] = {"color": "black", "markeredgecolor": "white", "markersize": 7, "markeredgewidth": 0.6}
_MARKERS = {START: "v", PCA_RENORMALISED: "D", PCA: "o", PCA_INT8: "s", PCA_PQ: "P"}


@dataclass(frozen=True)
class Run:
    """One of the experiments that are compared.

    Attributes:
        place: among them, which has a colour and a dash.
        experiment: its settings and history.
        recalls: in order of epochs; may be empty.
        record: of `dploss.experiments.comparison`.
    """

    place: int
    experiment: Experiment
    recalls: Sequence[MeasuredRecall]
    record: Mapping[str, Any]

    def label(self) -> list[str]:
        """Lines of the settings that differ between the runs; its loss and size where none do."""
        settings = {name: self.record["settings"][name] for name in _WORDS if name in self.record["settings"]}
        settings |= self.record["settings"]
        config = self.experiment.config
        if not settings:
            settings = {name: config.get(name) for name in ("loss_function", "latent_dim")}
        parts = [self._part(name, value) for name, value in settings.items() if name in config]
        lines = [""]
        for part in filter(None, parts):
            longer = f"{lines[-1]} · {part}" if lines[-1] else part
            if display_width(longer) <= _LABEL_COLUMNS - len(_MORE):
                lines[-1] = longer
            elif len(lines) == _LABEL_LINES:
                lines[-1] += _MORE
                break
            else:
                lines.append(elided(part, _LABEL_COLUMNS - len(_MORE)))
        return [line for line in lines if line]

    def _part(self, name: str, value: object) -> str:
        """A setting in the label; empty where it says nothing."""
        words = name.replace("_", " ")
        if value is False or (name == "code" and self.experiment.config.get("bytes") is None):
            return ""
        if value is True:
            return words
        if value is None:
            return f"no {words}"
        text = data_name(self.experiment) if name == "data" else short(value)
        return _WORDS.get(name, words + " {}").format(text)


def shared_levels(runs: Sequence[Run]) -> dict[str, float]:
    """The baselines that have the same recall in every run: they belong to the data and the size, not to a run."""
    first, *others = (run.experiment.history.baselines() for run in runs)
    return {
        name: level
        for name, level in first.items()
        if all(name in one and round(one[name], 4) == round(level, 4) for one in others)
    }


def _row_height(run: Run) -> float:
    return _LINE * (len(run.label()) + 1) + _AROUND


def table_height(runs: Sequence[Run]) -> float:
    """In inches, with the legend above, and below the axis of the bars and a margin."""
    above = _HEADER + (_LEGEND if any(run.experiment.history.baselines() for run in runs) else 0)
    return above + sum(map(_row_height, runs)) + _below(runs)


def _below(runs: Sequence[Run]) -> float:
    return _BOTTOM + (_AXIS if any(run.recalls for run in runs) else 0)


def draw_table(figure: Figure, runs: Sequence[Run]) -> None:
    """Draw it along the bottom of a figure.

    Args:
        figure: has room there, of their `table_height`.
        runs: the rows, from above.
    """
    inches_wide, inches_high = figure.get_size_inches()

    def write(x: float, y: float, text: str, **how: Any) -> None:
        figure.text(x / inches_wide, y / inches_high, text, va="center_baseline", **{"size": _SIZE, **how})

    heights, bottom = [_row_height(run) for run in runs], _below(runs)
    tops = bottom + np.cumsum(heights[::-1])[::-1]
    middles = tops - np.array(heights) / 2

    ids = short_ids([run.experiment.id for run in runs])
    labels = [[*run.label(), elided(ids[run.experiment.id], NAME_WIDTH)] for run in runs]
    for run, lines, top in zip(runs, labels, tops, strict=True):
        for place, line in enumerate(lines):
            how = {"size": _SMALL, "color": _GREY} if place == len(lines) - 1 else {}
            y = top - _AROUND / 2 - _LINE * (place + 0.5)
            write(_MARGIN + _SWATCH + 0.12, y, line, **how)
        swatch = Line2D(
            np.array([_MARGIN, _MARGIN + _SWATCH]) / inches_wide,
            np.full(2, top - heights[run.place] / 2) / inches_high,
            **line_style(run.place),
        )
        swatch.set_markevery(None)
        figure.add_artist(swatch)
        edge = np.array([_MARGIN, inches_wide - _MARGIN]) / inches_wide
        figure.add_artist(Line2D(edge, np.full(2, top / inches_high), color="#e4e4e4", linewidth=0.7, zorder=0))

    columns = _columns(runs)
    right = inches_wide - _MARGIN
    for name, cells in reversed(columns.items()):
        for middle, cell in zip(middles, cells, strict=True):
            write(right, middle, cell, ha="right")
        write(right, tops[0] + _HEADER / 2, name, ha="right", color=_GREY, size=_SMALL)
        right -= _COLUMN
    if any(run.recalls for run in runs):
        label = _LETTER * max(display_width(line) for lines in labels for line in lines)
        left = _MARGIN + _SWATCH + 0.12 + label + _SPACE
        # The last header, right-aligned, is narrower than its column.
        width = right + 0.13 - _SPACE - left
        axes = figure.add_axes(
            (left / inches_wide, bottom / inches_high, width / inches_wide, sum(heights) / inches_high)
        )
        axes.set_ylim(0, sum(heights))
        _bars(axes, runs, middles - bottom)


def _columns(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Cells of text by their header, a run each."""
    last = [run.recalls[-1].recall if run.recalls else None for run in runs]
    measured = [one for run in runs for one in run.recalls[-1:]]
    several = len({one.recall.k for one in measured}) > 1
    columns = {}
    if measured:
        columns[recall_name(measured)] = [
            number(one.value if one else None, ".4f") + (f" @{one.k}" if one and several else "") for one in last
        ]
    for loss, name in LOSSES.items():
        columns[f"{name} loss"] = [number(extremes(run.experiment, loss).final) for run in runs]
    columns["epoch"] = [epochs_done(run.experiment) for run in runs]
    times = [run.experiment.history.cumulative_time for run in runs]
    return {**columns, "time": [duration(one[-1] if one else math.nan) for one in times]}


def _bars(axes: Axes, runs: Sequence[Run], middles: np.ndarray) -> None:
    """Recall after the last epoch as a bar each, with its standard error, and the levels that cost no training."""
    shared = shared_levels(runs)
    for run, middle in zip(runs, middles, strict=True):
        if run.recalls:
            recall = run.recalls[-1].recall
            axes.barh(middle, recall.value, height=_BAR, **bar_style(run.place))
            if recall.standard_error is not None:
                axes.errorbar(recall.value, middle, xerr=recall.standard_error, ecolor="black", elinewidth=1, capsize=2)
        else:
            axes.text(0.01, middle, "not measured", size=_SMALL, color=_GREY, va="center_baseline")
    for names, level in level_names(shared).items():
        style = {**baseline_style(names[0]), "color": "black"}
        axes.axvline(level, color="white", linewidth=3.5)
        axes.axvline(level, **style, label=f"{' = '.join(names)} {level:.4f}")
    for name, marker in _MARKERS.items():
        own = {middle: run.experiment.history.baselines().get(name) for run, middle in zip(runs, middles, strict=True)}
        points = [(level, middle) for middle, level in own.items() if level is not None]
        if points and name not in shared:
            levels, heights = np.array(points).T
            beside = _BAR / 2 + 0.035
            axes.plot(
                levels,
                heights + (beside if name == START else -beside),
                linestyle="",
                marker=marker,
                **_MARK,
                label=name,
            )
    name = recall_name([one for run in runs for one in run.recalls[-1:]])
    axes.set(xlim=(0, 1), yticks=[], xticks=np.linspace(0, 1, 6), xlabel=name)
    axes.set_title(f"KNN {name.capitalize()}", loc="left")
    # The lines between the rows are behind.
    axes.patch.set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        above_title = 1 + _HEADER / axes.get_ylim()[1]
        axes.legend(loc="lower left", bbox_to_anchor=(0, above_title), borderaxespad=0, ncols=5, fontsize=_SMALL)
