"""Weight files: found in a cache or downloaded, checked, and read without executing code in them."""

import hashlib
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metrics.errors import InputError, Unavailable

REACH_SECONDS = 10


def existing(path: str | Path) -> Path:
    """The path, of a file that exists.

    Raises:
        InputError: no such file.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file of weights")
    return Path(path)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` file, on the CPU; code in the file is never executed (weights_only).

    Raises:
        InputError: no such file, or not a dictionary of tensors.
    """
    path = existing(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged bytes lead the unpickler to errors of any kind: IndexError, UnicodeDecodeError, struct.error, ...
        reason = str(error).split("\n")[0] or type(error).__name__
        raise InputError(f"{path}: cannot be read as plain weights ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: not a dictionary of tensors")
    return state


def fill(module: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Load the tensors into the module.

    Raises:
        InputError: one is missing, unexpected, or of another shape.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{path}: not the weights of {type(module).__name__} ({str(error)[:200]})") from error


def hub_file(url: str) -> Path:
    """The file of a torch.hub address: from torch's cache, or downloaded into it.

    The names of such files end in the first digits of their SHA-256; torch checks it only while downloading.

    Raises:
        Unavailable: not in the cache, and the network cannot be reached.
        InputError: the SHA-256 of the file in the cache is not that of its name.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    prefix = path.stem.rsplit("-", 1)[-1]
    if path.is_file():
        if not sha256(path).startswith(prefix):
            raise InputError(f"{path}: corrupt: its SHA-256 is not the one in its name; remove it")
        return path
    require_network(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=sys.stderr.isatty())
    return path


def require_network(url: str) -> None:
    """Check within seconds whether the address answers.

    Raises:
        Unavailable: it does not.
    """
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=REACH_SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise Unavailable(f"its weights are not on this machine, and {url} answers {error.code}") from error
    except OSError as error:
        raise Unavailable(f"its weights are not on this machine, and {url} cannot be reached ({error})") from error


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def provenance(path: str | Path) -> dict[str, Any]:
    """A weight file's entry in a report: {"source": its path, "sha256": its digest}."""
    return {"source": str(path), "sha256": sha256(path)}
