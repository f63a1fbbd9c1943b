"""What `test.py --drift` says of new rows that have moved, and of those that have not; and what a new training wins.

Encoders are trained on a part of the built-in vectors; the new rows are others of the same, scaled or rotated ones, or
other topics (clusters by k-means). "retrained" is the gain of an encoder that was trained anew, with the same settings,
on the rows that the closed form was fitted to, on the rows that it was evaluated on: what "gain" is to predict.

Examples:
  drift.py                                       latents of 64 dimensions, three seeds
  drift.py --bytes 64 --epochs 5                 stored ones, trained
  drift.py --data old.parquet new.npy            your own vectors, too
"""

import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from timing import parser, report

from dploss.config import TrainConfig
from dploss.data import open_vectors
from dploss.evaluation.drift import measure_drift, samples
from dploss.evaluation.eval_rows import other_rows
from dploss.evaluation.held_out import HeldOut
from dploss.models.encoder import DPEncoder
from dploss.training.launch import new_experiment

K, _MOST, _TOPICS, _FEW = 10, 3000, 8, 200
Case = tuple[str, np.ndarray, np.ndarray]


def cases(rows: np.ndarray, seed: int) -> Iterator[Case]:
    """Names, rows to train on and new rows, of one set."""
    random = np.random.RandomState(seed)
    old, new = np.array_split(rows[random.permutation(len(rows))], 2)
    rotation = np.linalg.qr(random.normal(size=(rows.shape[1],) * 2))[0].astype(np.float32)
    yield "the same", old, new
    yield f"the same, {_FEW} rows", old, new[:_FEW]
    yield "scaled by 1.2", old, 1.2 * new
    yield "rotated: another model", old, new @ rotation
    yield f"rotated, {_FEW} rows", old, new[:_FEW] @ rotation
    topics = KMeans(_TOPICS, n_init=1, random_state=seed).fit(rows).labels_
    yield "other topics", rows[topics < _TOPICS // 2], rows[topics >= _TOPICS // 2]
    yield "a new topic", rows[topics > 0], rows[topics == 0]
    shuffled = random.permutation(len(rows))
    old, new = rows[shuffled[::2]], shuffled[1::2]
    yield "one topic, not new", old, rows[new[topics[new] == 0]]


def trained(path: Path, settings: dict[str, Any], **more: Any) -> Any:
    """A training on a file, done."""
    config = TrainConfig(
        data=str(path), checkpoints_dir=str(path.parent), no_tensorboard=True, quiet=True, **settings, **more
    )
    run = new_experiment(config)
    run.run()
    return run


def recall(encoder: DPEncoder, rows: np.ndarray) -> float:
    """Of the stored form where there is one."""
    return HeldOut(rows, np.arange(len(rows)), K, (), 0).recall(encoder, encoder.code).value


def measured(old: np.ndarray, new: np.ndarray, settings: dict[str, Any]) -> dict[str, Any]:
    """The figures of one case."""
    with tempfile.TemporaryDirectory() as name:
        files = {part: Path(name) / f"{part}.npy" for part in ("old", "new", "fitted")}
        np.save(files["old"], old)
        np.save(files["new"], new)
        run = trained(files["old"], settings)
        encoder = run.trainer.encoder
        data = other_rows(run.record, str(files["new"]), None, None, False, _MOST)
        drift = measure_drift(encoder, run.trainer.config, data, K, _MOST)
        _, test_rows, fitted_rows = samples(data, K, _MOST)
        np.save(files["fitted"], fitted_rows)
        again = trained(files["fitted"], settings, val_fraction=0).trainer.encoder
        name = "recall" if encoder.code is None else "recall_stored"
        return {
            "held-out": drift.figures[name].held_out,
            "new": drift.figures[name].new,
            "recall moved": drift.figures[name].moved,
            "others moved": sum(move.moved for name, move in drift.figures.items() if not name.startswith("recall")),
            "gain": drift.gain.gain,
            "±": drift.gain.sampling,
            "retrained": recall(again, test_rows) - recall(encoder, test_rows),
            "retrain": drift.verdict == "retrain",
            "uncertain": bool(drift.uncertain),
        }


def over_seeds(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Means, and of how many seeds something was said."""
    said = {"recall moved", "retrain", "uncertain"}
    return {
        name: f"{sum(one[name] for one in found)} of {len(found)}"
        if name in said
        else f"{np.mean([one[name] for one in found]):{'.1f' if name == 'others moved' else '.3f'}}"
        for name in found[0]
    }


def table(args: Namespace) -> list[dict[str, Any]]:
    """One line of each case."""
    settings = {"epochs": args.epochs, "bytes": args.bytes} | ({} if args.bytes else {"latent_dim": args.latent_dim})
    given = [open_vectors(name).rows[: args.limit] for name in args.data]
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in range(args.seeds):
        every = list(cases(open_vectors(limit=args.limit).rows[:], seed))
        if given:
            every.append((" -> ".join(Path(name).stem for name in args.data), given[0], given[1]))
            every.append((" -> ".join(Path(name).stem for name in args.data[::-1]), given[1], given[0]))
        for name, old, new in every:
            found.setdefault(name, []).append(measured(old, new, settings | {"seed": seed}))
    return [{"new rows": name, **over_seeds(values)} for name, values in found.items()]


def main() -> None:
    """Print the table."""
    flags = parser(__doc__)
    flags.add_argument("--data", nargs=2, default=(), metavar="FILE", help="two sets of vectors, each new to the other")
    flags.add_argument("--limit", type=int, default=10_000, help="rows of each set (default: %(default)s)")
    flags.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    flags.add_argument("--latent-dim", type=int, default=64, help="(default: %(default)s)")
    flags.add_argument("--bytes", type=int, help="store rows in as many bytes, with as many dimensions as they take")
    flags.add_argument("--epochs", type=int, default=0, help="of every training (default: %(default)s)")
    args = flags.parse_args()
    torch.set_num_threads(args.threads)
    report(table(args), args.json)


if __name__ == "__main__":
    main()
