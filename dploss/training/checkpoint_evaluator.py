"""Judge a training's checkpoints as they are saved, keep the best of them, and show what they make."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dploss.config import TrainConfig
from dploss.data.images import Images, as_picture, side_by_side
from dploss.errors import InputError
from dploss.experiments.history import Recall
from dploss.files.atomic import atomic_write
from dploss.tracking.tracker import BestCheckpointTracker
from dploss.training.progress import Progress
from dploss.training.tensorboard import TensorBoardLog

if TYPE_CHECKING:
    from dploss.models.autoencoder import ConvAutoencoder

SAMPLES = "evaluation_samples"
OF_TRAINING = ("recall", "total_loss", "rank_loss", "pairdist_loss")
OF_IMAGES = ("composite_score", "clip_score", "lpips", "inception_score", "fid", "psnr", "ssim")
_SHOWN_IMAGES = 4


class Evaluation:
    """Judges checkpoints: by held-out recall and losses, and on images by what is reconstructed too.

    Args:
        config: the settings.
        samples: held-out images that are reconstructed and judged; None where the training is on vectors, or none
            are held out.
        device: where the metrics' models run.
        progress: where messages go.

    Raises:
        InputError: a metric that this training cannot have.
    """

    def __init__(self, config: TrainConfig, samples: Images | None, device: str, progress: Progress) -> None:
        known = (*OF_TRAINING, *OF_IMAGES) if config.images is not None else OF_TRAINING
        if config.metric_name not in known:
            raise InputError(f"--metric-name must be one of {', '.join(known)}, got {config.metric_name!r}")
        self.config = config
        self.samples = samples
        self.progress = progress
        self.metric_name = config.metric_name
        self.tracker: BestCheckpointTracker | None = None
        self._images = None
        if samples is not None and config.eval_every:
            # Imported here: a training on vectors needs none of it.
            from metrics import ImageEvaluator

            self._images = ImageEvaluator(
                device=device,
                clip_model=config.clip_model,
                clip_pretrained=config.clip_pretrained,
                lpips_net=config.lpips_net,
                lpips_weights=config.lpips_weights,
                inception_weights=config.inception_weights,
            )

    def prepare(self, encoder: torch.nn.Module, has_recall: bool) -> None:
        """Find out, before anything is trained or written, whether the metric to track can be measured.

        Where it cannot, held-out recall is tracked instead, or the total loss, and this is said.

        Args:
            encoder: as the training starts.
            has_recall: whether rows are held out.

        Raises:
            InputError: a file of weights that cannot be used.
        """
        if not self.config.eval_every:
            return
        possible = {*OF_TRAINING} - (set() if has_recall else {"recall"})
        left_out: Mapping[str, str] = {}
        if self._images is not None:
            from metrics import InputError as UnusableWeights

            try:
                _, measured = self._reconstruct(encoder)
            except UnusableWeights as error:
                raise InputError(str(error)) from error
            possible |= measured.keys()
            left_out = measured["left_out"]
        if self.metric_name not in possible:
            instead = "recall" if has_recall else "total_loss"
            why = f" ({left_out[self.metric_name]})" if self.metric_name in left_out else ""
            self.progress.warn(f"{self.metric_name} cannot be measured{why}: {instead} is tracked instead")
            self.metric_name = instead

    def begin(self, folder: Path, resumed_from: Path | None) -> None:
        """Take up the tracker of the experiment's folder.

        Args:
            folder: it exists.
            resumed_from: the checkpoint this run started from.
        """
        if not self.config.eval_every:
            return
        self.tracker = BestCheckpointTracker(
            folder,
            self.metric_name,
            save_top_k=self.config.save_top_k,
            keep_every_n_steps=self.config.keep_every_n_steps,
            prune=self.config.prune,
            resumed_from=resumed_from,
        )

    def is_due(self, epoch: int, last: bool) -> bool:
        """Whether the checkpoint saved after `epoch` is judged: every so-many-th, and the last."""
        every = self.config.eval_every
        return every > 0 and (last or epoch % (every * self.config.save_interval) == 0)

    def judge(
        self,
        encoder: torch.nn.Module,
        checkpoint: Path,
        step: int,
        epoch: int,
        losses: Mapping[str, float],
        recall: Recall | None,
        log: TensorBoardLog,
    ) -> dict[str, Any]:
        """Judge a checkpoint that was just saved.

        Args:
            encoder: what it holds.
            checkpoint: its path.
            step: optimizer steps done.
            epoch: finished epochs.
            losses: the epoch's, by name.
            recall: on held-out rows.
            log: what TensorBoard shows.

        Returns:
            An entry of the history's evaluations: epoch, step, metrics and is_best.
        """
        metrics: dict[str, Any] = {**losses, **({"recall": recall.value} if recall else {})}
        if self._images is not None:
            self.progress.say(f"[Step {step}] Evaluating model performance at step {step}")
            reconstructed, measured = self._reconstruct(encoder)
            metrics = {**measured, **metrics}
            self._save_samples(reconstructed, checkpoint.parent / SAMPLES, step, log)
        is_best = self.tracker.update(step, epoch, checkpoint, metrics)
        if is_best:
            self.progress.say(f"🏆 New best checkpoint! Score: {self.tracker.best.score(self.tracker.metric_name):.4f}")
        log.evaluation(metrics, is_best, step)
        return {"epoch": epoch, "step": step, "metrics": metrics, "is_best": is_best}

    def end(self) -> None:
        """Say which checkpoints are the best, and write it down."""
        if self.tracker is not None and self.tracker.top:
            self.progress.say(self.tracker.summary())
            self.tracker.export_results()

    def _reconstruct(self, encoder: "ConvAutoencoder") -> tuple[np.ndarray, dict[str, Any]]:
        """The samples there and back, and what the metrics say of them."""
        size = self.samples.image_size
        with torch.no_grad():
            latents = torch.from_numpy(encoder.encode(self.samples.rows)).to(encoder.mean)
            reconstructed = encoder.decode(latents).clamp(0, 1).numpy(force=True)
        shape = (-1, 3, size, size)
        references = torch.from_numpy(self.samples.rows.reshape(shape))
        captions = self.samples.captions
        prompts = list(captions) if all(captions) else None
        return reconstructed, self._images.evaluate(torch.from_numpy(reconstructed.reshape(shape)), references, prompts)

    def _save_samples(self, reconstructed: np.ndarray, folder: Path, step: int, log: TensorBoardLog) -> None:
        """Replace the pictures of the last evaluation."""
        folder.mkdir(exist_ok=True)
        size = self.samples.image_size
        for number, (row, original) in enumerate(zip(reconstructed, self.samples.rows, strict=True)):
            generated = as_picture(row, size)
            comparison = side_by_side(as_picture(original, size), generated)
            for name, picture in (("generated", generated), ("comparison", comparison)):
                with atomic_write(folder / f"eval_{name}_{number:03d}.jpg") as file:
                    picture.save(file, "JPEG", quality=95)
            caption = self.samples.captions[number]
            if caption is not None:
                with atomic_write(folder / f"eval_prompt_{number:03d}.txt") as file:
                    file.write(caption.encode())
            if number < _SHOWN_IMAGES:
                log.image(f"Samples/{number:03d}", comparison, step)


def choose_samples(images: Images, held_out: np.ndarray, count: int) -> Images | None:
    """Up to `count` held-out images, evenly spaced, the same ones at every evaluation; None where none are held out."""
    if not len(held_out):
        return None
    chosen = held_out[np.linspace(0, len(held_out) - 1, min(count, len(held_out))).astype(int)]
    captions = tuple(images.captions[row] for row in chosen)
    return Images(images.rows[chosen], images.source, images.fingerprint, captions, images.image_size)
