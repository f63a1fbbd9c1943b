"""Ablations of train.py's defaults: held-out recall of trainings that each change one thing.

A trial's figure is the share of the neighbours lost by PCA, renormalised, that it recovers on held-out rows, recall@10,
one seed.

Examples:
  trials.py                              every trial at 64 dimensions, 20 epochs each: ten minutes
  trials.py --trials "tau 0.5" "tau 2" --sizes 64 256 --epochs 100
  trials.py --data my.parquet
"""

import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from timing import machine
from torch import Tensor, nn
from torch.nn import functional as F
from trial_losses import LambdaRank, Laplace, Memory, Nearest, PerRow, Reverse, Student

from dploss.cli.main import Parser, run
from dploss.config import TrainConfig
from dploss.evaluation.recall import RecallEvaluator
from dploss.losses.distance_preserving import LOSSES, DPLoss
from dploss.models.pca import PCA
from dploss.text import text_table
from dploss.training.launch import new_experiment
from dploss.training.objective import in_units_of_scale
from dploss.training.trainer import Trainer


class GatedLinear(nn.Module):
    """a * silu(b) of a hidden layer twice as wide."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2 h) -> (..., h)."""
        a, b = x.chunk(2, dim=-1)
        return a * F.silu(b)


class Altered:
    """The trainer's rows, altered at random each time they are read."""

    def __init__(self, trainer: Trainer, alter: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> None:
        self.whole, self.alter = trainer.rows, alter
        self.random = np.random.default_rng(trainer.config.seed)

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """Altered rows, with their distance from the mean restored."""
        rows = self.whole[index]
        mean = rows.mean(axis=0)
        altered = self.alter(rows - mean, self.random)
        norms = (np.linalg.norm(one, axis=1, keepdims=True) for one in (rows - mean, altered))
        return (mean + altered * np.divide(*norms)).astype(np.float32)


def with_loss(kind: type[DPLoss]) -> Callable[[Trainer], None]:
    """Train with another loss."""

    def change(trainer: Trainer) -> None:
        trainer.objective = in_units_of_scale(kind(tau=trainer.config.tau), trainer.encoder)

    return change


def with_rows(alter: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Callable[[Trainer], None]:
    """Train on altered rows."""

    def change(trainer: Trainer) -> None:
        trainer.rows = Altered(trainer, alter)

    return change


def near_mix(rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Up to half the way towards or away from one of the 10 nearest rows of the batch."""
    products = rows @ rows.T
    np.fill_diagonal(products, -np.inf)
    near = np.argpartition(-products, 10)[np.arange(len(rows)), random.integers(10, size=len(rows))]
    return rows + random.uniform(-0.5, 0.5, (len(rows), 1)) * (rows[near] - rows)


def mix(rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Up to 0.3 of the way towards another row."""
    return rows + random.uniform(0, 0.3, (len(rows), 1)) * (random.permutation(rows) - rows)


def noise(rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Normal noise, with half the standard deviation of every coordinate."""
    return rows + 0.5 * rows.std(axis=0) * random.normal(size=rows.shape)


def freeze_linear(trainer: Trainer) -> None:
    """Keep the linear path at its initialisation from PCA."""
    trainer.encoder.linear.requires_grad_(False)


def no_norm(trainer: Trainer) -> None:
    """Restore no norms."""
    trainer.encoder.length_power.zero_()


def less_norm_in_training(share: float) -> Callable[[Trainer], None]:
    """Restore a share of the norm in training, and all of it in use."""

    def change(trainer: Trainer) -> None:
        trainer.encoder.training_share = share

    return change


def with_activation(activation: nn.Module) -> Callable[[Trainer], None]:
    """Another function between the branch's layers."""

    def change(trainer: Trainer) -> None:
        trainer.encoder.branch[1] = activation

    return change


def gated(trainer: Trainer) -> None:
    """A gated hidden layer: the second one's input is half as wide as the first one's output."""
    last = trainer.encoder.branch[3]
    half = last.weight.shape[1] // 2
    last.weight = nn.Parameter(last.weight[:, :half].detach().clone())
    last.gain = half**-0.5
    trainer.encoder.branch[1] = GatedLinear()
    decay_times(1)(trainer)


def decay_times(factor: float) -> Callable[[Trainer], None]:
    """Another weight decay."""

    def change(trainer: Trainer) -> None:
        group = trainer.optimizer.param_groups[0]
        trainer.set_optimizer(group["initial_lr"], factor * group["weight_decay"])

    return change


def averaged(trainer: Trainer) -> None:
    """Evaluate the moving average of the weights over some 200 steps."""
    mean = [one.detach().clone() for one in trainer.encoder.parameters()]

    def follow(*_: Any) -> None:
        for average, now in zip(mean, trainer.encoder.parameters(), strict=True):
            average.lerp_(now.detach(), 0.005)

    trainer.optimizer.register_step_post_hook(follow)
    trainer.averaged = mean


Change = Callable[[Trainer], None] | None
TRIALS: dict[str, tuple[dict[str, Any], Change]] = {
    "defaults of train.py": ({}, None),
    "norm not restored": ({}, no_norm),
    **{f"norm power {share:g} in training": ({}, less_norm_in_training(share)) for share in (0.5, 1.0)},
    **{f"weight decay x {factor:g}": ({}, decay_times(factor)) for factor in (0.0, 0.3, 3.0)},
    "linear encoder": ({"hidden_dims": ()}, None),
    "linear path frozen at PCA": ({}, freeze_linear),
    "random initialisation": ({"init": "random"}, None),
    **{loss: ({"loss_function": loss}, None) for loss in LOSSES if loss != "DPLossV3"},
    "Laplace kernel": ({}, with_loss(Laplace)),
    "Student kernel in z": ({}, with_loss(Student)),
    "10 nearest, equal weights": ({}, with_loss(Nearest)),
    "reverse divergence": ({}, with_loss(Reverse)),
    "a temperature for each row": ({}, with_loss(PerRow)),
    "LambdaRank's weights": ({}, with_loss(LambdaRank)),
    "a memory of 4 batches": ({}, with_loss(Memory)),
    **{f"tau {tau:g}": ({"tau": tau}, None) for tau in (0.3, 0.5, 2.0)},
    **{f"pair distances x {weight:g}": ({"lambda_pairdist": weight}, None) for weight in (0.0, 3.0)},
    **{f"dropout {share:g}": ({"dropout": share}, None) for share in (0.0, 0.5)},
    **{f"{width} wide": ({"hidden_dims": (width,)}, None) for width in (256, 2048)},
    "two hidden layers": ({"hidden_dims": (768, 768)}, None),
    "tanh": ({}, with_activation(nn.Tanh())),
    "gated hidden layer": ({"hidden_dims": (1536,)}, gated),
    **{f"batch {size}": ({"batch_size": size}, None) for size in (256, 1024)},
    **{f"lr {lr:g}": ({"lr": lr}, None) for lr in (0.0003, 0.003)},
    "weights averaged": ({}, averaged),
    "noise on rows": ({}, with_rows(noise)),
    "rows mixed": ({}, with_rows(mix)),
    "near rows mixed": ({}, with_rows(near_mix)),
}


def parser() -> Parser:
    """The script's flags."""
    flags = Parser("trials.py", __doc__)
    flags.add_argument("--data", default="builtin", help="(default: %(default)s)")
    flags.add_argument("--limit", type=int, default=10_000, help="(default: %(default)s)")
    flags.add_argument("--sizes", type=int, nargs="+", default=[64], help="(default: 64)")
    flags.add_argument("--epochs", type=int, default=20, help="(default: %(default)s)")
    flags.add_argument("--trials", nargs="+", choices=TRIALS, default=list(TRIALS), metavar="TRIAL", help="(all)")
    flags.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: %(default)s)")
    return flags


def recovered(args: Namespace, size: int, settings: dict[str, Any], change: Change) -> float:
    """Train, and return the share of renormalised PCA's loss that is recovered on held-out rows."""
    with tempfile.TemporaryDirectory() as folder:
        common = {"data": args.data, "limit": args.limit, "epochs": args.epochs, "latent_dim": size, "quiet": True}
        config = TrainConfig(**common | settings, checkpoints_dir=folder, no_tensorboard=True, eval_every=0)
        training = new_experiment(config)
        trainer = training.trainer
        held_out_index = np.delete(np.arange(len(trainer.rows)), trainer.train_index)
        train_rows, held_out = trainer.rows[trainer.train_index], trainer.rows[held_out_index]
        if change is not None:
            change(trainer)
        training.run()
    if hasattr(trainer, "averaged"):
        for now, average in zip(trainer.encoder.parameters(), trainer.averaged, strict=True):
            now.data.copy_(average)
    evaluator = RecallEvaluator(10)
    recall = evaluator.evaluate(held_out, trainer.encoder.encode(held_out)).value
    pca = evaluator.evaluate(held_out, PCA.fit(train_rows, size).encode_renormalised(held_out)).value
    return (recall - pca) / (1 - pca)


def trials(args: Namespace) -> int:
    """Print the table; each row also as soon as it is measured."""
    torch.set_num_threads(args.threads)
    print(machine(), file=sys.stderr)
    rows = []
    for name in args.trials:
        rows.append([name, *(f"{recovered(args, size, *TRIALS[name]):.3f}" for size in args.sizes)])
        print(*rows[-1], sep="  ", file=sys.stderr)
    print("\n".join(text_table(["trial", *map(str, args.sizes)], rows)))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    return run(trials, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
