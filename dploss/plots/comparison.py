"""One figure of several experiments: curves of losses, metrics and recall above a table, which is the legend too."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dploss.experiments.catalog import Experiment
from dploss.experiments.comparison import Comparison
from dploss.experiments.recalls import MeasuredRecall
from dploss.experiments.summary import data_name, evaluated, recall_name
from dploss.plots.comparison_table import Run, draw_table, shared_levels, table_height
from dploss.plots.curves import TITLES, epoch_axis, level_names, note
from dploss.plots.style import baseline_style, line_style, log_scale, new_figure
from dploss.text import elided, metric_title, shown

# Inches.
_WIDTH, _TOP = 14.0, 0.5
_LEFT, _RIGHT, _GAP = 0.95, 0.3, 0.95
_ABOVE, _PANEL, _BELOW = 0.42, 2.5, 0.55
_MANY_FAMILIES, _LOW_PANEL = 3, 1.9
_METRICS_IN_A_ROW = 4
_NAME = 20  # columns, in a panel's title


def comparison_figure(
    experiments: Sequence[Experiment],
    recalls: Sequence[Sequence[MeasuredRecall]],
    comparison: Comparison,
    history: bool,
) -> Figure:
    """Losses overlaid, those of every loss function on axes of their own; and the table, with recall as bars.

    Between them metrics of images, where there are any, and if wanted recall over the epochs.

    Args:
        experiments: which.
        recalls: of each, in order of epochs; may be empty.
        comparison: of the same experiments; names the settings that differ.
        history: draw recall over the epochs, too.
    """
    runs = [
        Run(place, experiment, curve, record)
        for place, (experiment, curve, record) in enumerate(zip(experiments, recalls, comparison.records, strict=True))
    ]
    families: dict[str, list[Run]] = {}
    for run in runs:
        families.setdefault(shown(run.experiment.config.get("loss_function", "unknown loss")), []).append(run)
    rows: list[Sequence[Callable[[Axes], None]]] = [
        _loss_panels(family, name if len(families) > 1 else "") for name, family in families.items()
    ]
    columns = [3] * len(rows)
    metrics = list(dict.fromkeys(metric for run in runs for metric in evaluated(run.experiment)))
    for first in range(0, len(metrics), _METRICS_IN_A_ROW):
        chosen = metrics[first : first + _METRICS_IN_A_ROW]
        rows.append([partial(_metric_panel, runs=runs, metric=metric) for metric in chosen])
        columns.append(_METRICS_IN_A_ROW)
    if history and any(recalls):
        rows.append([partial(_recall_panel, runs=runs)])
        columns.append(1)

    panel = _PANEL if len(families) < _MANY_FAMILIES else _LOW_PANEL
    each = _ABOVE + panel + _BELOW
    height = _TOP + each * len(rows) + table_height(runs)
    figure = new_figure(_WIDTH, height)
    figure.suptitle(_title(experiments), y=1 - 0.15 / height, va="top", size=12)
    for row, (draws, count) in enumerate(zip(rows, columns, strict=True)):
        bottom = height - _TOP - each * row - _ABOVE - panel
        width = (_WIDTH - _LEFT - _RIGHT - _GAP * (count - 1)) / count
        for column, draw in enumerate(draws):
            left = _LEFT + column * (width + _GAP)
            draw(figure.add_axes((left / _WIDTH, bottom / height, width / _WIDTH, panel / height)))
    draw_table(figure, runs)
    return figure


def _title(experiments: Sequence[Experiment]) -> str:
    """How many, and what they share of data and size."""
    count = f"{len(experiments)} experiment" + "s" * (len(experiments) > 1)
    names = {data_name(one) for one in experiments}
    sizes = {(shown(one.config.get("input_dim")), shown(one.config.get("latent_dim"))) for one in experiments}
    common = [*names] if len(names) == 1 else []
    common += [f"{before} → {after} dimensions" for before, after in sizes] if len(sizes) == 1 else []
    return "  ·  ".join([count, *common])


def _loss_panels(runs: Sequence[Run], family: str) -> list[Callable[[Axes], None]]:
    """A panel for every loss that a run of the family recorded, or one that says that none did."""
    recorded = [
        loss for loss in TITLES if any(np.isfinite(getattr(run.experiment.history, loss)).any() for run in runs)
    ]
    return [partial(_loss_panel, runs=runs, loss=loss, family=family) for loss in recorded or ["total_loss"]]


def _loss_panel(axes: Axes, runs: Sequence[Run], loss: str, family: str) -> None:
    drawn: list[float] = []
    for run in runs:
        values = getattr(run.experiment.history, loss)
        if np.isfinite(values).any():
            # A line through one point is nothing.
            more = {"marker": "o", "markevery": None} if len(values) == 1 else {}
            axes.plot(run.experiment.history.epochs, values, **{**line_style(run.place), **more})
            drawn += values
    epoch_axis(axes)
    title = f"{elided(family, _NAME)}: {TITLES[loss]}" if family else TITLES[loss]
    axes.set(title=title, ylabel="loss (log scale)")
    log_scale(axes, drawn)
    if not drawn:
        note(axes, "not recorded")


def _metric_panel(axes: Axes, runs: Sequence[Run], metric: str) -> None:
    for run in runs:
        measured = evaluated(run.experiment)
        if metric in measured:
            axes.plot(*measured[metric], **_with_points(run.place))
    epoch_axis(axes)
    axes.set(title=elided(metric_title(metric), _NAME), ylabel=elided(metric, _NAME))


def _recall_panel(axes: Axes, runs: Sequence[Run]) -> None:
    """Recall over the epochs; the levels that all runs share. Where they differ, the bars have each run's own."""
    drawn: list[float] = []
    for run in filter(lambda run: run.recalls, runs):
        values = [one.recall.value for one in run.recalls]
        axes.plot([one.epoch for one in run.recalls], values, **_with_points(run.place))
        drawn += values
    levels = shared_levels(runs)
    for names, level in level_names(levels).items():
        style = {**baseline_style(names[0]), "color": "black"}
        axes.axhline(level, **style, label=f"{' = '.join(names)} {level:.4f}")
    drawn += levels.values()
    epoch_axis(axes)
    axes.set_xlim(left=0)
    name = recall_name([one for run in runs for one in run.recalls])
    axes.set_title(f"KNN {name.capitalize()} by Epoch", loc="left")
    axes.set(ylabel=f"{name} (log scale)")
    log_scale(axes, drawn)
    if levels:
        # Above the panel, where nothing is drawn.
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1, ncols=3)


def _with_points(place: int) -> Mapping[str, Any]:
    return {**line_style(place), "marker": ".", "markevery": None}
