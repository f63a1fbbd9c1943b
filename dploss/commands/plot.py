"""Glance at a training: its losses, and recall where it was measured. It may still be running.

Examples:
  quick_plot.py                            the newest experiment
  quick_plot.py --experiment_id 3f2a       experiment 3f2a...
  quick_plot.py --save curves.pdf          .png, .pdf or .svg
"""

from argparse import Namespace
from collections.abc import Sequence

from dploss.cli.flags import PathFlag, add_experiment_flags, named_or_newest
from dploss.cli.main import Parser, run


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("quick_plot.py", __doc__)
    add_experiment_flags(flags)
    flags.add_argument(
        "--save",
        metavar="FIGURE",
        action=PathFlag,
        help="where to (default: quick_plot.png in the experiment's folder)",
    )
    return flags


def plot(args: Namespace) -> int:
    """Draw, save, print where, and show where there is a screen."""
    experiment = named_or_newest(args)

    # Imported here: --help and a wrong flag need not wait for matplotlib.
    from dploss.evaluation.recall_history import recorded_recall
    from dploss.plots import figure_path, quick_figure, save, show

    path = figure_path(args.save or experiment.folder / "quick_plot.png")
    figure = quick_figure(experiment, recorded_recall(experiment))
    save(figure, path)
    print(path)
    show(figure)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(plot, parser(), argv)
