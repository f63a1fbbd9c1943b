"""Where to train, and the random generators there."""

from typing import Any

import torch

from dploss.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device of that name; for "auto" the fastest kind there is.

    Raises:
        InputError: the machine has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, present in there.items() if present)
    elif not there[name]:
        raise InputError(
            f"--device {name}: this machine has none that torch can use; --device auto takes what there is"
        )
    return torch.device(name)


def rng_state() -> dict[str, Any]:
    """States of torch's random generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_rng_state(state: dict[str, Any]) -> None:
    """Set the generators to states that `rng_state` gave; those of GPUs that are not here are left out."""
    torch.set_rng_state(state["cpu"])
    for device, cuda in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(cuda, device)
