"""The panels that several figures share: losses and recall over the epochs, a text."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dploss.experiments.catalog import Experiment
from dploss.experiments.history import BASELINES
from dploss.experiments.recalls import MeasuredRecall
from dploss.experiments.summary import best_epoch, evaluated, recall_name
from dploss.plots.style import COLOURS, baseline_style, legend_below, log_scale, monospace
from dploss.text import display_width, metric_title

TITLES = {"total_loss": "Total Loss", "rank_loss": "Rank Loss", "pairdist_loss": "Pair Distance Loss"}
_FEW = 40
_GREY = "#666666"
_Level = TypeVar("_Level", float, list[float])


def loss_panel(axes: Axes, experiment: Experiment, losses: Sequence[str], title: str) -> None:
    """Some losses of one experiment over its epochs, on a log scale."""
    history = experiment.history
    drawn = []
    for loss in losses:
        values = getattr(history, loss)
        if np.isfinite(values).any():
            place = list(TITLES).index(loss)
            # A line through one point is nothing.
            marker = "o" if len(values) <= (_FEW if len(losses) == 1 else 1) else ""
            # The total often lies on one of its parts: it is drawn wide, and they on top of it.
            width = 4 if len(losses) > 1 and place == 0 else None
            axes.plot(
                history.epochs,
                values,
                color=COLOURS[place],
                linewidth=width,
                marker=marker,
                markersize=6 if width else 3,
                label=TITLES[loss],
            )
            drawn += values
    epoch_axis(axes)
    axes.set(title=title, ylabel="loss (log scale)")
    log_scale(axes, drawn)
    if not drawn:
        note(axes, "not recorded" if history.epochs else "no epoch was trained")
    elif len(losses) > 1:
        legend_below(axes, 9)


def recall_panel(axes: Axes, experiment: Experiment, recalls: Sequence[MeasuredRecall], absent: str) -> None:
    """Recall over the epochs, at other k too where that is measured, and the levels of the baselines.

    Args:
        axes: the panel.
        experiment: whose.
        recalls: in order of epochs; may be empty.
        absent: shown if they are.
    """
    name = recall_name(recalls)
    axes.set(title=f"KNN {name.capitalize()}", ylabel=f"{name} (log scale)")
    epoch_axis(axes)
    if not recalls:
        note(axes, absent)
        return
    epochs = [one.epoch for one in recalls]
    values = [one.recall.value for one in recalls]
    marker = "o" if len(values) <= _FEW else ""
    axes.plot(epochs, values, color=COLOURS[0], marker=marker, markersize=3.5)
    known = [
        (one.epoch, one.recall.value, one.recall.standard_error)
        for one in recalls
        if one.recall.standard_error is not None
    ]
    if known:
        x, y, error_bars = zip(*known, strict=True)
        axes.errorbar(x, y, error_bars, fmt="none", ecolor=COLOURS[0], elinewidth=1, capsize=2, clip_on=False)
    error = recalls[-1].recall.standard_error
    last = f"epoch {epochs[-1]:g}: {values[-1]:.4f}" + ("" if error is None else f" ± {error:.4f} standard error")
    axes.plot(epochs[-1:], values[-1:], color=COLOURS[0], marker="o", markersize=7, label=last)
    mark_best(axes, experiment, epochs, values, detailed=True)
    baselines = experiment.history.baselines()
    for shown, value in level_names(baselines).items():
        axes.axhline(value, **baseline_style(shown[0]), label=f"{' = '.join(shown)} {value:.4f}")
    ends = _other_recalls(axes, recalls)
    axes.set_xlim(left=0, right=max([*epochs, *experiment.history.epochs]) * 1.03 or 1)
    log_scale(axes, [*values, *baselines.values(), *ends.values()])
    axes.margins(y=0.1)
    legend_below(axes, 8)
    _name_ends(axes, ends)


def _other_recalls(axes: Axes, recalls: Sequence[MeasuredRecall]) -> dict[str, float]:
    """Draw recall at other k over the epochs at which it was measured; returns where the curves end, by their k."""
    ends = {}
    for k in sorted({other.k for one in recalls for other in one.others}):
        points = [(one.epoch, other.value) for one in recalls for other in one.others if other.k == k]
        (line,) = axes.plot(*zip(*points, strict=True), color=COLOURS[4], linewidth=1, marker=".", markersize=4)
        ends[f"@{k}"] = points[-1][1]
    if ends:
        line.set_label(f"recall{', '.join(ends)}: {', '.join(f'{value:.4f}' for value in ends.values())}")
    return ends


def _name_ends(axes: Axes, ends: Mapping[str, float], size: float = 8) -> None:
    """Names beside the right end of the panel, where the curves end; lower where they would overlap."""
    line = 1.25 * size / 72 * axes.figure.dpi / axes.bbox.height
    above = np.inf
    for name, value in sorted(ends.items(), key=lambda end: end[1], reverse=True):
        height = axes.transAxes.inverted().transform(axes.transData.transform((0, value)))[1]
        above = min(height, above - line)
        axes.text(1.01, above, name, transform=axes.transAxes, size=size, va="center", color=_GREY)


def sizes_panel(axes: Axes, experiment: Experiment) -> None:
    """A Matryoshka encoder's last recall at each of its sizes, beside the baselines' at the same sizes."""
    history = experiment.history
    dims = [int(dim) for dim, values in history.recall_by_dim.items() if values]
    latest = [history.recall_by_dim[str(dim)][-1] for dim in dims]
    found = [history.baselines(str(dim)) for dim in dims]
    curves = {name: [one.get(name, np.nan) for one in found] for name in BASELINES if any(name in one for one in found)}
    for shown, values in level_names(curves).items():
        axes.plot(dims, values, **baseline_style(shown[0]), label=" = ".join(shown))
    axes.plot(dims, latest, color=COLOURS[0], marker="o", markersize=5, label="first dimensions of the latents")
    for dim, value in zip(dims, latest, strict=True):
        axes.annotate(f"{value:.4f}", (dim, value), (0, 8), textcoords="offset points", ha="center", size=8)
    name = f"recall@{history.recall_k or 'k'}"
    axes.set(
        title=f"{name.capitalize()} by Size, epoch {history.recall_epochs[-1]:g}", xlabel="dimensions", ylabel=name
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(dims, [str(dim) for dim in dims])
    axes.minorticks_off()
    axes.margins(x=0.12, y=0.2)
    legend_below(axes, 8)


def level_names(baselines: Mapping[str, _Level]) -> dict[tuple[str, ...], _Level]:
    """Baselines by the names that they have: those that are drawn at one place have one line."""
    names: dict[str, list[str]] = {}
    for name, level in baselines.items():
        names.setdefault(str(np.round(level, 4)), []).append(name)
    return {tuple(same): baselines[same[0]] for same in names.values()}


def evaluation_panel(axes: Axes, experiment: Experiment, metric: str) -> None:
    """One metric of the images that checkpoints make, over the epochs."""
    epochs, values = evaluated(experiment)[metric]
    axes.plot(epochs, values, color=COLOURS[3], marker="o", markersize=4)
    mark_best(axes, experiment, epochs, values)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    epoch_axis(axes)
    axes.set_title(metric_title(metric), loc="left")
    axes.set_ylabel(metric)
    axes.margins(y=0.2)


def mark_best(
    axes: Axes, experiment: Experiment, epochs: Sequence[float], values: Sequence[float], detailed: bool = False
) -> None:
    """A star where the best checkpoint is; in detail the legend has its epoch and value."""
    best = best_epoch(experiment)
    if best is not None and best in epochs:
        value = values[list(epochs).index(best)]
        axes.plot(
            [best],
            [value],
            marker="*",
            label="best.pt" + (f", epoch {best}: {value:.4f}" if detailed else ""),
            color=COLOURS[5],
            markeredgecolor="black",
            markersize=13,
            linestyle="",
            clip_on=False,
        )


def epoch_axis(axes: Axes) -> None:
    """Whole epochs along x."""
    axes.set_xlabel("epoch")
    low, high = axes.get_xlim()
    if high - low < 1:
        axes.set_xlim((low + high) / 2 - 1, (low + high) / 2 + 1)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))


def note(axes: Axes, text: str) -> None:
    """A text in the middle of a panel that has nothing to draw."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=_GREY, wrap=True)
    axes.set(xticks=[], yticks=[])


def text_panel(axes: Axes, lines: Sequence[str], title: str) -> None:
    """Monospaced lines, as large as the panel allows, up to 9 points."""
    axes.set_title(title, loc="left")
    axes.set_axis_off()
    fonts = monospace()
    inch = axes.figure.dpi
    width, height = 72 * axes.bbox.width / inch, 72 * axes.bbox.height / inch
    size = min(9, width / (0.61 * max(map(display_width, lines))), height / (1.5 * len(lines)))
    for index, line in enumerate(lines):
        # A text each: within one, lines with letters that reach lower are further apart.
        below = (0, -1.5 * size * (index + 0.5))
        axes.annotate(
            line, (0, 1), below, "axes fraction", "offset points", family=fonts, size=size, va="center_baseline"
        )
