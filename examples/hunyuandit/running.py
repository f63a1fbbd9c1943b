"""What is around the loop: its processes and their precision, its folder, where it starts and how it is stopped."""

import os
import signal
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from diffusers.utils import logging as diffusers_logging
from filelock import FileLock, Timeout
from transformers.utils import logging as transformers_logging

from hunyuandit.checkpoints import Checkpoints, newest, remove_stale
from hunyuandit.judging import say
from metrics import InputError

# Settings that decide a training's result.
_DECIDING = ("pretrained", "tiny", "images", "image_size", "batch_size", "gradient_accumulation", "processes", "lr")
_DECIDING += ("caption_dropout", "ema_decay", "seed")


def make_accelerator(args: Namespace) -> Accelerator:
    """Accelerate as it was configured, or for the one GPU, or the CPU, that there is.

    Raises:
        InputError: precision that the device has not, or ZeRO stage 3.
    """
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    precision: str | None = args.mixed_precision
    if precision == "auto":
        # Where accelerate's configuration says something, None leaves it as it is.
        given = "ACCELERATE_MIXED_PRECISION" in os.environ
        half = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp16"
        precision = None if given else half if torch.cuda.is_available() else "no"
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            gradient_accumulation_steps=args.gradient_accumulation,
            # The others wait while the main process measures, and may have to fetch the metrics' weights.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=2))],
        )
    except ValueError as error:
        raise InputError(f"--mixed-precision {args.mixed_precision}: {error}") from error
    deepspeed = accelerator.state.deepspeed_plugin
    if deepspeed is not None:
        if deepspeed.zero_stage == 3:
            raise InputError("DeepSpeed's ZeRO stage 3 shares out the weights, which are sampled from: use stage 2")
        deepspeed.deepspeed_config["train_micro_batch_size_per_gpu"] = args.batch_size
    return accelerator


def where_to_start(folder: Path, resume: str | None) -> Path | None:
    """The checkpoint to go on from; None to begin anew.

    Args:
        folder: where the training's checkpoints go.
        resume: what --resume says: "newest", a path, or None.

    Raises:
        InputError: there is nothing to go on from, or something that --resume does not ask for.
    """
    there = newest(folder)
    if resume is None:
        if there is not None:
            raise InputError(
                f"{folder}: it has checkpoints already: --resume goes on with them, or take another folder"
            )
        return None
    start = there if resume == "newest" else Path(resume).resolve()
    if start is None or not start.exists():
        raise InputError(f"--resume: no checkpoint {start or f'in {folder}'}")
    return start


def claim(folder: Path) -> FileLock:
    """Become the only training in a folder, and remove what a killed one left half-written there.

    Returns:
        The lock, which holds as long as somebody holds it, and no longer than the process.

    Raises:
        InputError: another training writes there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=1)
    except Timeout as error:
        raise InputError(f"{folder}: another training writes there; stop it, or let it finish") from error
    remove_stale(folder)
    return lock


def take_up(checkpoints: Checkpoints, path: Path) -> int:
    """Load a checkpoint, say which settings were others then, and return its step."""
    progress = checkpoints.load(path)
    then: dict[str, Any] = progress["config"]
    for name in _DECIDING if checkpoints.accelerator.is_main_process else ():
        if name in then and then[name] != checkpoints.config[name]:
            say(f"warning: {name} was {then[name]}, now {checkpoints.config[name]}: the result will be another")
    return progress["step"]


@contextmanager
def interrupt_flag() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a flag to look at; the second one stops at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
