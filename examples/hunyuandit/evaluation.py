"""Evaluate checkpoints by the images that they generate, and keep the best: dploss's tracker, metrics' evaluator."""

import gc
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from diffusers import HunyuanDiTPipeline
from diffusers.training_utils import EMAModel
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from dploss import BestCheckpointTracker
from dploss.data.images import comparison
from dploss.files.atomic import atomic_write
from dploss.text import metric_title
from dploss.tracking.directions import known_direction
from hunyuandit.data import Captioned, pixels, read_square
from hunyuandit.model import denoising_loss, generator_of, sample
from metrics import ImageEvaluator, InputError
from metrics.table import COMPOSITE, ERROR_SUFFIX

SAMPLES = "evaluation_samples"
VALIDATION_LOSS = "validation_loss"
_WEIGHTS = ("clip_model", "clip_pretrained", "lpips_net", "lpips_weights", "inception_weights", "dinov2_weights")
_SHOWN_IMAGES = 4


@dataclass(frozen=True)
class _Sample:
    """The image generated for a prompt, and the denoising loss of its photograph."""

    index: int
    image: Image.Image
    validation_loss: float


class CheckpointEvaluator:
    """Samples images for fixed prompts with fixed seeds, measures them, and updates the tracker.

    The training is not affected: torch's random states, the weights and the mode of the model are restored, and the
    metrics' models are freed. All processes sample; the main one measures.

    Args:
        accelerator: of the training.
        pipeline: its transformer is the one that is trained.
        ema: the averaged weights, which are evaluated; None to evaluate the trained ones.
        items: the prompts, and the photographs that they describe.
        image_size: pixels along a side.
        settings: the script's flags.

    Attributes:
        metric_names: the metric that decides which checkpoint is best, and further ones; after `choose_metrics`.
        tracker: the best checkpoints; on the main process, after `open_tracker`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        pipeline: HunyuanDiTPipeline,
        ema: EMAModel | None,
        items: Sequence[Captioned],
        image_size: int,
        settings: Namespace,
    ) -> None:
        self.accelerator, self.pipeline, self.ema = accelerator, pipeline, ema
        self.image_size, self.settings = image_size, settings
        self.prompts = [item.caption for item in items]
        self.photographs = [read_square(item.path, image_size) for item in items]
        self.metric_names: list[str] = []
        self.tracker: BestCheckpointTracker | None = None
        self._evaluator: ImageEvaluator | None = None

    def choose_metrics(self) -> None:
        """Find out, before anything is trained or written, what can be measured here.

        Where a metric to track cannot, the denoising loss of the photographs is tracked instead, with a warning.

        Raises:
            InputError: no such metric, or a file of weights that cannot be used.
        """
        if not self.accelerator.is_main_process:
            return
        weights = {name: getattr(self.settings, name) for name in _WEIGHTS}
        trial = ImageEvaluator(device=str(self.accelerator.device), **weights)
        report = trial.evaluate(self.photographs, self.photographs, self.prompts)
        trial.release()
        # A deviation such as inception_score_std is no metric: neither direction of it is better.
        measured = [
            name for name, value in report.items() if isinstance(value, float) and known_direction(name) is not None
        ]
        known = [VALIDATION_LOSS, *measured, *report["left_out"]]
        tracked = []
        for name in self.settings.metric_name:
            if name not in known:
                raise InputError(f"--metric-name must be one of {', '.join(known)}, got {name!r}")
            if name in report["left_out"]:
                reason = report["left_out"][name]
                say(f"warning: {name} cannot be measured ({reason}): {VALIDATION_LOSS} is tracked instead")
            tracked.append(VALIDATION_LOSS if name in report["left_out"] else name)
        self.metric_names = list(dict.fromkeys(tracked))
        # What is out of reach is not asked for again at every evaluation.
        within_reach = [name for name in measured if name != COMPOSITE]
        self._evaluator = ImageEvaluator(device=str(self.accelerator.device), metrics=within_reach, **weights)

    def open_tracker(self, folder: Path, resumed_from: Path | None) -> None:
        """Open the tracker of a folder.

        Args:
            folder: of the checkpoints.
            resumed_from: the checkpoint that the training is resumed from, if any.
        """
        if self.accelerator.is_main_process:
            self.tracker = BestCheckpointTracker(
                folder,
                self.metric_names,
                save_top_k=self.settings.save_top_k,
                keep_every_n_steps=self.settings.keep_every_n_steps,
                min_delta=self.settings.min_delta,
                prune=not self.settings.no_prune,
                resumed_from=resumed_from,
            )

    def is_tracked(self, checkpoint: Path) -> bool:
        """Whether a checkpoint is among the best already; all processes call it.

        One that is not may have been saved by a training that was killed before evaluating it.
        """
        tracked = False
        if self.accelerator.is_main_process:
            folder = self.tracker.checkpoint_dir
            tracked = any((folder / entry.path).resolve() == checkpoint.resolve() for entry in self.tracker.top)
        return broadcast_object_list([tracked])[0]

    def evaluate(self, step: int, epoch: int, checkpoint: Path, log: SummaryWriter | None) -> None:
        """Evaluate a checkpoint that was just saved; all processes call it. A failure is a warning, not an error.

        Args:
            step: optimizer steps done.
            epoch: finished epochs.
            checkpoint: its path; the model holds the same weights.
            log: of TensorBoard; on the main process.
        """
        is_main = self.accelerator.is_main_process
        if is_main:
            say(f"[Step {step}] Evaluating model performance at step {step}")
        samples, error = self._gathered_samples()
        if is_main:
            try:
                if error is not None:
                    raise error
                self._measure(samples, step, epoch, checkpoint, log)
            except Exception as failure:
                # Hours of training are worth more than one evaluation, whatever is wrong with it.
                reason = " ".join(str(failure).split()) or type(failure).__name__
                say(f"warning: the evaluation at step {step} failed: {reason}; the training continues")
            finally:
                self._evaluator.release()
        _free_memory()
        self.accelerator.wait_for_everyone()

    def _gathered_samples(self) -> tuple[list[_Sample], Exception | None]:
        """Sample this process's shard of the prompts; gather all, and errors too, so that no process waits for another.

        Returns:
            The samples of all processes, in the prompts' order, and the first error if there was one.
        """
        error: Exception | None = None
        samples: list[_Sample] = []
        batch_size = self.settings.batch_size
        model, device = self.pipeline.transformer, self.accelerator.device
        shard = range(self.accelerator.process_index, len(self.prompts), self.accelerator.num_processes)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            try:
                _free_memory()
                model.eval()
                if self.ema is not None:
                    self.ema.store(model.parameters())
                    self.ema.copy_to(model.parameters())
                for start in range(0, len(shard), batch_size):
                    samples += self._sample(shard[start : start + batch_size])
            except Exception as failure:
                # Kept as text: the traceback would keep the memory.
                error = RuntimeError(str(failure) or type(failure).__name__)
            finally:
                if self.ema is not None and self.ema.temp_stored_params is not None:
                    self.ema.restore(model.parameters())
                model.train()
        errors = [one for one in gather_object([error]) if one is not None]
        return sorted(gather_object(samples), key=lambda one: one.index), next(iter(errors), None)

    @torch.no_grad()
    def _sample(self, indices: Sequence[int]) -> list[_Sample]:
        prompts = [self.prompts[index] for index in indices]
        seeds = [self.settings.seed + index for index in indices]
        images = sample(self.pipeline, prompts, seeds, self.image_size, self.settings.sampling_steps)
        return [
            _Sample(index, image, self._validation_loss(index)) for index, image in zip(indices, images, strict=True)
        ]

    def _validation_loss(self, index: int) -> float:
        """The denoising loss of a photograph, with the same noise and timestep at every evaluation."""
        photograph = pixels(self.photographs[index])[None]
        generator = generator_of(self.settings.seed, index)
        model, prompts = self.pipeline.transformer, [self.prompts[index]]
        return denoising_loss(self.pipeline, model, photograph, prompts, generator).item()

    def _measure(self, samples: Sequence[_Sample], step: int, epoch: int, checkpoint: Path, log: SummaryWriter) -> None:
        images = [one.image for one in samples]
        metrics = self._evaluator.evaluate(images, self.photographs, self.prompts)
        metrics[VALIDATION_LOSS] = float(np.mean([one.validation_loss for one in samples]))
        self._save_samples(images, checkpoint.parent / SAMPLES, step, log)
        is_best = self.tracker.update(step, epoch, checkpoint, metrics)
        if is_best:
            say(f"🏆 New best checkpoint! Score: {self.tracker.best.score(self.tracker.metric_name):.4f}")
        say(self.tracker.summary())
        for name, value in metrics.items():
            if isinstance(value, float) and not name.endswith(ERROR_SUFFIX):
                log.add_scalar(f"Evaluation/{metric_title(name).replace(' ', '_')}", value, step)
        log.add_scalar("Evaluation/IsBest", float(is_best), step)
        log.flush()

    def _save_samples(self, images: Sequence[Image.Image], folder: Path, step: int, log: SummaryWriter) -> None:
        """Replace the images of the last evaluation."""
        folder.mkdir(exist_ok=True)
        for index, (generated, photograph, prompt) in enumerate(
            zip(images, self.photographs, self.prompts, strict=True)
        ):
            compared = comparison(photograph, generated)
            for name, image in (("generated", generated), ("comparison", compared)):
                with atomic_write(folder / f"eval_{name}_{index:03d}.jpg") as file:
                    image.save(file, "JPEG", quality=95)
            with atomic_write(folder / f"eval_prompt_{index:03d}.txt") as file:
                file.write(prompt.encode())
            if index < _SHOWN_IMAGES:
                log.add_image(f"Samples/{index:03d}", np.array(compared), step, dataformats="HWC")


def say(text: str) -> None:
    """Print a line on stderr, above the progress bar."""
    tqdm.write(text, file=sys.stderr)


def _free_memory() -> None:
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
