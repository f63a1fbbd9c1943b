"""Study a training, or compare several: losses, recall@k on held-out rows, settings and times.

--list --json prints an object for each experiment: experiment (its id), folder, created, data, rows, train_rows,
held_out_rows, input_dim, settings (those that matter to it, by their names in config.json), status, epochs, total_loss,
rank_loss and pairdist_loss (each with final, best and best_epoch), best_recall (epoch, value, k, rows), start_recall,
pca_renormalised_recall, pca_recall, pca_int8_recall, pca_pq_recall, seconds. --compare --json has of the settings those
that differ, and recall (of the last checkpoint) and gain (over the strongest baseline) in place of best_recall.

Examples:
  visualize_training.py --list                 the experiments there are
  visualize_training.py --list --json          ... for programs
  visualize_training.py                        choose one (piped: the newest)
  visualize_training.py --experiment_id 3f2a   experiment 3f2a...
  visualize_training.py --recall-history       every checkpoint, other k too
  visualize_training.py --no-recall            measure nothing
  visualize_training.py --save my_plot.png     .png, .pdf or .svg
  visualize_training.py --compare              choose several (piped: all)
  visualize_training.py --compare --experiments 3f2a 9c --json
"""

import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from dploss.cli.flags import PathFlag, add_experiment_flags, report_skipped
from dploss.cli.main import Parser, run
from dploss.cli.prompt import ask
from dploss.errors import InputError
from dploss.evaluation.recall_history import measured_recall, recorded_recall, with_measured
from dploss.experiments.catalog import (
    Experiment,
    find_experiment,
    finished_experiment,
    finished_experiments,
    list_experiments,
    no_experiment,
    short_id,
)
from dploss.experiments.comparison import compare
from dploss.experiments.listing import listing, records
from dploss.experiments.recalls import MeasuredRecall
from dploss.experiments.summary import summary
from dploss.files.atomic import json_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("visualize_training.py", __doc__)
    what = flags.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="print the experiments, newest first")
    what.add_argument("--compare", action="store_true", help="draw several experiments together")
    add_experiment_flags(flags)
    flags.add_argument("--experiments", metavar="ID", nargs="+", help="those to compare: ids, unique prefixes or paths")
    recall = flags.add_mutually_exclusive_group()
    recall.add_argument("--no-recall", action="store_true", help="measure nothing; draw what the training recorded")
    recall.add_argument(
        "--recall-history", action="store_true", help="measure every kept checkpoint, at k = 1, 10 and 50 too"
    )
    flags.add_argument("--json", action="store_true", help="with --list or --compare: print it as JSON")
    flags.add_argument(
        "--save",
        metavar="FIGURE",
        action=PathFlag,
        help="where to (default: training.png in the experiment's folder, compare.png in the folder of all)",
    )
    return flags


def visualize(args: Namespace) -> int:
    """Do what the flags ask for."""
    problem = contradiction(args)
    if problem:
        raise InputError(problem)
    if args.list:
        return print_list(args)
    if args.compare:
        return draw_several(args)
    return draw_one(args)


def contradiction(args: Namespace) -> str | None:
    """Which flags do not go together."""
    if args.json and not (args.list or args.compare):
        return "--json needs --list or --compare"
    if args.experiments and not args.compare:
        return "--experiments needs --compare"
    if args.compare and args.experiment_id:
        return "--compare takes --experiments ID ID ..., not --experiment_id"
    if args.list and (args.experiment_id or args.save):
        return f"{'--experiment_id' if args.experiment_id else '--save'} does not go with --list"
    return None


def print_list(args: Namespace) -> int:
    """Print the table of experiments."""
    experiments, skipped = list_experiments(args.checkpoints_dir)
    report_skipped(skipped)
    if not experiments:
        raise no_experiment(args.checkpoints_dir)
    print(json_text(records(experiments)) if args.json else "\n".join(listing(experiments)))
    return 0


def draw_one(args: Namespace) -> int:
    """Draw one experiment and print its summary."""
    experiment = chosen(args, several=False)[0]

    # Imported late: --list, --help and questions need not wait for matplotlib.
    from dploss.plots import experiment_figure, figure_path

    path = figure_path(args.save or experiment.folder / "training.png")
    recalls = recall_of(experiment, args)
    absent = "not measured (--no-recall)" if args.no_recall else "not measured"
    figure = experiment_figure(experiment, recalls, absent)
    print("\n".join(summary(experiment, recalls)))
    return finish(figure, path, sys.stdout)


def draw_several(args: Namespace) -> int:
    """Draw experiments together and print what differs."""
    experiments = chosen(args, several=True)

    from dploss.plots import comparison_figure, figure_path

    path = figure_path(args.save or Path(args.checkpoints_dir) / "compare.png")
    recalls = [recall_of(experiment, args) for experiment in experiments]
    comparison = compare(experiments, recalls)
    figure = comparison_figure(experiments, recalls, comparison, args.recall_history)
    if args.json:
        print(json_text(comparison.records))
        return finish(figure, path, sys.stderr)
    print("\n".join(comparison.lines()))
    return finish(figure, path, sys.stdout)


def chosen(args: Namespace, several: bool) -> list[Experiment]:
    """The experiments that flags name, or a person at a terminal; else all of them, or the newest."""
    named = args.experiments if several else args.experiment_id and [args.experiment_id]
    if named:
        folders = dict.fromkeys(find_experiment(args.checkpoints_dir, reference) for reference in named)
        return [finished_experiment(args.checkpoints_dir, str(folder)) for folder in folders]
    experiments, skipped = finished_experiments(args.checkpoints_dir)
    report_skipped(skipped)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return experiments if several else experiments[:1]
    print("\n".join(listing(experiments)), file=sys.stderr)
    question = "which ones (1,2,5 or 1-4 or ids; Enter: all)" if several else "which one (number or id; Enter: 1)"
    return ask(experiments, question, several)


def recall_of(experiment: Experiment, args: Namespace) -> list[MeasuredRecall]:
    """Recall over the epochs: recorded, with the latest checkpoint measured, or every one that was kept."""
    recorded = recorded_recall(experiment)
    if args.no_recall:
        return recorded

    def warn(text: str) -> None:
        print(f"recall of {experiment.id}: {text}", file=sys.stderr)

    def progress(paths: Sequence[Path]) -> Iterable[Path]:
        hidden = not sys.stderr.isatty()
        named = f"recall of {short_id(experiment.folder)}"
        return tqdm(paths, desc=named, unit="checkpoint", leave=False, disable=hidden)

    try:
        measured = measured_recall(experiment, args.recall_history, warn, progress)
    except InputError as error:
        warn(f"not measured: {error}")
        return recorded
    return with_measured(recorded, measured)


def finish(figure: "Figure", path: Path, stream: TextIO) -> int:
    """Save the figure, print where, and show it where there is a screen."""
    from dploss.plots import save, show

    save(figure, path)
    print(path, file=stream)
    show(figure)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(visualize, parser(), argv)
