"""Trainer: the training loop. It knows rows, encoder, objective and optimizer, and hands out each finished epoch."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from dploss.config import TrainConfig
from dploss.data import MappedRows, select
from dploss.data.batches import block_rows, epoch_batches, query_batch, read_ahead
from dploss.data.split import evenly_spaced
from dploss.errors import SettingError, TrainingError
from dploss.models.asymmetric import AsymmetricEncoder, BothSides
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.device import rng_state, set_rng_state
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA
from dploss.training.distributed import ProcessGroup
from dploss.training.objective import Objective

# Fraction of all steps over which the learning rate rises.
WARMUP = 0.05
# Measured best (docs/QUALITY.md), for `fit_steps_to`.
_STEP, _LITTLE_LOST, _LEAST_LOST, _STEPS, _ROWS_PER_DIMENSION = 4.8, 0.03, 1e-3, 80, 64
_DECAY, _DECAY_STEPS = 7.0, 680
_NORM_ROWS = 500


@dataclass(frozen=True)
class EpochResult:
    """A finished epoch.

    Attributes:
        total_loss, rank_loss, pairdist_loss: means over its batches.
        learning_rate: at its last step.
        seconds: of training.
    """

    total_loss: float
    rank_loss: float
    pairdist_loss: float
    learning_rate: float
    seconds: float


class TrainerState(TypedDict):
    """The part of a checkpoint that a Trainer resumes from; see dploss.experiments.checkpoints.Checkpoint."""

    epoch: int
    step: int
    model_state_dict: dict
    optimizer_state_dict: dict
    scheduler_state_dict: dict
    rng_state: dict
    partial_epoch: dict


class Trainer:
    """Trains an encoder with AdamW, warm-up and cosine decay.

    Args:
        config: batch_size, epochs, lr and seed.
        encoder: initialised, on the device to train on.
        objective: (B, D) rows, (B, d) latents -> the terms of the loss; with queries (Q, D) and (Q, d), too.
        rows: (N, D) float32, in memory or on the disk.
        train_index: sorted indices of the rows to train on.
        group: the processes that train together.
        queries: (Q, D) float32 to train on, of an encoder of both sides, which may be none; None: of any other.

    Attributes:
        epoch, step: finished epochs, and optimizer steps done since the beginning.

    Raises:
        SettingError: a batch too small for the number of processes.
    """

    def __init__(
        self,
        config: TrainConfig,
        encoder: DPEncoder | ConvAutoencoder,
        objective: Objective,
        rows: np.ndarray | MappedRows,
        train_index: np.ndarray,
        group: ProcessGroup,
        queries: np.ndarray | MappedRows | None = None,
    ) -> None:
        self.config, self.encoder, self.objective = config, encoder, objective
        self.rows, self.train_index, self.group, self.queries = rows, train_index, group, queries
        self.device = encoder.mean.device
        self.batch_size = min(config.batch_size, len(train_index)) // group.size * group.size
        if self.batch_size < 3:
            template = "{batch_size} {size}: too few rows for {n} processes"
            raise SettingError(template, size=config.batch_size, n=group.size)
        self.steps_per_epoch = len(train_index) // self.batch_size
        self.steps = config.epochs * self.steps_per_epoch
        self.block = block_rows(*rows.shape)
        self.set_optimizer(config.lr, weight_decay=0.0)
        self.shared_encoder = group.wrap(BothSides(encoder) if isinstance(encoder, AsymmetricEncoder) else encoder)
        self.epoch = self.step = 0
        self._begin_epoch()

    @property
    def train_rows(self) -> np.ndarray | MappedRows:
        """(n, D) float32, the rows to train on."""
        return select(self.rows, self.train_index)

    @property
    def asking_rows(self) -> np.ndarray | MappedRows:
        """(n, D) float32, what stands for all queries: those to train on, or the rows where there are none."""
        return self.train_rows if self.queries is None or not len(self.queries) else self.queries

    def set_optimizer(self, lr: float, weight_decay: float) -> None:
        """A new AdamW, without a memory of gradients, under the schedule of all steps; lr is its peak."""
        parameters = self.encoder.parameters()
        self.optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)
        # A lambda, for the scheduler's state keeps what hangs on any other callable.
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: self._lr_factor(step))

    def fit_steps_to(self, pca: PCA) -> None:
        """Set learning rate and weight decay for an encoder that was initialised from PCA, before the first step.

        Its start is good: steps must not spoil more than they gain. They are smaller where PCA loses less, and where
        steps, or rows for a latent's dimensions, are few. Weight decay holds back what the rows do not teach, over the
        training to the same degree however many steps it has; where norms are restored, it costs none.

        Args:
            pca: of the training rows.
        """
        lost = max(pca.lost(self.encoder.latent_dim), _LEAST_LOST)
        lr = self.config.lr * _STEP * lost / (lost + _LITTLE_LOST) ** 0.5
        lr *= min(1.0, self.steps / _STEPS) ** 2
        lr *= min(1.0, len(self.train_index) / (_ROWS_PER_DIMENSION * self.encoder.latent_dim))
        norm_power = self.encoder.length_power.item() if isinstance(self.encoder, DPEncoder) else 0.0
        decay = _DECAY * lost * min(1.0, norm_power) * min(1.0, _DECAY_STEPS / max(1, self.steps))
        self.set_optimizer(lr, decay)

    @property
    def is_complete(self) -> bool:
        """Whether all epochs are finished."""
        return self.epoch >= self.config.epochs

    def train(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        progress: Callable[[Iterable[np.ndarray]], Iterable[np.ndarray]] = lambda batches: batches,
    ) -> Iterator[EpochResult]:
        """Train epoch by epoch, to the last one or until a stop is asked for.

        Args:
            should_stop: asked before every step.
            progress: wraps the batches of an epoch, as tqdm does.

        Yields:
            Every finished epoch.

        Raises:
            TrainingError: the loss or the weights became NaN or infinite.
        """
        self.group.broadcast(self.encoder, self.device)
        while not self.is_complete:
            finished = self._train_epoch(should_stop, progress)
            self._check_weights()
            if not finished:
                return
            yield self._end_epoch()

    def _begin_epoch(self) -> None:
        precision = torch.float32 if self.device.type == "mps" else torch.float64
        self.loss_sums = torch.zeros(3, dtype=precision, device=self.device)
        self.epoch_seconds = 0.0

    def _train_epoch(
        self, should_stop: Callable[[], bool], progress: Callable[[Iterable[np.ndarray]], Iterable[np.ndarray]]
    ) -> bool:
        """Do the steps of the epoch that are not yet done; False if stopped before its end."""
        done = self.step - self.epoch * self.steps_per_epoch
        batches = epoch_batches(self.train_index, self.batch_size, self.config.seed, self.epoch, self.block)
        self.encoder.train()
        before = time.perf_counter() - self.epoch_seconds
        for index in progress(read_ahead(self.rows, batches[done:], self.block)):
            if self.group.any(should_stop(), self.device):
                return False
            self.loss_sums += self.train_step(index)
            self.step += 1
            self.epoch_seconds = time.perf_counter() - before
        return True

    def train_step(self, index: np.ndarray) -> Tensor:
        """Train on one batch; its total, rank and pairdist, (3,), still on the device."""
        x = torch.from_numpy(self.rows[self.group.shard(index)]).to(self.device)
        try:
            total, rank, pairdist = self._terms(x)
        except ValueError as error:
            raise self._failure("loss is", x) from error
        if not total.isfinite():
            raise self._failure("loss is", x)
        self.optimizer.zero_grad()
        # Each process backpropagates through its shard of the batch, and the mean is taken over the processes.
        (total * self.group.size).backward()
        self.optimizer.step()
        self.scheduler.step()
        return torch.stack((total, rank, pairdist)).detach()

    def _terms(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of this process's shard of a batch among the whole batch, and queries beside it."""
        if self.queries is None:
            z = self.group.gather(self.shared_encoder(x))
            return self.objective(self.group.gather(x), z)
        index = query_batch(len(self.queries), self.batch_size, self.config.seed, self.step, self.group.size)
        q = torch.from_numpy(self.queries[self.group.shard(index)]).to(self.device)
        z, z_q, z_x = map(self.group.gather, self.shared_encoder(x, q))
        return self.objective(self.group.gather(x), z, self.group.gather(q), z_q, z_x)

    def _end_epoch(self) -> EpochResult:
        total, rank, pairdist = (self.loss_sums / self.steps_per_epoch).tolist()
        lr = self.config.lr * self._lr_factor(self.step - 1)
        result = EpochResult(total, rank, pairdist, lr, self.epoch_seconds)
        self.epoch += 1
        if isinstance(self.encoder, DPEncoder) and self.encoder.log_gain is not None:
            some = self.train_index[evenly_spaced(len(self.train_index), _NORM_ROWS)]
            self.encoder.keep_mean_norm(self.rows[some])
        self._begin_epoch()
        return result

    def _lr_factor(self, step: int) -> float:
        return lr_factor(step, self.steps)

    def _check_weights(self) -> None:
        """A loss can be finite and its gradient not: such weights must not replace good ones on the disk."""
        if not all(weights.isfinite().all() for weights in self.encoder.parameters()):
            raise self._failure("the weights are")

    def _failure(self, what: str, x: Tensor | None = None) -> TrainingError:
        return TrainingError(
            "{what} NaN or infinite at epoch {epoch}, step {step}; lower {lr} (try {lower:g}) or check the data for "
            "outliers{batch}",
            what=what,
            epoch=self.epoch + 1,
            step=self.step + 1,
            lower=self.config.lr / 10,
            batch="" if x is None else f" (this batch is within {x.min().item():.3g} and {x.max().item():.3g})",
        )

    def state_dict(self) -> TrainerState:
        """What `load_state_dict` resumes from."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "model_state_dict": self.encoder.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "scheduler_state_dict": self.scheduler.state_dict(),
            "rng_state": rng_state(),
            "partial_epoch": {"loss_sums": self.loss_sums, "seconds": self.epoch_seconds},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where `state_dict` was called, to the last bit as if the training had not stopped.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: a state of other settings, or a damaged one.
        """
        self.encoder.load_state_dict(state["model_state_dict"])
        # Of the parameters that the encoder has now: one that was saved by an earlier version has fewer.
        self.set_optimizer(self.config.lr, weight_decay=0.0)
        self.optimizer.load_state_dict(state["optimizer_state_dict"])
        self.scheduler.load_state_dict(state["scheduler_state_dict"])
        self.epoch, self.step = state["epoch"], state["step"]
        partial = state["partial_epoch"]
        self.loss_sums, self.epoch_seconds = partial["loss_sums"].to(self.loss_sums), partial["seconds"]
        set_rng_state(state["rng_state"])


def lr_factor(step: int, total_steps: int) -> float:
    """Fraction of the peak learning rate at a step: a linear warm-up, then half a cosine down to 0."""
    warmup = max(1, round(WARMUP * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))
