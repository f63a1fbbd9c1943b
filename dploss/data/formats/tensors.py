"""Rows of .pt and .pth files that torch.save wrote: a tensor, or a dict that holds one."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dploss.data.formats.columns import choose_column
from dploss.data.memmap import MappedRows, new_matrix
from dploss.errors import InputError, SettingError
from dploss.files.untrusted import decoding

if TYPE_CHECKING:
    from torch import Tensor

_TROUBLE = "no tensor can be read (save one as torch.save(rows, path))"
_CHUNK_VALUES = 2**22


def read_tensor(path: Path, column: str | None, limit: int | None) -> np.ndarray | MappedRows:
    """The tensor of the file, or of the dict in it: the only matrix, or the one whose key is `column`."""
    # Imported here: other formats need no torch.
    from torch import Tensor

    from dploss.files.torch_archive import read_archive

    with decoding(path, _TROUBLE):
        content = read_archive(path, _TROUBLE, mapped=True)
    if isinstance(content, dict):
        matrices = {str(key): isinstance(value, Tensor) and value.dim() == 2 for key, value in content.items()}
        chosen = choose_column(str(path), matrices, column)
        content = next(value for key, value in content.items() if str(key) == chosen)
        where = f"{path}: {chosen}"
    elif column is not None:
        raise SettingError("{path}: it holds no dict to choose from; leave out {column}", path=path)
    else:
        where = str(path)
    if not isinstance(content, Tensor):
        raise InputError(f"{where} is a {type(content).__name__}, not a tensor; torch.save a tensor (rows, dimensions)")
    return _as_rows(where, content[:limit] if content.dim() else content)


def _as_rows(where: str, tensor: "Tensor") -> np.ndarray | MappedRows:
    if tensor.dim() != 2 or not tensor.numel():
        raise InputError(f"{where} has shape {tuple(tensor.shape)}, not a matrix (rows, dimensions)")
    if tensor.is_complex() or str(tensor.dtype) == "torch.bool":
        raise InputError(f"{where} holds {str(tensor.dtype).removeprefix('torch.')} values, not numbers")
    rows, backing = new_matrix((tensor.shape[0], tensor.shape[1]))
    step = max(1, _CHUNK_VALUES // rows.shape[1])
    for start in range(0, len(rows), step):
        rows[start : start + step] = tensor[start : start + step].detach().float().numpy()
    return rows if backing is None else MappedRows(rows, backing)
