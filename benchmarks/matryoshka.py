"""One Matryoshka encoder against encoders of a single size each: held-out recall@10, and the loss at each size.

The single-size encoders are those of DPLossV3 in quality.json, measured by quality.py on the same splits.

Examples:
  matryoshka.py                                 the built-in vectors, seeds 0 1 2: ten minutes
  matryoshka.py --data my.parquet --seeds 0
"""

import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_results import described, read
from timing import report

from dploss.cli.main import Parser, run
from dploss.config import TrainConfig
from dploss.errors import InputError
from dploss.evaluation.recall import RecallEvaluator
from dploss.training.launch import new_experiment

_ALONE = Path(__file__).resolve().parents[1] / "docs" / "quality.json"
_K = 10


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("matryoshka.py", __doc__)
    flags.add_argument("--data", default="builtin", help="(default: %(default)s)")
    flags.add_argument("--limit", type=int, default=10_000, help="first N rows (default: %(default)s)")
    flags.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[32, 64, 128, 256, 512],
        help="those below the vectors' dimensions are used (default: 32 64 128 256 512)",
    )
    flags.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    flags.add_argument("--alone", type=Path, default=_ALONE, help="quality.py's results (default: docs/quality.json)")
    flags.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: %(default)s)")
    flags.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    return flags


def recalls_alone(path: Path, data: Mapping[str, Any], sizes: Sequence[int], seed: int) -> list[float]:
    """Recall of the single-size encoders.

    Raises:
        InputError: one has not been measured, or on different rows.
    """
    name, results = data["name"], read(path)
    if data not in results["data"]:
        raise InputError(f"{path}: no results of these {data['rows']} rows of {name}: run quality.py")
    wanted = {(name, size, seed, "DPLossV3"): size for size in sizes}
    found = {
        wanted[key]: entry[f"recall@{_K}"]
        for entry in results["entries"]
        if (key := (entry["data"], entry["size"], entry["seed"], entry["method"])) in wanted
    }
    missing = [str(size) for size in sizes if size not in found]
    if missing:
        raise InputError(
            f"{path}: no results of DPLossV3 on {name} at {', '.join(missing)}, seed {seed}: run quality.py"
        )
    return [found[size] for size in sizes]


def recalls_together(args: Namespace, sizes: Sequence[int], seed: int) -> list[float]:
    """Train one encoder for all sizes, and evaluate each on the held-out rows."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            data=args.data,
            limit=args.limit,
            matryoshka_dims=tuple(sizes),
            seed=seed,
            checkpoints_dir=folder,
            eval_every=0,
            no_tensorboard=True,
            quiet=True,
        )
        training = new_experiment(config)
        training.run()
    rows, encoder = training.trainer.rows, training.trainer.encoder
    held_out = rows[np.delete(np.arange(len(rows)), training.trainer.train_index)]
    evaluator = RecallEvaluator(_K)
    return [evaluator.evaluate(held_out, encoder.encode(held_out, dim=size)).value for size in sizes]


def compare(args: Namespace) -> int:
    """Print the table: a line per seed, and the mean loss of recall."""
    torch.set_num_threads(args.threads)
    name = Path(args.data).stem
    data = described(name, args.data, args.limit)
    sizes = [size for size in args.sizes if size < data["dim"]]
    if not sizes:
        raise InputError(f"--sizes: none is below the {data['dim']} dimensions of a vector")
    rows, lost = [], []
    for seed in args.seeds:
        alone = recalls_alone(args.alone, data, sizes, seed)
        together = recalls_together(args, sizes, seed)
        lost.append(np.subtract(alone, together))
        print(f"{name}, seed {seed}: lost {lost[-1].round(4)}", file=sys.stderr)
        for what, values in (("alone", alone), ("Matryoshka", together), ("lost", lost[-1])):
            rows.append({"data": name, "seed": str(seed), "": what} | dict(zip(map(str, sizes), values, strict=True)))
    mean = np.mean(lost, axis=0)
    rows.append({"data": name, "seed": "mean", "": "lost"} | dict(zip(map(str, sizes), mean, strict=True)))
    report([{key: one if isinstance(one, str) else float(one) for key, one in row.items()} for row in rows], args.json)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(compare, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
