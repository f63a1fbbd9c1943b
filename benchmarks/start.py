"""Does a training end above its start? Held-out recall of start, best.pt and last epoch, for every loss of the family.

Few rows and few epochs, and many; sizes from strong to weak reduction. All else is train.py's default, and recall is
the one that train.py itself measures. Every result is written at once: after Ctrl-C the same command continues.

Examples:
  start.py --jobs 2                                  the built-in vectors: an hour
  start.py --jobs 2 --data builtin my.parquet
  start.py --losses DPLossV3 --sizes 64 --seeds 0
"""

import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from quality import write_outcomes

from dploss.cli.main import Parser, run
from dploss.config import TrainConfig
from dploss.data import open_vectors
from dploss.losses.distance_preserving import LOSSES
from dploss.text import text_table
from dploss.training.launch import new_experiment

OUT = Path(__file__).resolve().parents[1] / "docs" / "start.json"
# Rows and epochs.
LENGTHS = ((2_000, 5), (3_000, 12), (10_000, 100))


@dataclass(frozen=True)
class Case:
    """A training; its fields are settings of TrainConfig."""

    data: str
    limit: int
    epochs: int
    latent_dim: int
    loss_function: str
    seed: int


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("start.py", __doc__)
    flags.add_argument("--data", nargs="+", default=["builtin"], metavar="FILE", help="(default: builtin)")
    flags.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[64, 128, 512],
        metavar="D",
        help="latent dimensions; in place of one that is not below the vectors', half of theirs (default: 64 128 512)",
    )
    flags.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES), metavar="LOSS", help="(all)")
    flags.add_argument("--seeds", type=int, nargs="+", default=[0, 1], metavar="N", help="(default: 0 1)")
    flags.add_argument("--lengths", type=int, nargs="+", choices=range(3), default=[0, 1, 2], help=f"of {LENGTHS}")
    flags.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at once (default: %(default)s)")
    flags.add_argument("--out", type=Path, default=OUT, metavar="JSON", help="results (default: docs/start.json)")
    return flags


def cases(args: Namespace) -> Iterator[Case]:
    """What is to be trained, the shortest first."""
    dims = {source: open_vectors(source, limit=3).rows.shape[1] for source in args.data}
    for (rows, epochs), seed, source in product((LENGTHS[place] for place in args.lengths), args.seeds, args.data):
        for size, loss in product(args.sizes, args.losses):
            yield Case(source, rows, epochs, size if size < dims[source] else dims[source] // 2, loss, seed)


def trained(case: Case) -> dict[str, Any]:
    """Train, and return recalls of start, best checkpoint and last epoch, and those of PCA."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(**asdict(case), checkpoints_dir=folder, no_tensorboard=True, quiet=True)
        history = new_experiment(config).run()
    recalls = dict(zip(history.recall_epochs, history.recall_history, strict=True))
    best = [one.epoch for one in history.evaluations if one.is_best][-1]
    found = history.baselines() | {"best.pt": recalls[best], "epoch": best, "last": history.recall_history[-1]}
    return asdict(case) | {"data": Path(case.data).stem} | found | {"k": history.recall_k, "rows": history.recall_rows}


def measure(args: Namespace) -> int:
    """Train what the results file lacks, then print the table."""
    entries = json.loads(args.out.read_text())["entries"] if args.out.exists() else []
    keys = list(Case.__dataclass_fields__)
    done = {tuple(entry[key] for key in keys) for entry in entries}
    missing = [case for case in cases(args) if (Path(case.data).stem, *list(asdict(case).values())[1:]) not in done]
    write_outcomes(trained, missing, args.jobs, entries, args.out)
    print("\n".join(table(entries)))
    return 0


def table(entries: Sequence[dict[str, Any]]) -> list[str]:
    """For every loss and length, over sizes, data and seeds: how far best.pt and the last epoch are from the start."""
    rows = []
    for loss, (limit, epochs) in product(LOSSES, LENGTHS):
        cells = [one for one in entries if (one["loss_function"], one["limit"], one["epochs"]) == (loss, limit, epochs)]
        if cells:
            best, last = ([one[name] - one["start"] for one in cells] for name in ("best.pt", "last"))
            figures = [min(best), sum(best) / len(best), min(last), sum(last) / len(last)]
            rows.append([loss, f"{limit:,}", str(epochs), str(len(cells)), *(f"{one:+.4f}" for one in figures)])
    header = ["loss", "rows", "epochs", "trainings", "best.pt, least", "mean", "last epoch, least", "mean"]
    return text_table(header, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(measure, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
