"""Rows from .npy (memory-mapped) and .npz files; nothing pickled is ever loaded."""

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from dploss.data.formats.columns import choose_column
from dploss.data.memmap import MappedRows, map_matrix
from dploss.errors import InputError, SettingError
from dploss.files.untrusted import check_claim, decoding

_SUFFIX = ".npy"


def read_npy(path: Path, column: str | None, limit: int | None) -> np.ndarray | MappedRows:
    """Map the matrix of a .npy file; it has no columns to choose from."""
    if column is not None:
        raise SettingError("{path}: a .npy file has no columns; leave out {column}", path=path)
    with decoding(path, "not a readable .npy file"):
        with open(path, "rb") as file:
            shape, fortran, dtype = _header(file)
            start = file.tell()
        _check(path, shape, dtype, path.stat().st_size - start)
        if len(shape) != 2 or not math.prod(shape):
            return np.broadcast_to(np.zeros((), dtype), shape or (1,))
        rows = map_matrix(path, dtype, shape, start, order="F" if fortran else "C")
        return MappedRows(rows.stored[:limit], rows.memory)


def read_npz(path: Path, column: str | None, limit: int | None) -> np.ndarray:
    """Read the one matrix of a .npz file, or the one whose key is `column`."""
    with decoding(path, "not a readable .npz file"), zipfile.ZipFile(path) as archive:
        headers = {}
        for member in archive.infolist():
            if member.filename.endswith(_SUFFIX):
                # NumPy writes no other kinds, and a few of their bytes can unpack to gigabytes at once.
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{member.filename} is neither stored nor deflated")
                with archive.open(member) as file:
                    headers[member.filename.removesuffix(_SUFFIX)] = _header(file)
        if column is None and len(headers) == 1:
            (key,) = headers
        else:
            key = choose_column(str(path), {key: len(shape) == 2 for key, (shape, _, _) in headers.items()}, column)
        unpacked = archive.getinfo(key + _SUFFIX).file_size
        check_claim(path, unpacked)
        shape, _, dtype = headers[key]
        _check(path, shape, dtype, unpacked)
        with archive.open(key + _SUFFIX) as file:
            return np.atleast_1d(np.lib.format.read_array(file, allow_pickle=False))[:limit]


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is stored by columns, and dtype of the array that starts here."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _check(path: Path, shape: tuple[int, ...], dtype: np.dtype, size: int) -> None:
    """Refuse Python objects, and an array that `size` bytes cannot hold, before memory is taken for it."""
    if dtype.hasobject:
        raise InputError(f"{path}: it holds Python objects, not numbers; save it as an array of floats")
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"it is cut short: smaller than an array of shape {shape}")
