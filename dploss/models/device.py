"""The device to train on, and the state of its random generators."""

from collections.abc import Mapping
from typing import Any

import torch

from dploss.errors import SettingError


def pick_device(name: str) -> torch.device:
    """The device of that name; for "auto" the first available of cuda, mps and cpu.

    Raises:
        SettingError: the machine has no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, present in available.items() if present)
    elif not available[name]:
        template = "{device} {name}: this machine has none that torch can use; {device} auto takes the best available"
        raise SettingError(template, name=name)
    return torch.device(name)


def rng_state() -> dict[str, Any]:
    """States of torch's random generators, of the CPU and of every GPU."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore states from `rng_state`; those of GPUs that this machine lacks are ignored."""
    torch.set_rng_state(state["cpu"])
    for device, cuda in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(cuda, device)
