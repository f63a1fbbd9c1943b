"""The setup of a training: its processes and their precision, its folder, and the checkpoint it resumes from."""

import os
from argparse import Namespace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from diffusers.utils import logging as diffusers_logging
from filelock import FileLock
from transformers.utils import logging as transformers_logging

from dploss.files.atomic import remove_stale_temporaries
from dploss.files.locks import lock_experiment
from hunyuandit.checkpoints import Checkpoints, newest, remove_stale
from hunyuandit.evaluation import SAMPLES, say
from metrics import InputError

# Settings that the result of a training depends on.
_DECISIVE = ("pretrained", "tiny", "images", "image_size", "batch_size", "gradient_accumulation", "processes", "lr")
_DECISIVE += ("caption_dropout", "ema_decay", "seed")


def make_accelerator(args: Namespace) -> Accelerator:
    """The accelerator, as accelerate is configured, or else for one GPU or the CPU.

    Raises:
        InputError: a precision that the device does not support, or ZeRO stage 3.
    """
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    precision: str | None = args.mixed_precision
    if precision == "auto":
        # None leaves the precision of accelerate's configuration as it is.
        given = "ACCELERATE_MIXED_PRECISION" in os.environ
        half = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp16"
        precision = None if given else half if torch.cuda.is_available() else "no"
    # Started by torchrun on a CPU, each process would train by itself. DeepSpeed connects them, but not with cpu=True.
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1 and os.environ.get("ACCELERATE_USE_DEEPSPEED") != "true"
    try:
        accelerator = Accelerator(
            cpu=several and not torch.accelerator.is_available(),
            mixed_precision=precision,
            gradient_accumulation_steps=args.gradient_accumulation,
            # The others wait while the main process measures, and it may have to download the metrics' weights.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=2))],
        )
    except ValueError as error:
        raise InputError(f"--mixed-precision {args.mixed_precision}: {error}") from error
    deepspeed = accelerator.state.deepspeed_plugin
    if deepspeed is not None:
        if deepspeed.zero_stage == 3:
            raise InputError("DeepSpeed's ZeRO stage 3 shards the weights, which sampling needs whole: use stage 2")
        deepspeed.deepspeed_config["train_micro_batch_size_per_gpu"] = args.batch_size
    return accelerator


def checkpoint_to_resume(folder: Path, resume: str | None) -> Path | None:
    """The checkpoint to resume from; None for a new training.

    Args:
        folder: of the training's checkpoints.
        resume: the value of --resume: "newest", a path, or None.

    Raises:
        InputError: --resume without a checkpoint, or checkpoints without --resume.
    """
    found = newest(folder)
    if resume is None:
        if found is not None:
            raise InputError(f"{folder}: it has checkpoints already: --resume continues them, or choose another folder")
        return None
    start = found if resume == "newest" else Path(resume).resolve()
    if start is None or not start.exists():
        raise InputError(f"--resume: no checkpoint {start or f'in {folder}'}")
    return start


def claim(folder: Path) -> FileLock:
    """Lock a folder for this training, and remove incomplete files that a killed one left there.

    Returns:
        The lock, held until its `release` or the end of the process.

    Raises:
        InputError: another training writes there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_experiment(folder)
    remove_stale(folder)
    remove_stale_temporaries(folder / SAMPLES)
    return lock


def resume_from(checkpoints: Checkpoints, path: Path) -> int:
    """Load a checkpoint, warn about settings that have changed since, and return its step."""
    progress = checkpoints.load(path)
    saved: dict[str, Any] = progress["config"]
    for name in _DECISIVE if checkpoints.accelerator.is_main_process else ():
        if name in saved and saved[name] != checkpoints.config[name]:
            say(f"warning: {name} was {saved[name]}, now {checkpoints.config[name]}: the result will differ")
    return progress["step"]
