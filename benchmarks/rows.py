"""Recall against the number of training rows: renormalised PCA and trainings with train.py's defaults, same test rows.

The last rows of the file are the test rows, as neighbours of each other; trainings take the first ones. With more rows
fewer epochs suffice: each number of rows has its own.

Examples:
  rows.py --data wordnet_minilm_384_100k.npy --jobs 2      (make_wordnet.py makes that file): half an hour
  rows.py --data my.npy --rows 5000 20000 --epochs 100 50 --losses DPLossV3
"""

import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from quality import write_outcomes

from dploss.cli.main import Parser, run
from dploss.config import TrainConfig
from dploss.data import open_vectors
from dploss.errors import InputError
from dploss.evaluation.recall import RecallEvaluator
from dploss.experiments.history import PCA_RENORMALISED
from dploss.losses.distance_preserving import LOSSES
from dploss.models.pca import PCA
from dploss.text import text_table
from dploss.training.launch import new_experiment

OUT = Path(__file__).resolve().parents[1] / "docs" / "rows.json"
_K, _TEST_ROWS = 10, 3000
KEYS = ("data", "rows", "epochs", "size", "method")


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("rows.py", __doc__)
    flags.add_argument("--data", required=True, metavar="FILE", help="vectors, in random order")
    flags.add_argument("--rows", type=int, nargs="+", default=[5_000, 10_000, 30_000, 90_000], metavar="N")
    flags.add_argument("--epochs", type=int, nargs="+", default=[100, 100, 40, 20], metavar="N", help="of each --rows")
    flags.add_argument("--sizes", type=int, nargs="+", default=[64], metavar="D", help="(default: 64)")
    flags.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES), metavar="LOSS", help="(all)")
    flags.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at once (default: %(default)s)")
    flags.add_argument("--out", type=Path, default=OUT, metavar="JSON", help="results (default: docs/rows.json)")
    return flags


def evaluated(case: tuple[str, int, int, int, str]) -> dict[str, Any]:
    """Recall of a method that has seen the first rows, on the last ones: file, rows, epochs, size and method."""
    path, rows, epochs, size, method = case
    vectors = open_vectors(path).rows
    test_rows = vectors[len(vectors) - _TEST_ROWS :]
    if method == PCA_RENORMALISED:
        encode = PCA.fit(vectors[:rows], size).encode_renormalised
    else:
        with tempfile.TemporaryDirectory() as folder:
            config = TrainConfig(
                data=path,
                limit=rows,
                val_fraction=0,
                latent_dim=size,
                loss_function=method,
                epochs=epochs,
                checkpoints_dir=folder,
                eval_every=0,
                no_tensorboard=True,
                quiet=True,
            )
            training = new_experiment(config)
            training.run()
        encode = training.trainer.encoder.encode
    recall = RecallEvaluator(_K, _TEST_ROWS).evaluate(test_rows, encode(test_rows)).value
    return dict(zip(KEYS, (Path(path).stem, *case[1:]), strict=True)) | {f"recall@{_K}": recall}


def measure(args: Namespace) -> int:
    """Measure what the results file lacks, then print the table."""
    if len(args.rows) != len(args.epochs):
        raise InputError("--epochs: give as many as --rows")
    available = len(open_vectors(args.data).rows)
    if max(args.rows) + _TEST_ROWS > available:
        raise InputError(f"--rows {max(args.rows)}: the file has {available:,} rows, {_TEST_ROWS:,} of them to test on")
    entries = json.loads(args.out.read_text())["entries"] if args.out.exists() else []
    done = {tuple(entry[key] for key in KEYS) for entry in entries}
    lengths = list(zip(args.rows, args.epochs, strict=True))
    cases = product(lengths, args.sizes, (PCA_RENORMALISED, *args.losses))
    wanted = [(args.data, *length, *one) for length, *one in cases]
    missing = [case for case in wanted if (Path(args.data).stem, *case[1:]) not in done]
    write_outcomes(evaluated, missing, args.jobs, entries, args.out)
    print("\n".join(table(entries)))
    return 0


def table(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Methods by numbers of rows, at each size: recall, and the share of renormalised PCA's loss that is recovered."""
    lengths = sorted({(one["rows"], one["epochs"]) for one in entries})
    found = {(one["size"], one["method"], one["rows"]): one[f"recall@{_K}"] for one in entries}
    rows = []
    for size, method in product(sorted({one["size"] for one in entries}), (PCA_RENORMALISED, *LOSSES)):
        cells = []
        for count, _ in lengths:
            recall, pca = found.get((size, method, count)), found.get((size, PCA_RENORMALISED, count))
            share = "" if pca is None or recall in (None, pca) else f" {(recall - pca) / (1 - pca):+.1%}"
            cells.append("-" if recall is None else f"{recall:.3f}{share}")
        if set(cells) != {"-"}:
            rows.append([str(size), method, *cells])
    header = ["dimensions", f"recall@{_K}", *(f"{count:,} rows, {epochs} epochs" for count, epochs in lengths)]
    return text_table(header, rows, left=2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(measure, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
