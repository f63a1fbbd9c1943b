"""Matrices that stay on the disk: mapped into memory, read where they are asked for."""

import mmap
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

# A matrix that takes more than this share of the machine's memory is decoded into a file.
_SHARE_OF_MEMORY = 0.25
# Its two bytes are the upper half of a float32; NumPy has no such dtype, and this one nothing else has.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])


class MappedRows:
    """A matrix on the disk, used like an (N, D) float32 array.

    `rows[slice]` and `rows[indices]` are new float32 arrays of these rows; everything else stays on the disk.

    Args:
        stored: (N, D) view of the mapped file, of any real dtype or BFLOAT16.
        memory: the mapping that it is a view of.
        unit: whether rows are normalised to length 1.
        indices: (n,) sorted, of the rows that count; all if None.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(
        self, stored: np.ndarray, memory: mmap.mmap, unit: bool = False, indices: np.ndarray | None = None
    ) -> None:
        self.stored = stored
        self.memory = memory
        self.unit = unit
        self.indices = indices

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self.stored if self.indices is None else self.indices), self.stored.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        rows = _as_float32(self.stored[index if self.indices is None else self.indices[index]])
        return unit_rows(rows) if self.unit else rows

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or np.float32, copy=False)

    def as_units(self) -> "MappedRows":
        """The same rows, each normalised to length 1."""
        return MappedRows(self.stored, self.memory, True, self.indices)

    def select(self, indices: np.ndarray) -> "MappedRows":
        """Only the rows of these indices, still on the disk."""
        return MappedRows(
            self.stored, self.memory, self.unit, indices if self.indices is None else self.indices[indices]
        )

    def prefetch(self, indices: np.ndarray) -> None:
        """Ask the system to read rows in the order of the disk, before they are wanted in another order.

        Args:
            indices: (n,) of rows, in any order.
        """
        if hasattr(mmap, "MADV_WILLNEED"):
            for start, length in self.pages(indices):
                self.memory.madvise(mmap.MADV_WILLNEED, start, length)

    def pages(self, indices: np.ndarray) -> list[tuple[int, int]]:
        """The parts of the file, (start, bytes), that rows lie in: whole pages, neighbours in one part, in order.

        Args:
            indices: (n,) of rows, in any order.
        """
        indices = np.sort(indices if self.indices is None else self.indices[indices])
        origin = self.stored.ctypes.data - np.frombuffer(self.memory, np.uint8).ctypes.data
        stride = self.stored.strides[0]
        starts = (origin + indices * stride) // mmap.PAGESIZE * mmap.PAGESIZE
        ends = np.minimum(origin + (indices + 1) * stride, len(self.memory))
        apart = np.flatnonzero(starts[1:] > ends[:-1])
        firsts, lasts = starts[[0, *(apart + 1)]], ends[[*apart, -1]]
        return [(int(first), int(last - first)) for first, last in zip(firsts, lasts, strict=True)]


def _as_float32(stored: np.ndarray) -> np.ndarray:
    """A copy of a matrix as float32, a row after the other."""
    if stored.dtype == BFLOAT16:
        return (stored["bfloat16"].astype(np.uint32, order="C") << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return np.array(stored, np.float32, order="C")


def select(rows: np.ndarray | MappedRows, indices: np.ndarray) -> np.ndarray | MappedRows:
    """The rows of some indices: in memory a copy, on the disk a view."""
    return rows.select(indices) if isinstance(rows, MappedRows) else rows[indices]


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """(N, D) float32 rows, each divided by its length; a row of zeros becomes NaN."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (rows / lengths).astype(np.float32)


def map_file(path: Path) -> mmap.mmap:
    """Map a whole file, to read it."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def forget_pages(memory: mmap.mmap) -> None:
    """Give the pages that were read of a mapped file back to the system, so that they do not add up."""
    if hasattr(mmap, "MADV_DONTNEED"):
        memory.madvise(mmap.MADV_DONTNEED)


def map_matrix(
    path: Path,
    dtype: DTypeLike,
    shape: tuple[int, int],
    offset: int,
    row_bytes: int | None = None,
    order: Literal["C", "F"] = "C",
) -> MappedRows:
    """Map a matrix that lies in a file.

    Args:
        path: the file, which must be long enough for it.
        dtype: of its values.
        shape: (N, D).
        offset: of the first value, in bytes.
        row_bytes: from one row to the next; without gaps if None.
        order: "C", a row after the other, or "F", a column after the other.
    """
    memory = map_file(path)
    strides = None if row_bytes is None else (row_bytes, np.dtype(dtype).itemsize)
    return MappedRows(np.ndarray(shape, dtype, memory, offset, strides, order), memory)


def new_matrix(shape: tuple[int, int]) -> tuple[np.ndarray, mmap.mmap | None]:
    """Room for a float32 matrix that is to be decoded: in memory, or, where it is large, in a file without a name.

    Returns:
        The matrix (N, D), and the mapping that it is in, if it is in a file. The file is in the folder of temporary
        files (TMPDIR), and gone when nothing refers to it any more.

    Raises:
        OSError: no room on the disk.
    """
    size = 4 * shape[0] * shape[1]
    if size <= _SHARE_OF_MEMORY * total_memory():
        return np.empty(shape, np.float32), None
    with tempfile.TemporaryFile(prefix="dploss-") as file:
        # Writing to a mapping that finds no room would end the process.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        memory = mmap.mmap(file.fileno(), size)
    return np.ndarray(shape, np.float32, memory), memory


def gathered(blocks: Iterable[np.ndarray], limit: int | None) -> np.ndarray | MappedRows:
    """One float32 matrix of blocks of rows, of which nobody knows how many come: in memory, or in a file, as above.

    Args:
        blocks: (n, D) float32 each.
        limit: only the first `limit` rows.
    """
    kept: list[np.ndarray] = []
    count = size = 0
    file = None
    for block in blocks:
        wanted = block if limit is None else block[: limit - count]
        count, size = count + len(wanted), size + wanted.nbytes
        kept.append(wanted)
        if size > _SHARE_OF_MEMORY * total_memory():
            file = file or tempfile.TemporaryFile(prefix="dploss-")  # noqa: SIM115
            while kept:
                file.write(kept.pop(0).data)
        if count == limit:
            break
    if file is None:
        return np.concatenate(kept) if kept else np.empty((0, 0), np.float32)
    with file:
        file.flush()
        memory = mmap.mmap(file.fileno(), size)
    return MappedRows(np.ndarray((count, wanted.shape[1]), np.float32, memory), memory)


def total_memory() -> int:
    """Bytes of memory that the machine has."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 2**34
