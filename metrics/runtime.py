"""The device that metrics run on, and the random states that they leave as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from metrics.errors import InputError


def working_device(device: str | torch.device) -> torch.device:
    """The device, after a trial allocation on it.

    Raises:
        InputError: it is unknown or not available.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {device}: cannot be used ({str(error).splitlines()[0]})") from error
    return torch.device(device)


@contextmanager
def randomness_kept() -> Iterator[None]:
    """Restore the random states of torch, numpy and random at the end of the block."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
