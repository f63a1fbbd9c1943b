"""Rows from .npy (memory-mapped) and .npz files; nothing pickled is ever loaded."""

import zipfile
from pathlib import Path

import numpy as np

from dploss.errors import InputError
from dploss.vectors.columns import choose_column


def read_npy(path: Path, column: str | None, limit: int | None) -> np.ndarray:
    """Memory-map the matrix of a .npy file; it has no columns to choose from."""
    if column is not None:
        raise InputError(f"{path}: a .npy file has no columns; leave out --column")
    try:
        return np.atleast_1d(np.lib.format.open_memmap(path, mode="r"))[:limit]
    except (OSError, ValueError, EOFError, TypeError, SyntaxError) as error:
        raise _unreadable(path, error) from error


def read_npz(path: Path, column: str | None, limit: int | None) -> np.ndarray:
    """Read the one matrix of a .npz file, or the one whose key is `column`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds one bare array; name it .npy")
            key = column
            if column is not None or len(archive.files) != 1:
                key = choose_column(str(path), {name: archive[name].ndim == 2 for name in archive.files}, column)
            return np.atleast_1d(archive[key or archive.files[0]])[:limit]
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    if path.stat().st_size == 0:
        return InputError(f"{path}: the file is empty")
    if "object" in str(error).lower() or "pickle" in str(error):
        return InputError(f"{path}: it holds Python objects, not numbers; save it as an array of floats")
    return InputError(f"{path}: not a readable {path.suffix} file: {error}")
