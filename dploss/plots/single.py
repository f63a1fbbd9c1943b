"""Pictures of one experiment."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from dploss.experiments import Experiment
from dploss.measured_recall import MeasuredRecall
from dploss.plots.curves import TITLES, loss_panel, recall_panel, text_panel
from dploss.plots.style import new_figure
from dploss.summaries import data_name, epochs_done, summary
from dploss.tables import elided, shown


def quick_figure(experiment: Experiment, recalls: Sequence[MeasuredRecall]) -> Figure:
    """The losses that were recorded, and recall where it was measured: two to a row.

    Args:
        experiment: which; it has at least one finished epoch.
        recalls: in order of epochs; may be empty.
    """
    losses = [loss for loss in TITLES if np.isfinite(getattr(experiment.history, loss)).any()] or ["total_loss"]
    count = len(losses) + bool(recalls)
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = new_figure(1 + 5.5 * columns, 0.9 + 3.6 * rows)
    for place, loss in enumerate(losses, start=1):
        loss_panel(figure.add_subplot(rows, columns, place), experiment, [loss], TITLES[loss])
    if recalls:
        recall_panel(figure.add_subplot(rows, columns, count), experiment, recalls, "")
    _finish(figure, experiment)
    return figure


def experiment_figure(experiment: Experiment, recalls: Sequence[MeasuredRecall], absent: str) -> Figure:
    """Six panels: three losses, all of them together, recall@k, and the summary.

    Args:
        experiment: which; it has at least one finished epoch.
        recalls: in order of epochs; may be empty.
        absent: what the recall panel says if it is.
    """
    figure = new_figure(16, 8.8)
    panels = figure.subplots(2, 3).flat
    _finish(figure, experiment)
    for loss, axes in zip(TITLES, panels, strict=False):
        loss_panel(axes, experiment, [loss], TITLES[loss])
    loss_panel(panels[3], experiment, list(TITLES), "All Losses")
    recall_panel(panels[4], experiment, recalls, absent)
    text_panel(panels[5], summary(experiment, recalls), "Performance Summary")
    return figure


def _finish(figure: Figure, experiment: Experiment) -> None:
    """The title, and margins in inches."""
    config, height, width = experiment.config, figure.get_figheight(), figure.get_figwidth()
    size = f"{shown(config.get('input_dim'))} → {shown(config.get('latent_dim'))}"
    parts = [elided(shown(config.get("loss_function")), 28), size, data_name(experiment)] if config else []
    parts.append(f"{experiment.history.status}, epoch {epochs_done(experiment)}")
    figure.suptitle(f"{elided(experiment.id, 40)}\n{'  ·  '.join(parts)}", y=1 - 0.12 / height, va="top", size=11)
    figure.subplots_adjust(
        left=0.9 / width,
        right=1 - 0.3 / width,
        top=1 - 0.95 / height,
        bottom=0.6 / height,
        wspace=0.3,
        hspace=0.36,
    )
