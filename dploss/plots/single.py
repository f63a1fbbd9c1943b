"""Figures of one experiment."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dploss.experiments.catalog import Experiment
from dploss.experiments.recalls import MeasuredRecall
from dploss.experiments.summary import data_name, epochs_done, evaluated, summary
from dploss.plots.curves import TITLES, evaluation_panel, loss_panel, recall_panel, sizes_panel, text_panel
from dploss.plots.style import new_figure
from dploss.text import elided, shown

_METRICS_IN_A_ROW = 4


def quick_figure(experiment: Experiment, recalls: Sequence[MeasuredRecall]) -> Figure:
    """The losses that were recorded, and recall where it was measured: two to a row.

    Args:
        experiment: which; it has at least one finished epoch.
        recalls: in order of epochs; may be empty.
    """
    losses = [loss for loss in TITLES if np.isfinite(getattr(experiment.history, loss)).any()] or ["total_loss"]
    more = _more_panels(experiment)
    count = len(losses) + bool(recalls) + len(more)
    columns = min(count, 2 if count <= 4 else 3)
    rows = -(-count // columns)
    figure = new_figure(1 + 5.5 * columns, 0.9 + 3.6 * rows)
    _finish(figure, experiment)
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for axes, loss in zip(panels, losses, strict=False):
        loss_panel(axes, experiment, [loss], TITLES[loss])
    if recalls:
        recall_panel(panels[len(losses)], experiment, recalls, "")
    for axes, draw in zip(panels[count - len(more) :], more, strict=True):
        draw(axes)
    return figure


def experiment_figure(experiment: Experiment, recalls: Sequence[MeasuredRecall], absent: str) -> Figure:
    """Six panels: three losses, all of them together, recall@k, and the summary.

    Under them recall by size of a Matryoshka encoder, or the metrics of images.

    Args:
        experiment: which; it has at least one finished epoch.
        recalls: in order of epochs; may be empty.
        absent: what the recall panel shows if it is.
    """
    more = _more_panels(experiment)
    rows = 2 + -(-len(more) // _METRICS_IN_A_ROW)
    figure = new_figure(16, 0.9 + 3.95 * rows)
    # Twelve narrow columns, three or four to a panel; the gaps between panels are in units of one of them.
    _finish(figure, experiment, wspace=9)
    grid = figure.add_gridspec(rows, 12)
    panels = [figure.add_subplot(grid[place // 3, place % 3 * 4 : place % 3 * 4 + 4]) for place in range(6)]
    for axes, loss in zip(panels, TITLES, strict=False):
        loss_panel(axes, experiment, [loss], TITLES[loss])
    loss_panel(panels[3], experiment, list(TITLES), "All Losses")
    recall_panel(panels[4], experiment, recalls, absent)
    text_panel(panels[5], summary(experiment, recalls), "Performance Summary")
    for place, draw in enumerate(more):
        row, column = divmod(place, _METRICS_IN_A_ROW)
        draw(figure.add_subplot(grid[2 + row, 3 * column : 3 * column + 3]))
    return figure


def _more_panels(experiment: Experiment) -> list[Callable[[Axes], None]]:
    """What only some experiments have to show."""
    by_size = any(experiment.history.recall_by_dim.values())
    panels: list[Callable[[Axes], None]] = [partial(sizes_panel, experiment=experiment)] if by_size else []
    return panels + [
        partial(evaluation_panel, experiment=experiment, metric=metric) for metric in evaluated(experiment)
    ]


def _finish(figure: Figure, experiment: Experiment, wspace: float = 0.3) -> None:
    """The title, and margins in inches."""
    config, height, width = experiment.config, figure.get_figheight(), figure.get_figwidth()
    size = f"{shown(config.get('input_dim'))} → {shown(config.get('latent_dim'))}"
    parts = [elided(shown(config.get("loss_function")), 28), size, data_name(experiment)] if config else []
    parts.append(f"{experiment.history.status}, epoch {epochs_done(experiment)}")
    figure.suptitle(f"{elided(experiment.id, 40)}\n{'  ·  '.join(parts)}", y=1 - 0.12 / height, va="top", size=11)
    figure.subplots_adjust(
        left=1.0 / width,
        right=1 - 0.3 / width,
        top=1 - 0.95 / height,
        bottom=0.6 / height,
        wspace=wspace,
        hspace=0.36,
    )
