"""Draw docs/training.png and docs/compare.png again: four trainings of the built-in vectors to 64 dimensions.

Examples:
  pictures.py                            minutes on two cores; the trainings go into build/pictures
  pictures.py --checkpoints-dir runs     trainings that are there already are drawn as they are
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from dploss.cli.main import Parser, run
from dploss.commands import visualize
from dploss.config import TrainConfig
from dploss.experiments.catalog import list_experiments
from dploss.training.launch import new_experiment

DOCS = Path(__file__).resolve().parents[1] / "docs"
RUNS = (
    {"loss_function": "DPLossV3"},
    {"loss_function": "DPLossV3", "tau": 0.3},
    {"loss_function": "DPLossV1"},
    {"loss_function": "DPLossV2"},
)


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("pictures.py", __doc__)
    flags.add_argument("--checkpoints-dir", metavar="DIR", default="build/pictures", help="(default: %(default)s)")
    return flags


def draw(args: Namespace) -> int:
    """Train what is missing, and draw."""
    home = args.checkpoints_dir
    for settings in RUNS[len(list_experiments(home)[0]) :]:
        new_experiment(
            TrainConfig(
                latent_dim=64, epochs=50, save_interval=5, checkpoints_dir=home, no_tensorboard=True, **settings
            )
        ).run()
    # Listed newest first.
    ids = [one.id for one in reversed(list_experiments(home)[0])]
    visualize.main(["--checkpoints-dir", home, "--experiment_id", ids[0], "--save", str(DOCS / "training.png")])
    return visualize.main(
        ["--checkpoints-dir", home, "--compare", "--experiments", *ids, "--save", str(DOCS / "compare.png")]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(draw, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
