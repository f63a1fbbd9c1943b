"""Train an encoder that shortens vectors, or images, and keeps their nearest neighbours.

Examples:
  train.py                                          the built-in vectors, 768 -> 512
  train.py --data my.parquet --latent-dim 128       your own, 128 numbers each
  train.py --data 'shards/*.parquet' --column emb --metric cosine
  train.py --loss-function DPLossV1Norm --epochs 50 --save-interval 5
  train.py --images my_pictures/                    a convolutional autoencoder of images
  train.py --resume 3f2a                            go on with experiment 3f2a...
  train.py --resume 3f2a --epochs 200               ... for more epochs
"""

import sys
from argparse import Namespace
from collections.abc import Sequence

from dploss.cli import INTERRUPTED, Parser, add_settings, environment_settings, interrupt_flag, run
from dploss.config import TrainConfig
from dploss.errors import TrainingError


def parser() -> Parser:
    """The script's flags."""
    summary, examples = __doc__.split("\n\n", 1)
    flags = Parser(prog="train.py", description=summary, epilog=examples)
    flags.add_argument(
        "--resume",
        metavar="ID",
        help="go on with an experiment as if it had never stopped: its UUID, a unique prefix, or a path; its own "
        "settings hold, but --data or --images (if moved), --epochs, --device, and the flags of evaluation and output "
        "may be given anew",
    )
    add_settings(flags)
    return flags


def train(args: Namespace) -> int:
    """Train, and print the result."""
    given = vars(args)
    reference = given.pop("resume")
    config = TrainConfig(**environment_settings() | given) if reference is None else None

    # Imported here: --help and a wrong flag need not wait for torch.
    from dploss.launch import new_experiment, resumed_experiment
    from dploss.progress import summary

    trainer = resumed_experiment(reference, given) if config is None else new_experiment(config)
    try:
        with interrupt_flag() as should_stop:
            history = trainer.run(should_stop)
    except TrainingError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    if history.status == "interrupted":
        print(f"interrupted; go on with: train.py --resume {trainer.manager.folder}", file=sys.stderr)
        return INTERRUPTED
    print(summary(history, trainer.manager.folder))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(train, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
