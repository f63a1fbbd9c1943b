"""Rows from the plain binary files of nearest-neighbour search, mapped.

.fvecs and .bvecs: every row a little-endian int32, its dimensions, then its values (corpus-texmex.irisa.fr).
.fbin, .f16bin, .u8bin, .i8bin: two uint32, rows and dimensions, then the matrix (big-ann-benchmarks.com).
.safetensors: a uint64, the length of a JSON header that names each tensor's dtype, shape and place, then the tensors
(huggingface.co/docs/safetensors).
"""

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from dploss.data.formats.columns import choose_column
from dploss.data.memmap import BFLOAT16, MappedRows, map_matrix
from dploss.errors import InputError, SettingError
from dploss.files.untrusted import decoding
from dploss.text import counted

VECS = {".fvecs": "<f4", ".bvecs": "u1"}
BINS = {".fbin": "<f4", ".f16bin": "<f2", ".u8bin": "u1", ".i8bin": "i1"}
_TENSORS: dict[str, DTypeLike] = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": BFLOAT16},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"},
}
# The format's own limit.
_LONGEST_HEADER = 10**8


def read_vecs(path: Path, column: str | None, limit: int | None) -> MappedRows:
    """Map a .fvecs or .bvecs file."""
    _refuse_column(path, column)
    dtype = np.dtype(VECS[path.suffix.lower()])
    with decoding(path, f"not a readable {path.suffix} file"):
        size = path.stat().st_size
        dim = int(np.fromfile(path, "<i4", 1)[0])
        row_bytes = 4 + dim * dtype.itemsize
        if dim < 1 or size % row_bytes:
            raise ValueError(f"{size:,} bytes are no whole number of rows of {counted(dim, 'dimension')}")
        count = min(size // row_bytes, limit or size)
        dims = map_matrix(path, "<i4", (count, 1), 0, row_bytes).stored[:, 0]
        wrong = np.flatnonzero(dims != dim)
        if len(wrong):
            odd = counted(dims[wrong[0]], "dimension")
            raise InputError(f"{path}: row {wrong[0]} has {odd}, the rows before it have {dim}")
        return map_matrix(path, dtype, (count, dim), 4, row_bytes)


def read_bin(path: Path, column: str | None, limit: int | None) -> MappedRows:
    """Map a .fbin, .f16bin, .u8bin or .i8bin file."""
    _refuse_column(path, column)
    dtype = np.dtype(BINS[path.suffix.lower()])
    with decoding(path, f"not a readable {path.suffix} file"):
        count, dim = (int(value) for value in np.fromfile(path, "<u4", 2))
        if not count or not dim or 8 + count * dim * dtype.itemsize != path.stat().st_size:
            raise ValueError(f"it is not as long as its {counted(count, 'row')} of {counted(dim, 'dimension')}")
        return map_matrix(path, dtype, (min(count, limit or count), dim), 8)


def read_safetensors(path: Path, column: str | None, limit: int | None) -> MappedRows:
    """Map the one matrix of a .safetensors file, or the one whose name is `column`."""
    with decoding(path, "not a readable .safetensors file"):
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if 8 + length > size or length > _LONGEST_HEADER:
                raise ValueError(f"its header's declared size is {length:,} bytes")
            tensors = json.loads(file.read(length))
        tensors = {name: entry for name, entry in tensors.items() if name != "__metadata__"}
        if column is None and len(tensors) == 1:
            (name,) = tensors
        else:
            name = choose_column(str(path), {key: len(entry["shape"]) == 2 for key, entry in tensors.items()}, column)
        entry = tensors[name]
        if entry["dtype"] not in _TENSORS:
            raise InputError(f"{path}: {name} holds {entry['dtype']} values; known are {', '.join(_TENSORS)}")
        dtype, (first, last) = np.dtype(_TENSORS[entry["dtype"]]), entry["data_offsets"]
        shape = tuple(entry["shape"])
        if len(shape) != 2 or not all(type(extent) is int and extent > 0 for extent in shape):
            raise InputError(f"{path}: {name} has shape {shape}, not a matrix (rows, dimensions)")
        if not first >= 0 or last - first != math.prod(shape) * dtype.itemsize or 8 + length + last > size:
            raise ValueError(f"the place of {name} is not in the file")
        rows = map_matrix(path, dtype, shape, 8 + length + first)
        return MappedRows(rows.stored[:limit], rows.memory)


def _refuse_column(path: Path, column: str | None) -> None:
    if column is not None:
        template = "{path}: a {suffix} file has no columns; leave out {column}"
        raise SettingError(template, path=path, suffix=path.suffix)
