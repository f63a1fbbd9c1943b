"""Trainer: the training of one experiment, from its settings to its last checkpoint."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dploss.config import TrainConfig
from dploss.data import Vectors, select, split_rows
from dploss.data.batches import block_rows, epoch_batches, read_ahead
from dploss.data.images import Images
from dploss.errors import InputError, TrainingError
from dploss.evaluation.held_out import HeldOutRows
from dploss.experiments.checkpoints import CheckpointManager, load_checkpoint
from dploss.experiments.history import Recall, TrainHistory
from dploss.experiments.layout import HISTORY, LATEST
from dploss.losses.distance_preserving import LOSSES
from dploss.losses.matryoshka import MatryoshkaLoss
from dploss.models.build import build_encoder
from dploss.models.device import pick_device, rng_state, set_rng_state
from dploss.models.pca import PCA
from dploss.training.checkpoint_evaluator import Evaluation, choose_samples
from dploss.training.checks import check_sizes
from dploss.training.distributed import join_team, team_size
from dploss.training.initialization import start
from dploss.training.progress import Progress
from dploss.training.schedule import lr_factor
from dploss.training.tensorboard import TensorBoardLog


class Trainer:
    """Holds a training's state and moves it on; writes nothing before `run`.

    Args:
        config: the settings.
        vectors: all rows; the split is made here.
        manager: where the experiment's files go.
        progress: where its messages go.
        origin: experiment_id, created, versions and git_commit (see dploss.experiments.provenance).

    Attributes:
        record: what config.json and every checkpoint say of the experiment.
        encoder, optimizer, scheduler, history: what a checkpoint holds.
        epoch, step: finished epochs, and optimizer steps done since the start.

    Raises:
        InputError: settings that do not fit the rows, or a device that is not there.
    """

    def __init__(
        self,
        config: TrainConfig,
        vectors: Vectors,
        manager: CheckpointManager,
        progress: Progress,
        origin: dict[str, Any],
    ) -> None:
        self.config = config
        self.vectors = vectors
        self.manager = manager
        self.progress = progress
        self.device = pick_device(config.device)
        if config.images is not None and team_size() > 1:
            raise InputError("--images: an autoencoder of images is trained by one process, without torchrun")
        self.team = join_team(self.device)

        self.train_rows, self.held_out_rows = split_rows(len(vectors.rows), config.val_fraction, config.seed)
        check_sizes(config, vectors.rows.shape[1], len(self.train_rows), len(self.held_out_rows), progress.warn)
        self.batch_size = min(config.batch_size, len(self.train_rows)) // self.team.size * self.team.size
        if self.batch_size < 3:
            raise InputError(f"--batch-size {config.batch_size}: too few for {self.team.size} processes")
        self.steps_per_epoch = len(self.train_rows) // self.batch_size
        self.steps = config.epochs * self.steps_per_epoch
        self.block = block_rows(*vectors.rows.shape)

        input_dim = vectors.rows.shape[1]
        self.record = {
            **{key: origin.get(key) for key in ("experiment_id", "created", "versions", "git_commit")},
            **config.as_dict(),
            "data": {"path": vectors.source, "rows": len(vectors.rows), "fingerprint": vectors.fingerprint},
            "input_dim": input_dim,
            "split": {"train_rows": len(self.train_rows), "held_out_rows": len(self.held_out_rows)},
        }

        torch.manual_seed(config.seed)
        self.encoder = build_encoder(self.record).to(self.device)
        self.loss = LOSSES[config.loss_function](
            k=config.k, lambda_rank=config.lambda_rank, lambda_pairdist=config.lambda_pairdist, tau=config.tau
        )
        if config.matryoshka:
            self.loss = MatryoshkaLoss(self.loss, config.matryoshka_dims, self.encoder.cut)
        self.optimizer = torch.optim.Adam(self.encoder.parameters(), lr=config.lr, fused=True)
        # A lambda, for the scheduler's state keeps what hangs on any other callable.
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: self._lr_factor(step))
        self.shared_encoder = self.team.wrap(self.encoder)
        self.held_out = HeldOutRows(vectors.rows, self.held_out_rows, config.k, config.matryoshka_dims, config.seed)
        on_images = isinstance(vectors, Images)
        samples = choose_samples(vectors, self.held_out_rows, config.num_evaluation_samples) if on_images else None
        self.evaluation = Evaluation(config, samples, str(self.device), progress)
        self.resumed_from: Path | None = None

        self.history = TrainHistory()
        self.epoch = self.step = 0
        self._begin_epoch()

    def start(self) -> None:
        """Fit PCA on the training rows: the encoder's start, and the recall to beat."""
        rows = select(self.vectors.rows, self.train_rows)
        pca = PCA.fit(rows, self.config.latent_dim)
        start(self.encoder, pca, self.config.init, rows, self.config.k, self.config.matryoshka_dims)
        if self.held_out:
            recall = self.held_out.recall(pca.encode)
            self.history.recall_k, self.history.recall_rows = recall.k, recall.rows
            self.history.pca_recall = recall.value
            by_dim = self.held_out.recall_by_dim(lambda rows, dim: pca.encode(rows)[:, :dim])
            self.history.pca_recall_by_dim = {str(dim): value for dim, value in by_dim.items()}
        self.evaluation.prepare(self.encoder, bool(self.held_out))

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint as if the training had never stopped.

        Raises:
            InputError: the file is no checkpoint, or one of other settings.
        """
        checkpoint = load_checkpoint(path)
        try:
            self.encoder.load_state_dict(checkpoint["model_state_dict"])
            self.optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
            self.scheduler.load_state_dict(checkpoint["scheduler_state_dict"])
            self.history = TrainHistory.from_dict(checkpoint["train_history"])
            self.epoch, self.step = checkpoint["epoch"], checkpoint["step"]
            partial = checkpoint["partial_epoch"]
            self.loss_sums, self.epoch_seconds = partial["loss_sums"].to(self.loss_sums), partial["seconds"]
            set_rng_state(checkpoint["rng_state"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path}: it does not fit its experiment's config.json: {error}") from error
        beside = path.parent / HISTORY
        if path.name != LATEST and beside.exists():
            # A kept checkpoint is judged after it is written; the history beside it has the verdict.
            judged = TrainHistory.load(beside).evaluations
            self.history.evaluations = [one for one in judged if one.get("epoch", math.inf) <= self.epoch]
        self.history.status = "running"
        self.resumed_from = path
        self.evaluation.prepare(self.encoder, bool(self.held_out))

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> TrainHistory:
        """Train to the last epoch, or until a stop is asked for; save as it goes.

        Args:
            should_stop: asked before every step.

        Returns:
            The history; its status says whether the training was completed or interrupted.

        Raises:
            TrainingError: the loss became NaN or infinite. The last checkpoints stay as they are.
        """
        self.team.agree(self.encoder, self.device)
        if not self.team.leads:
            self._train(should_stop)
            return self.history
        self.progress.start(self.record, self.manager.folder, str(self.device), self.history)
        with self.manager.locked():
            self.manager.create(self.record)
            self.manager.save_history(self.history)
            self.log = TensorBoardLog(self.manager.folder, self.step, not self.config.no_tensorboard)
            try:
                self._train(should_stop)
            except BaseException as error:
                self.history.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                raise
            finally:
                self.manager.save_history(self.history)
                self.log.close()
        return self.history

    def _train(self, should_stop: Callable[[], bool]) -> None:
        if self.team.leads:
            self.evaluation.begin(self.manager.folder, self.resumed_from)
        while self.epoch < self.config.epochs:
            if not self._train_epoch(should_stop):
                self._check_weights()
                self.history.status = "interrupted"
                if self.team.leads:
                    self.manager.save_latest(self.state())
                return
            self._end_epoch()
        if self.team.leads:
            self.evaluation.end()
        self.history.status = "completed"

    def _begin_epoch(self) -> None:
        precision = torch.float32 if self.device.type == "mps" else torch.float64
        self.loss_sums = torch.zeros(3, dtype=precision, device=self.device)
        self.epoch_seconds = 0.0

    def _train_epoch(self, should_stop: Callable[[], bool]) -> bool:
        """Do the steps of the epoch that are not yet done; False if stopped before its end."""
        done = self.step - self.epoch * self.steps_per_epoch
        batches = epoch_batches(self.train_rows, self.batch_size, self.config.seed, self.epoch, self.block)
        self.encoder.train()
        before = time.perf_counter() - self.epoch_seconds
        with self.progress.bar(self.epoch + 1, self.config.epochs, done, self.steps_per_epoch) as bar:
            for rows in read_ahead(self.vectors.rows, batches[done:], self.block):
                if self.team.any(should_stop(), self.device):
                    return False
                self.loss_sums += self.train_step(rows)
                self.step += 1
                self.epoch_seconds = time.perf_counter() - before
                bar.update()
        return True

    def train_step(self, rows: np.ndarray) -> Tensor:
        """Train on one batch; its total, rank and pairdist, (3,), still on the device."""
        x = torch.from_numpy(self.vectors.rows[self.team.share(rows)]).to(self.device)
        z = self.team.gather(self.shared_encoder(x))
        x = self.team.gather(x)
        # Of images the pair distance loss stands beside the reconstruction, in the same units. Of vectors, lengths are
        # near 1 as text embeddings' are: the weight of the pair distance loss means the same in any unit.
        unit = 1.0 if self.config.images is not None else self.encoder.scale * x.shape[1] ** 0.5
        try:
            total, rank, pairdist = self.loss(x / unit, z / unit)
        except ValueError as error:
            raise self._failure(str(error), x) from error
        if not total.isfinite():
            raise self._failure(f"the loss is {total.item()}", x)
        if self.config.images is not None:
            # Per image, summed over its pixels: in units of squared distances, as the pair distance loss is.
            total = total + self.config.lambda_recon * (self.encoder.decode(z) - x).square().sum(dim=-1).mean()
        self.optimizer.zero_grad()
        # Each process goes back through its share of the batch, and the mean is taken over the processes.
        (total * self.team.size).backward()
        self.optimizer.step()
        self.scheduler.step()
        return torch.stack((total, rank, pairdist)).detach()

    def _end_epoch(self) -> None:
        """Write down a finished epoch, and save it."""
        self._check_weights()
        losses = (self.loss_sums / self.steps_per_epoch).tolist()
        lr = self.config.lr * self._lr_factor(self.step - 1)
        self.history.add_epoch(*losses, lr, self.epoch_seconds)
        self.epoch += 1
        self._begin_epoch()
        if self.team.leads:
            self._save_epoch(losses, lr)

    def _save_epoch(self, losses: list[float], lr: float) -> None:
        self.progress.epoch(self.history, self.config.epochs)
        self.log.epoch(losses, lr, self.step)
        last = self.epoch == self.config.epochs
        if last:
            self.history.status = "completed"
        if last or self.epoch % self.config.save_interval == 0:
            recall = self._measure_recall()
            path = self.manager.save_epoch(self.state())
            self.progress.checkpoint(path, recall, self.history.pca_recall)
            if self.evaluation.is_due(self.epoch, last):
                named = dict(zip(("total_loss", "rank_loss", "pairdist_loss"), losses, strict=True))
                judged = self.evaluation.judge(self.encoder, path, self.step, self.epoch, named, recall, self.log)
                self.history.evaluations.append(judged)
        self.manager.save_latest(self.state())
        if not last:
            # The last history is written when there is nothing else to write: completed means completed.
            self.manager.save_history(self.history)

    def _measure_recall(self) -> Recall | None:
        if not self.held_out:
            return None
        recall = self.held_out.recall(self.encoder.encode)
        by_dim = self.held_out.recall_by_dim(lambda rows, dim: self.encoder.encode(rows, dim=dim))
        self.history.add_recall(recall.value, by_dim)
        tag = f"Recall/At_{recall.k}"
        self.log.scalars({tag: recall.value} | {f"{tag}_{dim}_dims": value for dim, value in by_dim.items()}, self.step)
        return recall

    def _lr_factor(self, step: int) -> float:
        return lr_factor(step, self.steps)

    def _check_weights(self) -> None:
        """A loss can be finite and its gradient not: such weights must not replace good ones on the disk."""
        if not all(weights.isfinite().all() for weights in self.encoder.parameters()):
            raise self._failure("weights are not finite")

    def _failure(self, what: str, x: Tensor | None = None) -> TrainingError:
        rows = "" if x is None else f" on rows within {x.min().item():.3g} and {x.max().item():.3g}"
        return TrainingError(
            f"the training left the finite numbers in epoch {self.epoch + 1}, step {self.step + 1}: {what}{rows}, at a "
            f"learning rate of {self.config.lr * self._lr_factor(self.step):.3g}; the last checkpoint is intact; try "
            f"--lr {self.config.lr / 10:g}, or look for outliers among the rows"
        )

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds (see dploss.experiments.checkpoints)."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "model_state_dict": self.encoder.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "scheduler_state_dict": self.scheduler.state_dict(),
            "train_history": self.history.as_dict(),
            "config": self.record,
            "rng_state": rng_state(),
            "partial_epoch": {"loss_sums": self.loss_sums, "seconds": self.epoch_seconds},
        }
