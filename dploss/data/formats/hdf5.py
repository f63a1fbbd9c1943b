"""Rows from .hdf5 files, mapped where they lie contiguously, as in the files of ann-benchmarks."""

from pathlib import Path

import h5py
import numpy as np

from dploss.data.formats.columns import choose_column
from dploss.data.memmap import MappedRows, map_matrix
from dploss.errors import InputError
from dploss.files.untrusted import check_claim, decoding

TRAIN = "train"


def read_hdf5(path: Path, column: str | None, limit: int | None) -> np.ndarray | MappedRows:
    """The matrix `column` of the file: by default "train", else as columns are chosen elsewhere."""
    with decoding(path, "not a readable .hdf5 file"), h5py.File(path, "r") as file:
        matrices = _matrices(file)
        name = TRAIN if column is None and TRAIN in matrices else choose_column(str(path), matrices, column)
        dataset = file[name]
        if len(dataset.shape) != 2 or not dataset.size:
            raise InputError(f"{path}: {name} has shape {dataset.shape}, not a matrix (rows, dimensions)")
        if dataset.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name} holds {dataset.dtype} values, not numbers")
        start = dataset.id.get_offset()
        if start is not None and dataset.external is None and not dataset.is_virtual:
            if start + dataset.size * dataset.dtype.itemsize > path.stat().st_size:
                raise ValueError(f"{name} is cut short")
            rows = map_matrix(path, dataset.dtype, dataset.shape, start)
            return MappedRows(rows.stored[:limit], rows.memory)
        check_claim(path, dataset.size * dataset.dtype.itemsize)
        return dataset[:limit]


def _matrices(file: h5py.File) -> dict[str, bool]:
    """Every dataset, those in groups as group/dataset, and whether it is a matrix."""
    matrices = {name: len(item.shape or ()) == 2 for name, item in file.items() if isinstance(item, h5py.Dataset)}

    def add(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            matrices.setdefault(name, len(item.shape or ()) == 2)

    file.visititems(add)
    return matrices
