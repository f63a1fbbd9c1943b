"""Train an encoder that shortens vectors, or images, and keeps their nearest neighbours.

Examples:
  train.py                                          the built-in vectors, 768 -> 512
  train.py --data my.parquet --latent-dim 128       your own, 128 numbers each
  train.py --data 'shards/*.parquet' --column emb --metric cosine
  train.py --loss-function DPLossV1Norm --epochs 50 --save-interval 5
  train.py --matryoshka-dims 32,64,128,256          one encoder for four sizes
  train.py --target-recall 0.95                     the smallest size that keeps 95 % of the neighbours
  train.py --images my_pictures/                    a convolutional autoencoder of images
  train.py --resume 3f2a                            go on with experiment 3f2a...
  train.py --resume 3f2a --epochs 200               ... for more epochs
  torchrun --nproc-per-node 4 train.py --data big.npy    several processes, one for each GPU
"""

import sys
from argparse import Namespace
from collections.abc import Sequence

from dploss.cli.flags import INTERRUPTED, Parser, add_settings, environment_settings, interrupt_flag, run
from dploss.config import TrainConfig
from dploss.errors import InputError, TrainingError
from dploss.training.progress import summary


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
    flags.add_argument(
        "--target-recall",
        type=float,
        metavar="RECALL",
        help="train several sizes, find the smallest latent-dim whose held-out recall@k reaches this (0 to 1)",
    )
    add_settings(flags)
    return flags


def train(args: Namespace) -> int:
    """Train, and print the result."""
    given = vars(args)
    reference, target = given.pop("resume"), given.pop("target_recall")
    if target is not None and (reference is not None or "latent_dim" in given):
        raise InputError(f"--target-recall trains sizes anew: leave {'--resume' if reference else '--latent-dim'} out")
    config = TrainConfig(**environment_settings() | given) if reference is None else None

    # Imported here: --help and a wrong flag need not wait for torch.
    from dploss.training.distributed import leave_team, team_size
    from dploss.training.launch import new_experiment, resumed_experiment

    if target is not None:
        if team_size() > 1:
            raise InputError("--target-recall trains in one process: start it without torchrun")
        return train_sizes(config, target)
    trainer = resumed_experiment(reference, given) if config is None else new_experiment(config)
    try:
        with interrupt_flag() as should_stop:
            history = trainer.run(should_stop)
    except TrainingError as error:
        return failed(str(error))
    except OSError as error:
        # A full disk, say.
        folder = trainer.manager.folder
        return failed(f"{error}; what was saved before is whole, go on with: train.py --resume {folder}")
    finally:
        leave_team()
    if not trainer.team.leads:
        return INTERRUPTED if history.status == "interrupted" else 0
    if history.status == "interrupted":
        print(f"interrupted; go on with: train.py --resume {trainer.manager.folder}", file=sys.stderr)
        return INTERRUPTED
    print(summary(history, trainer.manager.folder))
    return 0


def train_sizes(config: TrainConfig, target: float) -> int:
    """Train sizes until the smallest that reaches the target is found, and print what each gave."""
    from dploss.training.size_search import SizeSearch

    search = SizeSearch(config, target)
    try:
        with interrupt_flag() as should_stop:
            history = search.run(should_stop)
    except TrainingError as error:
        return failed(str(error))
    for trial in search.trials:
        print(trial)
    if history is None:
        print(f"interrupted; what was trained is in {search.folder}", file=sys.stderr)
        return INTERRUPTED
    if len(search.trials) > 1:
        print(f"the sizes that were not taken are in {search.folder}", file=sys.stderr)
    print(summary(history, search.trials[-1].folder))
    return 0


def failed(why: str) -> int:
    """Say why a training could not go on."""
    print(f"train.py: {why}", file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(train, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
