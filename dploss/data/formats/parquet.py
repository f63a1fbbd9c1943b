"""Rows of .parquet files, a file or shards: row groups side by side, or one batch after the other."""

import mmap
import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dploss.data.formats.arrow import arrow_file, to_rows
from dploss.data.formats.columns import choose_column
from dploss.data.formats.nested import SIZED_ROWS, columns_of, pick, rows_at_a_time
from dploss.data.memmap import MappedRows, forget_pages, map_file, new_matrix
from dploss.errors import InputError
from dploss.files.untrusted import decoding, regular_file

_BUFFER = 2**20
_THREADS = 8
_TROUBLE = "not a readable parquet file"


def read_parquet(paths: list[Path], column: str | None, limit: int | None) -> np.ndarray | MappedRows:
    """Read one column of parquet files into one float32 matrix, several row groups at a time."""
    files = [(path, *open_parquet(path)) for path in paths]
    (path, _, columns), *others = files
    column = choose_column(str(path), columns, column)
    for path, _, columns in others:
        choose_column(str(path), columns, column)
    total = min(sum(file.metadata.num_rows for _, file, _ in files), limit or 2**63)
    parts = []
    place = 0
    for path, file, _ in files:
        if place < total and file.metadata.num_rows:
            with decoding(path, _TROUBLE):
                size = _batch_size(path, file, column, total - place)
                memory = map_file(path)
            parts += _parts(path, memory, file, column=column, batch_size=size, place=place, total=total)
        place += file.metadata.num_rows
    if not parts:
        return np.empty((0, 0), np.float32)
    # The first rows may all be null.
    width = next((block.shape[1] for part in parts for block in part.blocks(None) if block.shape[1]), 0)
    rows, backing = new_matrix((total, width))
    # Arrow decodes a column of lists with one thread, and lets the others run meanwhile.
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for _ in pool.map(lambda part: part.read_into(rows), parts):
            pass
    return rows if backing is None else MappedRows(rows, backing)


@dataclass(frozen=True)
class _RowGroup:
    """A row group, or its beginning, and where in the matrix its rows go.

    Attributes:
        path: of its file.
        memory: that file, mapped: Arrow decodes from it without a copy.
        metadata: the file's.
        group: its index.
        column: of the vectors.
        batch_size: rows that are decoded at a time.
        row: index of its first row in the file.
        place: index of its first row in the matrix.
        count: how many rows are wanted.
    """

    path: Path
    memory: mmap.mmap
    metadata: pq.FileMetaData
    group: int
    column: str
    batch_size: int
    row: int
    place: int
    count: int

    def blocks(self, above: np.ndarray | None) -> Generator[np.ndarray, None, None]:
        """Its rows, some at a time, of as many dimensions as those above."""
        with decoding(self.path, _TROUBLE):
            file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(self.memory)), metadata=self.metadata)
            done = 0
            for batch in file.iter_batches(self.batch_size, row_groups=[self.group], columns=[self.column]):
                values = pick(batch, self.column)[: self.count - done]
                if len(values):
                    yield to_rows(str(self.path), values, self.row + done, above)
                    done += len(values)
            if done < self.count:
                raise ValueError(f"row group {self.group} has fewer rows than it declares")

    def read_into(self, rows: np.ndarray) -> None:
        """Write its rows to their place."""
        place = self.place
        with closing(self.blocks(rows)) as blocks:
            for block in blocks:
                with np.errstate(over="ignore"):
                    rows[place : place + len(block)] = block
                place += len(block)
        forget_pages(self.memory)


def _parts(
    path: Path, memory: mmap.mmap, file: pq.ParquetFile, *, column: str, batch_size: int, place: int, total: int
) -> list[_RowGroup]:
    """The row groups of a file that reach into the first `total` rows, when its own first row has index `place`."""
    parts, row = [], 0
    for group in range(file.num_row_groups):
        declared = file.metadata.row_group(group).num_rows
        count = min(declared, total - place - row)
        if count > 0:
            part = _RowGroup(
                path=path,
                memory=memory,
                metadata=file.metadata,
                group=group,
                column=column,
                batch_size=batch_size,
                row=row,
                place=place + row,
                count=count,
            )
            parts.append(part)
        row += declared
    return parts


class ParquetTable:
    """A parquet file as a `Table`.

    Args:
        path: of the file.

    Raises:
        InputError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file, self.columns = open_parquet(path)
        self.schema = self.file.schema_arrow
        self.groups = [self.file.metadata.row_group(group).num_rows for group in range(self.file.num_row_groups)]
        self.n_rows = self.file.metadata.num_rows

    def batches(
        self, column: str, columns: list[str] | None, skip: int, size: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """See `Table`."""
        with decoding(self.path, _TROUBLE):
            yield from parquet_batches(self.path, self.file, column, columns, skip, size)

    def values(self, column: str) -> list[pa.Array]:
        """See `Table`."""
        with decoding(self.path, _TROUBLE):
            return pick(self.file.read(columns=[column]), column).chunks


def open_parquet(path: Path) -> tuple[pq.ParquetFile, dict[str, bool]]:
    """The file, and of every column whether it holds lists."""
    with decoding(path, _TROUBLE):
        if regular_file(path).stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
        file = pq.ParquetFile(arrow_file(path), buffer_size=_BUFFER)
        return file, columns_of(file.schema_arrow)


def _batch_size(path: Path, file: pq.ParquetFile, column: str, most: int) -> int:
    """Rows at a time so that a batch has moderate size, going by the first rows; `most` are wanted in all."""
    groups = [0] if file.num_row_groups else []
    first = next(file.iter_batches(SIZED_ROWS, columns=[column], row_groups=groups), None)
    return rows_at_a_time(path, first, column, min(file.metadata.num_rows, most))


def parquet_batches(
    path: Path, file: pq.ParquetFile, column: str, columns: list[str] | None, skip: int, size: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """A file's rows from row `skip` on; whole row groups before it are not read.

    Args:
        path: of the file.
        file: opened.
        column: of the vectors.
        columns: to be read; all if None.
        skip: rows to leave out.
        size: rows at a time, at most.

    Yields:
        The index of a batch's first row, and the batch.
    """
    row, groups = 0, list(range(file.num_row_groups))
    while groups and row + file.metadata.row_group(groups[0]).num_rows <= skip:
        row += file.metadata.row_group(groups.pop(0)).num_rows
    most = min(size, _batch_size(path, file, column, file.metadata.num_rows))
    for batch in file.iter_batches(most, columns=columns, row_groups=groups):
        kept = batch.slice(max(0, skip - row))
        if len(kept):
            yield row + len(batch) - len(kept), kept
        row += len(batch)
