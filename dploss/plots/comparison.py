"""One figure of several experiments: their losses and recalls, over a table that is the legend too."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dploss.experiments.catalog import Experiment, short_ids
from dploss.experiments.comparison import Comparison
from dploss.experiments.history import START, MeasuredRecall
from dploss.experiments.summary import recall_name
from dploss.plots.curves import TITLES, epoch_axis, note
from dploss.plots.style import bar_style, baseline_style, line_style, log_scale, monospace, new_figure
from dploss.text import display_width, elided, text_table

# Inches.
_PANEL, _ROW, _BAR, _SWATCH = 3.9, 0.19, 0.24, 0.55
_LETTER = 0.0765  # of the table's 9 point monospaced font
_UPRIGHT_NAMES, _SLANTED_NAMES = 0.65, 1.15
_TICK_NAME = 14
_FEW = 8
# Above the panel's right end, where nothing is drawn.
_LEGEND = {"loc": "upper right", "bbox_to_anchor": (1, 1.13), "ncols": 3}
# A mark: the start's level is mostly that of renormalised PCA.
_START: Mapping[str, Any] = {
    "color": "black",
    "marker": "<",
    "linestyle": "",
    "markersize": 6,
    "clip_on": False,
    "zorder": 3,
}


def comparison_figure(
    experiments: Sequence[Experiment],
    recalls: Sequence[Sequence[MeasuredRecall]],
    comparison: Comparison,
    history: bool,
) -> Figure:
    """Every loss overlaid, recall as bars, if wanted recall over the epochs, and the table.

    Args:
        experiments: which.
        recalls: of each, in order of epochs; may be empty.
        comparison: the table.
        history: draw recall over the epochs, too.
    """
    table = text_table(comparison.header, comparison.rows)
    width = max(
        16.0, 0.6 + _SWATCH + _LETTER * max(map(display_width, table)), _BAR * len(experiments) * (2 if history else 1)
    )
    table_height = _ROW * len(table) + 0.3
    measured = any(recalls)
    names_height = _UPRIGHT_NAMES if len(experiments) <= _FEW or not measured else _SLANTED_NAMES
    height = (2 * _PANEL if measured else _PANEL) + 0.5 + names_height + table_height
    figure = new_figure(width, height)
    figure.suptitle(f"{len(experiments)} experiments", y=1 - 0.15 / height, va="top", size=12)

    rows = figure.add_gridspec(
        2 if measured else 1,
        6,
        left=0.9 / width,
        right=1 - 0.3 / width,
        top=1 - 0.8 / height,
        bottom=(table_height + names_height) / height,
        wspace=1.1 * 16 / width,
        hspace=0.42,
    )
    for place, loss in enumerate(TITLES):
        _overlay(figure.add_subplot(rows[0, 2 * place : 2 * place + 2]), experiments, loss)
    if measured:
        _bars(figure.add_subplot(rows[1, :3] if history else rows[1, :]), experiments, recalls)
    if measured and history:
        _recall_overlay(figure.add_subplot(rows[1, 3:]), experiments, recalls)
    _table(figure, table, table_height)
    return figure


def _overlay(axes: Axes, experiments: Sequence[Experiment], loss: str) -> None:
    drawn: list[float] = []
    for place, experiment in enumerate(experiments):
        values = getattr(experiment.history, loss)
        if np.isfinite(values).any():
            axes.plot(experiment.history.epochs, values, **line_style(place))
            drawn += values
    epoch_axis(axes)
    axes.set(title=TITLES[loss], ylabel="loss (log scale)")
    log_scale(axes, drawn)
    if not drawn:
        note(axes, "not recorded")


def _bars(axes: Axes, experiments: Sequence[Experiment], recalls: Sequence[Sequence[MeasuredRecall]]) -> None:
    names = short_ids([experiment.id for experiment in experiments])
    upright = len(experiments) <= _FEW
    for place, (experiment, curve) in enumerate(zip(experiments, recalls, strict=True)):
        value = curve[-1].recall.value if curve else 0.0
        axes.bar(place, value, width=0.6, **bar_style(place))
        baselines = experiment.history.baselines()
        for name, level in baselines.items():
            label = "" if name in axes.get_legend_handles_labels()[1] else name
            if name == START:
                axes.plot(place + 0.42, level, **_START, label=label)
            else:
                axes.hlines(level, place - 0.42, place + 0.42, color="white", linewidth=3.5)
                axes.hlines(level, place - 0.42, place + 0.42, **_level_style(name), label=label)
        axes.annotate(
            f"{value:.4f}" if curve else "not measured",
            (place, max([value, *baselines.values()])),
            (0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            rotation=0 if upright else 90,
            size=8,
        )
    axes.set_xticks(
        range(len(experiments)),
        [elided(names[experiment.id], _TICK_NAME) for experiment in experiments],
        rotation=0 if upright else 60,
        ha="center" if upright else "right",
        rotation_mode="anchor",
        size=8,
    )
    name = recall_name([one for curve in recalls for one in curve[-1:]])
    axes.set_title(f"KNN {name.capitalize()}", loc="left")
    axes.set(ylabel=name, ylim=(0, 1.2), xlim=(-0.7, len(experiments) - 0.3))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(axis="x", visible=False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(**_LEGEND)


def _recall_overlay(axes: Axes, experiments: Sequence[Experiment], recalls: Sequence[Sequence[MeasuredRecall]]) -> None:
    drawn: list[float] = []
    for place, curve in enumerate(recalls):
        values = [one.recall.value for one in curve]
        axes.plot([one.epoch for one in curve], values, **{**line_style(place), "marker": ".", "markevery": None})
        drawn += values
    levels = {(name, level) for experiment in experiments for name, level in experiment.history.baselines().items()}
    for name, level in sorted(levels):
        label = "" if name in axes.get_legend_handles_labels()[1] else name
        if name == START:
            axes.plot(0, level, **_START, label=label)
        else:
            axes.axhline(level, **_level_style(name), alpha=0.6, label=label)
        drawn.append(level)
    epoch_axis(axes)
    axes.set_xlim(left=0)
    name = recall_name([one for curve in recalls for one in curve])
    axes.set_title(f"KNN {name.capitalize()} by Epoch", loc="left")
    axes.set(ylabel=f"{name} (log scale)")
    log_scale(axes, drawn)
    if levels:
        axes.legend(**_LEGEND)


def _level_style(name: str) -> Mapping[str, Any]:
    # Black: the colours are the experiments'.
    return {**baseline_style(name), "color": "black"}


def _table(figure: Figure, lines: Sequence[str], height: float) -> None:
    """The table along the bottom, a piece of each run's line before its row."""
    across, up = 1 / figure.get_figwidth(), 1 / figure.get_figheight()
    fonts = monospace()
    wide = any(display_width(line) != len(line) for line in lines)
    for place, line in enumerate(lines):
        middle = (height - 0.1 - _ROW * (place + 0.5)) * up
        for text, column, side in _cells(line) if wide else [(line, 0, "left")]:
            edge = (0.3 + _SWATCH + _LETTER * column) * across
            figure.text(edge, middle, text, family=fonts, size=9, ha=side, va="center_baseline")
        if place:
            swatch = Line2D([0.3 * across, (0.2 + _SWATCH) * across], [middle, middle], **line_style(place - 1))
            swatch.set_markevery(None)
            figure.add_artist(swatch)


def _cells(line: str) -> Iterator[tuple[str, int, Literal["left", "right"]]]:
    """Each cell of a table's line, the column where it is aligned, and how.

    In a line drawn as one text a wide letter, which fonts draw narrower than two columns, would shift what follows.
    """
    for cell in re.finditer(r"\S+(?: \S+)*", line):
        if cell.start() == 0:
            yield cell.group(), 0, "left"
        else:
            yield cell.group(), display_width(line[: cell.end()]), "right"
