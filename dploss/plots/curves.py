"""The panels that several figures share: losses and recall over the epochs, a text."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dploss.experiments.catalog import Experiment
from dploss.experiments.history import MeasuredRecall
from dploss.experiments.summary import best_epoch, evaluated, recall_name
from dploss.plots.style import COLOURS, log_scale, monospace
from dploss.text import display_width, metric_title

TITLES = {"total_loss": "Total Loss", "rank_loss": "Rank Loss", "pairdist_loss": "Pair Distance Loss"}
_FEW = 40


def loss_panel(axes: Axes, experiment: Experiment, losses: Sequence[str], title: str) -> None:
    """Some losses of one experiment over its epochs, on a log scale."""
    history = experiment.history
    drawn = []
    for loss in losses:
        values = getattr(history, loss)
        if np.isfinite(values).any():
            place = list(TITLES).index(loss)
            marker = "o" if len(values) <= _FEW and len(losses) == 1 else ""
            # The total often lies on one of its parts: it is drawn wide, and they on top of it.
            width = 4 if len(losses) > 1 and place == 0 else None
            axes.plot(
                history.epochs,
                values,
                color=COLOURS[place],
                linewidth=width,
                marker=marker,
                markersize=3,
                label=TITLES[loss],
            )
            drawn += values
    epoch_axis(axes)
    axes.set(title=title, ylabel="loss (log scale)")
    log_scale(axes, drawn)
    if not drawn:
        note(axes, "not recorded")
    elif len(losses) > 1:
        axes.legend()


def recall_panel(axes: Axes, experiment: Experiment, recalls: Sequence[MeasuredRecall], absent: str) -> None:
    """Recall over the epochs, its last value written beside it, and PCA's level; `absent` is shown if there is none."""
    name = recall_name(recalls)
    axes.set(title=f"KNN {name.capitalize()}", ylabel=f"{name} (log scale)")
    epoch_axis(axes)
    if not recalls:
        note(axes, absent)
        return
    epochs = [one.epoch for one in recalls]
    values = [one.recall.value for one in recalls]
    pca = experiment.history.pca_recall
    marker = "o" if len(values) <= _FEW else ""
    axes.plot(epochs, values, color=COLOURS[0], marker=marker, markersize=3.5)
    axes.plot(epochs[-1:], values[-1:], color=COLOURS[0], marker="o", markersize=7)
    axes.annotate(f"{values[-1]:.4f}", (epochs[-1], values[-1]), (-4, 8), textcoords="offset points", ha="right")
    if pca is not None:
        axes.axhline(pca, color=COLOURS[1], linestyle="--", linewidth=1.2)
        below = values[-1] >= pca
        axes.annotate(
            f"PCA {pca:.4f}",
            (1, pca),
            (-4, -4 if below else 4),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="top" if below else "bottom",
            color=COLOURS[1],
        )
    mark_best(axes, experiment, epochs, values)
    axes.set_xlim(left=0, right=max([*epochs, *experiment.history.epochs]) * 1.03 or 1)
    log_scale(axes, values if pca is None else [*values, pca])
    axes.margins(y=0.25)


def sizes_panel(axes: Axes, experiment: Experiment) -> None:
    """A Matryoshka encoder's last recall at each of its sizes, beside PCA's at the same sizes."""
    history = experiment.history
    dims = [int(dim) for dim, values in history.recall_by_dim.items() if values]
    curves = {
        "first dimensions of the latents": [history.recall_by_dim[str(dim)][-1] for dim in dims],
        "PCA": [history.pca_recall_by_dim.get(str(dim), np.nan) for dim in dims],
    }
    for place, (label, values) in enumerate(curves.items()):
        linestyle, markersize = ("--", 0) if place else ("-", 5)
        axes.plot(
            dims, values, marker="o", label=label, color=COLOURS[place], linestyle=linestyle, markersize=markersize
        )
    for dim, value in zip(dims, curves["first dimensions of the latents"], strict=True):
        axes.annotate(f"{value:.4f}", (dim, value), (0, 8), textcoords="offset points", ha="center", size=8)
    name = f"recall@{history.recall_k or 'k'}"
    axes.set(
        title=f"{name.capitalize()} by Size, epoch {history.recall_epochs[-1]:g}", xlabel="dimensions", ylabel=name
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(dims, [str(dim) for dim in dims])
    axes.minorticks_off()
    axes.margins(x=0.12, y=0.2)
    axes.legend(loc="lower right")


def evaluation_panel(axes: Axes, experiment: Experiment, metric: str) -> None:
    """One metric of the images that checkpoints make, over the epochs."""
    epochs, values = evaluated(experiment)[metric]
    axes.plot(epochs, values, color=COLOURS[3], marker="o", markersize=4)
    mark_best(axes, experiment, epochs, values)
    epoch_axis(axes)
    axes.set_title(metric_title(metric), loc="left")
    axes.set_ylabel(metric)
    axes.margins(y=0.2)


def mark_best(axes: Axes, experiment: Experiment, epochs: Sequence[float], values: Sequence[float]) -> None:
    """A star where the best checkpoint is."""
    best = best_epoch(experiment)
    if best is not None and best in epochs:
        value = values[list(epochs).index(best)]
        axes.plot(
            [best],
            [value],
            marker="*",
            label="best.pt",
            color=COLOURS[5],
            markeredgecolor="black",
            markersize=13,
            linestyle="",
        )
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)


def epoch_axis(axes: Axes) -> None:
    """Whole epochs along x."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))


def note(axes: Axes, text: str) -> None:
    """A text in the middle of a panel that has nothing to draw."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#666666", wrap=True)
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
