"""Judge checkpoints by the images that they make, and keep the best: dploss's tracker, metrics' evaluator."""

import gc
import io
import os
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
from hunyuandit.data import Captioned, picture, pixels
from hunyuandit.model import denoising_loss, generator_of, sample
from metrics import ImageEvaluator, InputError

SAMPLES = "evaluation_samples"
VALIDATION_LOSS = "validation_loss"
_WEIGHTS = ("clip_model", "clip_pretrained", "lpips_net", "lpips_weights", "inception_weights")
_SHOWN_IMAGES = 4
_ABBREVIATIONS = ("clip", "fid", "lpips", "psnr", "ssim")


@dataclass(frozen=True)
class _Made:
    """The image that was made of a prompt, and the denoising loss of its photograph."""

    place: int
    image: Image.Image
    validation_loss: float


class Judge:
    """Samples images for fixed prompts with fixed seeds, measures them, and hands the checkpoint to the tracker.

    The training goes on as if nothing had been: torch's random states, the weights and the mode of the model are as
    before afterwards, and the metrics' models are let go of. All processes sample; the main one measures.

    Args:
        accelerator: of the training.
        pipeline: its transformer is the one that is trained.
        ema: the averaged weights, which are judged; None to judge the trained ones.
        items: the prompts, and the photographs that they describe.
        image_size: pixels along a side.
        settings: the script's flags.

    Attributes:
        metric_name: what decides which checkpoint is best.
        tracker: the best checkpoints; on the main process, once `begin` was called.
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
        self.photographs = [picture(item.path, image_size) for item in items]
        self.metric_name: str = settings.metric_name
        self.tracker: BestCheckpointTracker | None = None
        self._evaluator: ImageEvaluator | None = None

    def choose_metric(self) -> None:
        """Find out, before anything is trained or written, what can be measured here.

        Where the metric to track cannot, the denoising loss of the photographs is tracked instead, and this is said.

        Raises:
            InputError: no such metric, or a file of weights that cannot be used.
        """
        if not self.accelerator.is_main_process:
            return
        where = {name: getattr(self.settings, name) for name in _WEIGHTS}
        trial = ImageEvaluator(device=str(self.accelerator.device), **where)
        found = trial.evaluate(self.photographs, self.photographs, self.prompts)
        trial.release()
        measured = [name for name, value in found.items() if isinstance(value, float)]
        known = [VALIDATION_LOSS, *measured, *found["left_out"]]
        if self.metric_name not in known:
            raise InputError(f"--metric-name must be one of {', '.join(known)}, got {self.metric_name!r}")
        if self.metric_name in found["left_out"]:
            why = found["left_out"][self.metric_name]
            say(f"warning: {self.metric_name} cannot be measured ({why}): {VALIDATION_LOSS} is tracked instead")
            self.metric_name = VALIDATION_LOSS
        # What is out of reach is not asked for again at every evaluation.
        within_reach = [name for name in measured if name not in ("composite_score", "inception_score_std")]
        self._evaluator = ImageEvaluator(device=str(self.accelerator.device), metrics=within_reach, **where)

    def begin(self, folder: Path, resumed_from: Path | None) -> None:
        """Take up the tracker of a folder, from the checkpoint that the training starts from, if any."""
        if self.accelerator.is_main_process:
            self.tracker = BestCheckpointTracker(
                folder,
                self.metric_name,
                higher_is_better=False if self.metric_name == VALIDATION_LOSS else None,
                save_top_k=self.settings.save_top_k,
                keep_every_n_steps=self.settings.keep_every_n_steps,
                prune=not self.settings.no_prune,
                resumed_from=resumed_from,
            )

    def knows(self, checkpoint: Path) -> bool:
        """Whether a checkpoint is among the best already; all processes call it.

        One that is not there may have been saved by a training that was killed before it could judge it.
        """
        known = False
        if self.accelerator.is_main_process:
            folder = self.tracker.checkpoint_dir
            known = any((folder / entry.path).resolve() == checkpoint.resolve() for entry in self.tracker.top)
        return broadcast_object_list([known])[0]

    def judge(self, step: int, epoch: int, checkpoint: Path, log: SummaryWriter | None) -> None:
        """Judge a checkpoint that was just saved; all processes call it. What fails is said, and nothing is raised.

        Args:
            step: optimizer steps done.
            epoch: finished epochs.
            checkpoint: its path; the model holds the same weights.
            log: what TensorBoard shows; on the main process.
        """
        leads = self.accelerator.is_main_process
        if leads:
            say(f"[Step {step}] Evaluating model performance at step {step}")
        made, error = self._sample_together()
        if leads:
            try:
                if error is not None:
                    raise error
                self._measure(made, step, epoch, checkpoint, log)
            except Exception as failure:
                # Hours of training are worth more than one evaluation, whatever is wrong with it.
                reason = " ".join(str(failure).split()) or type(failure).__name__
                say(f"warning: the evaluation at step {step} failed: {reason}; the training goes on")
            finally:
                self._evaluator.release()
        _free_memory()
        self.accelerator.wait_for_everyone()

    def _sample_together(self) -> tuple[list[_Made], Exception | None]:
        """Each process makes its share of the images; one that fails says so, and the others do not wait for it.

        Returns:
            What was made, in the prompts' order, and the first error that there was.
        """
        error: Exception | None = None
        made: list[_Made] = []
        batch_size = self.settings.batch_size
        model, device = self.pipeline.transformer, self.accelerator.device
        mine = range(self.accelerator.process_index, len(self.prompts), self.accelerator.num_processes)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            try:
                _free_memory()
                model.eval()
                if self.ema is not None:
                    self.ema.store(model.parameters())
                    self.ema.copy_to(model.parameters())
                for start in range(0, len(mine), batch_size):
                    made += self._make(mine[start : start + batch_size])
            except Exception as failure:
                # Kept as text: the traceback would keep the memory.
                error = RuntimeError(str(failure) or type(failure).__name__)
            finally:
                if self.ema is not None and self.ema.temp_stored_params is not None:
                    self.ema.restore(model.parameters())
                model.train()
        errors = [one for one in gather_object([error]) if one is not None]
        return sorted(gather_object(made), key=lambda one: one.place), next(iter(errors), None)

    @torch.no_grad()
    def _make(self, places: Sequence[int]) -> list[_Made]:
        prompts = [self.prompts[place] for place in places]
        seeds = [self.settings.seed + place for place in places]
        images = sample(self.pipeline, prompts, seeds, self.image_size, self.settings.sampling_steps)
        return [_Made(place, image, self._validation_loss(place)) for place, image in zip(places, images, strict=True)]

    def _validation_loss(self, place: int) -> float:
        """The denoising loss of a photograph, with the same noise and timestep at every evaluation."""
        photograph = pixels(self.photographs[place])[None]
        draws = generator_of(self.settings.seed, place)
        return denoising_loss(self.pipeline, self.pipeline.transformer, photograph, [self.prompts[place]], draws).item()

    def _measure(self, made: Sequence[_Made], step: int, epoch: int, checkpoint: Path, log: SummaryWriter) -> None:
        images = [one.image for one in made]
        metrics = self._evaluator.evaluate(images, self.photographs, self.prompts)
        metrics[VALIDATION_LOSS] = float(np.mean([one.validation_loss for one in made]))
        self._save_samples(images, checkpoint.parent / SAMPLES, step, log)
        is_best = self.tracker.update(step, epoch, checkpoint, metrics)
        if is_best:
            say(f"🏆 New best checkpoint! Score: {self.tracker.best.score(self.tracker.metric_name):.4f}")
        say(self.tracker.summary())
        for name, value in metrics.items():
            if isinstance(value, float):
                log.add_scalar(f"Evaluation/{_title(name)}", value, step)
        log.add_scalar("Evaluation/IsBest", float(is_best), step)
        log.flush()

    def _save_samples(self, images: Sequence[Image.Image], folder: Path, step: int, log: SummaryWriter) -> None:
        """Replace the pictures of the last evaluation."""
        folder.mkdir(exist_ok=True)
        for place, (image, photograph, prompt) in enumerate(zip(images, self.photographs, self.prompts, strict=True)):
            both = Image.new("RGB", (2 * self.image_size, self.image_size))
            both.paste(photograph, (0, 0))
            both.paste(image, (self.image_size, 0))
            _replace(folder / f"eval_generated_{place:03d}.jpg", _jpeg(image))
            _replace(folder / f"eval_comparison_{place:03d}.jpg", _jpeg(both))
            _replace(folder / f"eval_prompt_{place:03d}.txt", prompt.encode())
            if place < _SHOWN_IMAGES:
                log.add_image(f"Samples/{place:03d}", np.array(both), step, dataformats="HWC")


def say(text: str) -> None:
    """Print a line of news on stderr, above the progress bar."""
    tqdm.write(text, file=sys.stderr)


def _title(name: str) -> str:
    """A metric's name as its TensorBoard tag has it: CLIP_Score, LPIPS, Composite_Score."""
    return "_".join(word.upper() if word in _ABBREVIATIONS else word.title() for word in name.split("_"))


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """Write a small file; a reader meets the old one or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _free_memory() -> None:
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
