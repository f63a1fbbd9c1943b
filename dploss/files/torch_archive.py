"""Read an untrusted `.pth`: nothing in it is executed, and its content takes no more memory than the file's size."""

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


def read_archive(path: Path, trouble: str = "not a readable checkpoint", mapped: bool = False) -> Any:
    """Read what `torch.save` wrote, onto the CPU.

    torch.load under weights_only=True executes nothing, but allocates whatever a file declares: compressed records,
    tensors that are views of one repeated value, lists that hold one list many times. All of these are refused.

    Args:
        path: the file.
        trouble: what errors say of it.
        mapped: whether the tensors stay on the disk until they are read.

    Returns:
        Dicts, lists and tuples of dense tensors, numbers, text and None.

    Raises:
        InputError: the file is missing, corrupt, of another kind, or declares more than its size.
        OSError: it cannot be opened.
    """
    size = regular_file(path).stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: {trouble}: corrupt, truncated, or another kind of file") from error
    if any(record.compress_type != zipfile.ZIP_STORED for record in records) or size < sum(
        record.file_size for record in records
    ):
        raise InputError(f"{path}: {trouble}: corrupt: declared size exceeds the file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: {trouble}: corrupt, or holding more than plain values") from error
    except OSError:
        raise
    except Exception as error:
        # Corrupt bytes raise errors of any kind in the unpickler: IndexError, KeyError, RuntimeError, ...
        raise InputError(f"{path}: {trouble}: corrupt or truncated") from error
    _check(path, content, size, trouble)
    return content


def _check(path: Path, content: Any, size: int, trouble: str) -> None:
    """Refuse content that takes more than the file's `size` bytes, shared parts counted every time, or other types."""
    pending, total = [content], 0
    while pending:
        value = pending.pop()
        total += 1
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
                raise InputError(f"{path}: {trouble}: it holds tensors other than dense ones")
            total += value.nbytes
        elif isinstance(value, dict):
            pending += value.keys()
            pending += value.values()
        elif isinstance(value, list | tuple | set):
            pending += value
        elif not (isinstance(value, _PLAIN) or (isinstance(value, int) and abs(value) < _LARGEST)):
            raise InputError(f"{path}: {trouble}: it holds a {type(value).__name__}")
        if total + len(pending) > size:
            raise InputError(f"{path}: {trouble}: corrupt: declared size exceeds the file")
