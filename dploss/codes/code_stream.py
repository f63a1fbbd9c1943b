"""Codes of a Code from one end of a file to the other, some rows at a time, with the columns beside them."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dploss.data.formats.arrow import nulls
from dploss.data.formats.npy import read_npy
from dploss.data.formats.parquet import open_parquet, parquet_batches
from dploss.data.memmap import MappedRows
from dploss.data.vectors import parquet_files
from dploss.errors import InputError
from dploss.files.untrusted import decoding
from dploss.text import counted

_ROWS = 2**16


class CodeStream:
    """The rows of a .npy or .parquet file of codes, or of a folder of parquet, in order.

    Args:
        path: of the file or the folder.
        width: bytes of a row.
        column: of the codes in parquet; the last if None, where encode.py puts it.

    Attributes:
        files: what is read.
        rows: N.
        column: the parquet column of the codes; None for .npy.

    Raises:
        InputError: nothing there that can be read, or codes of another width.
    """

    def __init__(self, path: Path, width: int, column: str | None = None) -> None:
        self.path, self.width, self.column = path, width, column
        shards = parquet_files(str(path))
        self.files = shards or [path]
        if shards:
            self._shards = [(shard, open_parquet(shard)[0]) for shard in shards]
            for shard, file in self._shards:
                self._check_shard(shard, file)
            self.rows = sum(file.metadata.num_rows for _, file in self._shards)
        elif path.suffix.lower() == ".npy":
            matrix = read_npy(path, column, None)
            self._matrix = matrix.stored if isinstance(matrix, MappedRows) else matrix
            self._check(path, self._matrix.dtype, self._matrix.shape[1:])
            self.rows = len(self._matrix)
        else:
            raise InputError(f"{path}: a file of codes is .npy or .parquet")
        if not self.rows:
            raise InputError(f"{path}: there are no rows in it")

    def _check_shard(self, path: Path, file: pq.ParquetFile) -> None:
        with decoding(path, "not a readable parquet file"):
            schema = file.schema_arrow
            if not schema.names or (self.column or schema.names[-1]) not in schema.names:
                raise InputError(f"{path}: no column {self.column!r}")
            self.column = self.column or schema.names[-1]
            kind = schema.field(self.column).type
        is_binary = pa.types.is_fixed_size_binary(kind)
        self._check(path, np.uint8 if is_binary else kind, (kind.byte_width,) if is_binary else ())

    def _check(self, path: Path, dtype: np.dtype | pa.DataType | type, shape: tuple[int, ...]) -> None:
        if dtype != np.uint8 or shape != (self.width,):
            held = f"{counted(shape[0], 'byte')} a row" if dtype == np.uint8 and shape else f"{dtype} of another shape"
            raise InputError(f"{path}: it holds {held}, not codes of {counted(self.width, 'byte')}")

    def state(self) -> list[list[str | int]]:
        """What changes when the file does: each file's path, size and time of change in ns."""
        return [[os.path.abspath(path), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in self.files]

    def batches(
        self, start: int = 0, size: int = _ROWS, beside: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray, pa.Table | None]]:
        """From row `start` to the last, at most `size` rows at a time.

        Args:
            start: the first row, 0..N.
            size: rows at a time.
            beside: whether to give the other columns as well; only parquet has any.

        Yields:
            (n, width) uint8 codes; (n,) bool, which of them are codes and not null; the other columns of these rows.

        Raises:
            InputError: a file that cannot be read to its end.
        """
        if self.column is None:
            for first in range(start, self.rows, size):
                codes = np.ascontiguousarray(self._matrix[first : first + size])
                yield codes, np.ones(len(codes), bool), None
            return
        done = 0
        for path, file in self._shards:
            skip, done = max(0, start - done), done + file.metadata.num_rows
            if skip >= file.metadata.num_rows:
                continue
            with decoding(path, "not a readable parquet file"):
                columns = None if beside else [self.column]
                for row, batch in parquet_batches(path, file, self.column, columns, skip, size):
                    values = batch.column(self.column)
                    skip = row + len(values)
                    others = pa.table(batch).drop_columns(self.column) if beside else None
                    yield self._to_codes(values), ~nulls(values), others
                if skip != file.metadata.num_rows:
                    raise ValueError("it has fewer rows than it declares")

    def pick(self, indices: np.ndarray) -> np.ndarray:
        """The codes of some rows.

        Args:
            indices: (n,) of the rows, 0..N - 1.

        Returns:
            (n, width) uint8.

        Raises:
            InputError: a file that cannot be read to its end, or a row that is null.
        """
        picked, start = np.empty((len(indices), self.width), np.uint8), 0
        for codes, present, _ in self.batches():
            here = (indices >= start) & (indices < start + len(codes))
            missing = indices[here][~present[indices[here] - start]]
            if len(missing):
                raise InputError(f"{self.path}: row {missing[0]} has no code")
            picked[here] = codes[indices[here] - start]
            start += len(codes)
        return picked

    def _to_codes(self, values: pa.Array) -> np.ndarray:
        data = np.frombuffer(values.buffers()[1], np.uint8)
        return data[values.offset * self.width :][: len(values) * self.width].reshape(len(values), self.width)
