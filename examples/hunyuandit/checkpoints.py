"""Checkpoints of a training with accelerate, 0002000.pt or the directory 0002000/, written atomically."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import HunyuanDiT2DModel
from diffusers.training_utils import EMAModel

from dploss.files.atomic import move, remove
from metrics import InputError

_STATE, _AVERAGED, _PROGRESS = "state", "transformer_ema", "training.json"


class Checkpoints:
    """Saves a training's state under the number of its step, and restores it.

    A file has step, epoch, config, model_state_dict, ema_state_dict (with ema_step), optimizer_state_dict and
    scaler_state_dict, and loads with torch.load(path, weights_only=True). A directory has training.json (step, epoch,
    config, ema_step), state/ (accelerate's, whatever the backend; with DeepSpeed each process writes its shard) and
    transformer_ema/ (the averaged weights in diffusers' layout).

    Args:
        folder: of the checkpoints.
        accelerator: it has prepared the model and the optimizer.
        model: the transformer itself, not wrapped.
        optimizer: the prepared one.
        ema: the average of the model's weights; None where none is kept.
        directories: whether they are directories, not files.
        config: the settings, as JSON values.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        model: HunyuanDiT2DModel,
        optimizer: torch.optim.Optimizer,
        ema: EMAModel | None,
        *,
        directories: bool,
        config: Mapping[str, Any],
    ) -> None:
        self.folder, self.accelerator, self.model = folder, accelerator, model
        self.optimizer, self.ema, self.directories, self.config = optimizer, ema, directories, dict(config)

    def save(self, step: int, epoch: int) -> Path:
        """Save the state after a step; all processes call it.

        Returns:
            The path of the complete file or directory.

        Raises:
            OSError: the disk is full, for example; earlier checkpoints are intact.
        """
        path = self.folder / (f"{step:07d}" if self.directories else f"{step:07d}.pt")
        progress = {"step": step, "epoch": epoch, "config": self.config}
        if self.ema is not None:
            progress["ema_step"] = self.ema.optimization_step
        temporary = _temporary(path)
        is_main = self.accelerator.is_main_process
        try:
            if self.directories:
                self._save_directory(temporary, progress)
            elif is_main:
                torch.save({**progress, **self.state()}, temporary)
            if is_main:
                _publish(temporary, path)
        except BaseException as error:
            if is_main:
                remove(temporary)
            if isinstance(error, Exception):
                # torch, safetensors and DeepSpeed each have their own error for a full disk.
                raise OSError(f"{path}: cannot be written ({error})") from error
            raise
        self.accelerator.wait_for_everyone()
        return path

    def load(self, path: Path) -> dict[str, Any]:
        """Restore a saved state; all processes call it.

        Returns:
            The checkpoint's step, epoch and config.

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
                raise ValueError("no step or config in it")
        except Exception as error:
            # Damaged bytes lead the unpickler, safetensors and JSON to errors of any kind.
            reason = (str(error) or type(error).__name__)[:300]
            raise InputError(f"{path}: not a checkpoint of this model ({reason})") from error
        return progress

    def state(self) -> dict[str, Any]:
        """What a checkpoint of one file holds: weights, optimizer, and the exponential average where there is one."""
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


def delete(path: Path) -> None:
    """Delete a checkpoint; it is renamed first, so that no partial one has its name."""
    to_delete = _temporary(path)
    os.replace(path, to_delete)
    remove(to_delete)


def remove_stale(folder: Path) -> None:
    """Remove incomplete checkpoints of a killed training; only the process that holds the folder's lock may."""
    for path in folder.glob(".[0-9]*.tmp"):
        remove(path)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _publish(temporary: Path, path: Path) -> None:
    """Sync what is written to disk, then give it its name."""
    for file in [temporary, *temporary.rglob("*")]:
        if file.is_file():
            with open(file, "rb+") as written:
                os.fsync(written.fileno())
    if path.is_dir():
        # A directory cannot be renamed over.
        remove(path)
    move(temporary, path)
