"""Train an encoder that reduces the dimensions of vectors, or of images, and preserves their nearest neighbours.

Examples:
  train.py                                      the built-in vectors, to 512
  train.py --data my.parquet --latent-dim 128   your own, to 128 dimensions
  train.py --latent-dim 128 --epochs 0          the start alone: PCA
  train.py --bytes 64 --epochs 0                64 bytes, in seconds
  train.py --bytes 64                           ... and trained for it
  train.py --bytes 64 --code auto               ... by the best of the codes
  train.py --data 'shards/*.parquet' --column emb --metric cosine
  train.py --loss-function DPLossV1Norm --epochs 50 --save-interval 5
  train.py --matryoshka-dims 32,64,128,256      one encoder for four sizes
  train.py --target-recall 0.95                 the fewest dimensions
  train.py --target-recall 0.9 --bytes          the fewest bytes
  train.py --config run.toml --seed 1           settings from a file
  train.py --images my_pictures/                an autoencoder of images
  train.py --resume 3f2a                        resume experiment 3f2a...
  train.py --resume 3f2a --epochs 200           ... for more epochs
  torchrun --nproc-per-node 4 -m dploss train   in several processes
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dploss.cli.config_file import settings_of_file
from dploss.cli.flags import add_settings, environment_settings
from dploss.cli.main import INTERRUPTED, Parser, interrupt_flag, run
from dploss.cli.names import as_started, resume_line
from dploss.config import TrainConfig, flag_name
from dploss.errors import SettingError, TrainingError
from dploss.experiments.catalog import find_experiment
from dploss.experiments.layout import LATEST
from dploss.files.given import refuse_remote
from dploss.text import elided
from dploss.training.progress import Progress, summary
from dploss.training.torchrun import is_main_process, n_processes

if TYPE_CHECKING:
    from dploss.training.run import TrainingRun

# What --bytes is without a number.
_FEWEST = -1
# Of what is read, so that the line that says so fits a terminal.
_SOURCE_WIDTH = 60


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("train.py", __doc__)
    flags.add_argument(
        "--resume",
        metavar="ID",
        help="resume an experiment as if it had never stopped: its UUID, a unique prefix, or a path; its own settings "
        "hold, but --data or --images (if moved), --epochs, --device, and the flags of evaluation and output may be "
        "given anew",
    )
    flags.add_argument(
        "--config",
        metavar="FILE",
        help="settings from a .toml file, as latent_dim = 128, or from an experiment's config.json; flags override it",
    )
    flags.add_argument(
        "--target-recall",
        type=float,
        metavar="RECALL",
        help="train several sizes, find the smallest latent-dim whose held-out recall@k reaches this (0 to 1); with "
        "--bytes, without a number, the fewest bytes whose closed form does, and train that",
    )
    flags.add_argument(
        "--rerank",
        type=int,
        metavar="FACTOR",
        help="with --target-recall and --bytes: count k x FACTOR candidates, re-ranked by the originals",
    )
    add_settings(flags, alone={"bytes": _FEWEST})
    return flags


def train(args: Namespace) -> int:
    """Train, and print the result."""
    given = vars(args)
    reference, target, rerank = given.pop("resume"), given.pop("target_recall"), given.pop("rerank")
    file = given.pop("config")
    if file is not None:
        if reference is not None:
            raise SettingError("{config} starts a new experiment: leave {resume} out, or give its settings as flags")
        given = settings_of_file(file, given)
    fewest = given.get("bytes") == _FEWEST
    if fewest and target is None:
        raise SettingError("{bytes} needs a number, or {target_recall} to find it")
    if fewest:
        del given["bytes"]
    elif target is not None and given.get("bytes") is not None:
        raise SettingError("{target_recall} finds the bytes: give {bytes} without a number")
    if target is not None and (reference is not None or ("latent_dim" in given and not fewest)):
        other = "{resume}" if reference else "{latent_dim}"
        raise SettingError(f"{{target_recall}} trains sizes anew: leave {other} out")
    if rerank is not None and not fewest:
        raise SettingError("{rerank} goes with {target_recall} and {bytes}")
    if target is not None and n_processes() > 1:
        raise SettingError("{target_recall} trains in one process: start it without torchrun")
    config = TrainConfig(**environment_settings() | given) if reference is None else None
    if reference is not None:
        # An unknown experiment is said in one line, at once.
        find_experiment(given.get("checkpoints_dir", TrainConfig.checkpoints_dir), reference)
    source = f"experiment {reference}" if config is None else config.images or config.data
    if config is not None:
        refuse_remote(source)
    if is_main_process():
        Progress(given.get("quiet", False)).log(f"reading {elided(source, _SOURCE_WIDTH)} ...")

    # Imported late: --help, a wrong flag and the first line need not wait for torch.
    from dploss.training.launch import new_experiment, resumed_experiment

    if config is not None and target is not None:
        return train_bytes(config, target, 1 if rerank is None else rerank) if fewest else train_sizes(config, target)
    return train_one(resumed_experiment(reference, given) if config is None else new_experiment(config))


def train_one(training: "TrainingRun") -> int:
    """Train, and print the result."""
    from dploss.training.distributed import leave_process_group
    from dploss.training.run import ExperimentRun

    folder = training.folder if isinstance(training, ExperimentRun) else None
    try:
        with interrupt_flag() as should_stop:
            history = training.run(should_stop)
    except TrainingError as error:
        return failed(f"{error.named(flag_name)}; the last checkpoint is intact")
    except OSError as error:
        # A full disk, say.
        return failed(f"{error}{resume_hint(folder)}")
    except KeyboardInterrupt:
        # The second one: it does not wait for the step to end.
        return interrupted(folder)
    finally:
        leave_process_group()
    if history.status == "interrupted":
        return interrupted(folder)
    if folder is not None:
        print(summary(history, folder))
    return 0


def interrupted(folder: Path | None) -> int:
    """Say how to resume; only the main process, which has the folder, does."""
    if folder is not None:
        print(f"interrupted{resume_hint(folder)}", file=sys.stderr)
    return INTERRUPTED


def resume_hint(folder: Path | None) -> str:
    """What to type to resume what is in the folder; where nothing was saved, that."""
    if folder is None:
        return ""
    return f"; resume with: {resume_line(folder)}" if (folder / LATEST).is_file() else "; nothing was saved"


def train_bytes(config: TrainConfig, target: float, rerank: int) -> int:
    """Find the fewest bytes that reach the target, print the curve, and train them."""
    from dploss.training.byte_search import ByteSearch
    from dploss.training.launch import new_experiment

    search = ByteSearch(config, target, rerank)
    with interrupt_flag() as should_stop:
        found = search.run(should_stop)
    print("\n".join(search.lines()))
    return INTERRUPTED if found is None else train_one(new_experiment(found))


def train_sizes(config: TrainConfig, target: float) -> int:
    """Train sizes until the smallest that reaches the target is found, and print what each gave."""
    from dploss.training.size_search import SizeSearch

    search = SizeSearch(config, target)
    try:
        with interrupt_flag() as should_stop:
            history = search.run(should_stop)
    except TrainingError as error:
        return failed(error.named(flag_name))
    print("\n".join(search.lines()))
    if history is None:
        print(f"interrupted; what was trained is in {search.folder}", file=sys.stderr)
        return INTERRUPTED
    if len(search.trials) > 1:
        print(f"the sizes that were not taken are in {search.folder}", file=sys.stderr)
    print(summary(history, search.trials[-1].folder))
    return 0


def failed(reason: str) -> int:
    """Say why a training stopped."""
    print(as_started(f"train.py: {reason}"), file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(train, parser(), argv)
