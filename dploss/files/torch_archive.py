"""Read a `.pth` from anywhere: nothing in it is executed, and nothing in it is larger than the file."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dploss.errors import InputError
from dploss.files.untrusted import regular_file

_PLAIN = (str, bytes, bool, float, type(None))
_LARGEST = 2**63


def read_archive(path: Path) -> Any:
    """Read what `torch.save` wrote, onto the CPU.

    torch's own reader under weights_only=True executes nothing, but allocates what a file claims: records that unpack
    to any size, tensors that repeat one number, lists that hold one list many times. All of these are refused.

    Args:
        path: the file.

    Returns:
        Dicts, lists and tuples of dense tensors, numbers, text and None.

    Raises:
        InputError: not such a file, one that is damaged, or one that claims more than it holds.
        OSError: it cannot be opened.
    """
    size = regular_file(path).stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path}: not a readable checkpoint: it is damaged, cut short, or another kind of file"
        ) from error
    if any(record.compress_type != zipfile.ZIP_STORED for record in records) or size < sum(
        record.file_size for record in records
    ):
        raise InputError(f"{path}: not a readable checkpoint: it claims more than it holds")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: not a readable checkpoint: it is damaged or holds more than plain values") from error
    except OSError:
        raise
    except Exception as error:
        # Damaged bytes lead the unpickler to errors of any kind: IndexError, KeyError, RuntimeError, ...
        raise InputError(f"{path}: not a readable checkpoint: it is damaged or cut short") from error
    _check(path, content, size)
    return content


def _check(path: Path, content: Any, size: int) -> None:
    """Refuse what takes more than the `size` bytes it came from, as often as it is met, and what is no plain value."""
    pending, met = [content], 0
    while pending:
        value = pending.pop()
        met += 1
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
                raise InputError(f"{path}: not a readable checkpoint: it holds tensors of another kind than plain ones")
            met += value.nbytes
        elif isinstance(value, dict):
            pending += value.keys()
            pending += value.values()
        elif isinstance(value, list | tuple | set):
            pending += value
        elif not (isinstance(value, _PLAIN) or (isinstance(value, int) and abs(value) < _LARGEST)):
            raise InputError(f"{path}: not a readable checkpoint: it holds a {type(value).__name__}")
        if met + len(pending) > size:
            raise InputError(f"{path}: not a readable checkpoint: it claims more than it holds")
