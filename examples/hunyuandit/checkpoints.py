"""Checkpoints of a training with accelerate, 0002000.pt or the directory 0002000/: whole, or not there."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import HunyuanDiT2DModel
from diffusers.training_utils import EMAModel

from metrics import InputError

_STATE, _AVERAGED, _PROGRESS = "state", "transformer_ema", "training.json"


class Checkpoints:
    """Saves a training's state under the number of its step, and takes it up again.

    A file has step, epoch, config, model_state_dict, ema_state_dict (with ema_step), optimizer_state_dict and
    scaler_state_dict, and loads with torch.load(path, weights_only=True). A directory has training.json (step, epoch,
    config, ema_step), state/ (accelerate's, whatever the backend; under DeepSpeed each process writes its share) and
    transformer_ema/ (the averaged weights in diffusers' layout).

    Args:
        folder: where they are.
        accelerator: it has prepared the model and the optimizer.
        model: the transformer itself, not wrapped.
        optimizer: the prepared one.
        ema: the average of the model's weights; None where none is kept.
        directories: whether they are directories.
        config: the settings, ready for JSON.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        model: HunyuanDiT2DModel,
        optimizer: torch.optim.Optimizer,
        ema: EMAModel | None,
        directories: bool,
        config: Mapping[str, Any],
    ) -> None:
        self.folder, self.accelerator, self.model = folder, accelerator, model
        self.optimizer, self.ema, self.directories, self.config = optimizer, ema, directories, dict(config)

    def save(self, step: int, epoch: int) -> Path:
        """Save the state after a step; all processes call it.

        Returns:
            The file's or directory's path; it is whole.

        Raises:
            OSError: the disk is full, say; what was saved before stays.
        """
        path = self.folder / (f"{step:07d}" if self.directories else f"{step:07d}.pt")
        progress = {"step": step, "epoch": epoch, "config": self.config}
        if self.ema is not None:
            progress["ema_step"] = self.ema.optimization_step
        temporary = _beside(path)
        leads = self.accelerator.is_main_process
        try:
            if self.directories:
                self._save_directory(temporary, progress)
            elif leads:
                torch.save({**progress, **self._state()}, temporary)
            if leads:
                _publish(temporary, path)
        except BaseException as error:
            if leads:
                _discard(temporary)
            if isinstance(error, Exception):
                # torch, safetensors and DeepSpeed each say in their own way that a disk is full.
                raise OSError(f"{path}: cannot be written ({error})") from error
            raise
        self.accelerator.wait_for_everyone()
        return path

    def load(self, path: Path) -> dict[str, Any]:
        """Take up a saved state; all processes call it.

        Returns:
            What the checkpoint says of itself: step, epoch and config.

        Raises:
            InputError: it cannot be read, or does not fit the model.
        """
        try:
            if path.is_dir():
                progress = json.loads((path / _PROGRESS).read_text(encoding="utf-8"))
                self.accelerator.load_state(str(path / _STATE))
                if self.ema is not None:
                    averaged = HunyuanDiT2DModel.from_pretrained(path / _AVERAGED)
                    self._restore_average(dict(averaged.named_parameters()), progress["ema_step"])
            else:
                content = torch.load(path, map_location="cpu", weights_only=True)
                progress = {name: content[name] for name in ("step", "epoch", "config")}
                self._restore(content)
            if not isinstance(progress["step"], int) or not isinstance(progress["config"], dict):
                raise ValueError("its step or its config is none")
        except Exception as error:
            # Damaged bytes lead the unpickler, safetensors and JSON to errors of any kind.
            reason = (str(error) or type(error).__name__)[:300]
            raise InputError(f"{path}: not a checkpoint of this model ({reason})") from error
        return progress

    def _state(self) -> dict[str, Any]:
        state = {"model_state_dict": self.model.state_dict(), "optimizer_state_dict": self.optimizer.state_dict()}
        if self.ema is not None:
            names = [name for name, _ in self.model.named_parameters()]
            state["ema_state_dict"] = dict(zip(names, self.ema.shadow_params, strict=True))
        if self.accelerator.scaler is not None:
            state["scaler_state_dict"] = self.accelerator.scaler.state_dict()
        return state

    def _restore(self, content: Mapping[str, Any]) -> None:
        self.model.load_state_dict(content["model_state_dict"])
        self.optimizer.load_state_dict(content["optimizer_state_dict"])
        if self.ema is not None:
            self._restore_average(content["ema_state_dict"], content["ema_step"])
        if self.accelerator.scaler is not None and "scaler_state_dict" in content:
            self.accelerator.scaler.load_state_dict(content["scaler_state_dict"])

    def _restore_average(self, averaged: Mapping[str, torch.Tensor], step: int) -> None:
        self.ema.shadow_params = [averaged[name].detach() for name, _ in self.model.named_parameters()]
        self.ema.to(self.model.device)
        self.ema.optimization_step = step

    def _save_directory(self, temporary: Path, progress: Mapping[str, Any]) -> None:
        # All processes write into it.
        temporary.mkdir(exist_ok=True)
        self.accelerator.save_state(str(temporary / _STATE))
        if self.accelerator.is_main_process:
            if self.ema is not None:
                self.ema.save_pretrained(temporary / _AVERAGED)
            (temporary / _PROGRESS).write_text(json.dumps(progress, indent=2) + "\n", encoding="utf-8")
        self.accelerator.wait_for_everyone()


def newest(folder: Path) -> Path | None:
    """The checkpoint of the highest step; None where there is none."""
    found = (path for path in folder.glob("*") if re.fullmatch(r"\d{7,}(\.pt)?", path.name))
    return max(found, key=lambda path: int(path.stem), default=None)


def remove(path: Path) -> None:
    """Remove a checkpoint; at no instant a half one has its name."""
    doomed = _beside(path)
    os.replace(path, doomed)
    _discard(doomed)


def remove_stale(folder: Path) -> None:
    """Remove what a killed training left half-written; only the process that owns the folder may."""
    for path in folder.glob(".[0-9]*.tmp"):
        _discard(path)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _publish(temporary: Path, path: Path) -> None:
    """Give what is written its name, once it is safely on the disk."""
    for file in [temporary, *temporary.rglob("*")]:
        if file.is_file():
            with open(file, "rb+") as written:
                os.fsync(written.fileno())
    if path.is_dir():
        # A directory cannot be renamed over.
        shutil.rmtree(path)
    os.replace(temporary, path)
    if os.name != "nt":
        # Windows cannot open a folder, and does not need it.
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
