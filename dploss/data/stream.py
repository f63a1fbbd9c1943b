"""Vectors from one end of a file to the other, some rows at a time, with the columns beside them."""

import os
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from dploss.data.formats.arrow import to_rows
from dploss.data.formats.columns import choose_column
from dploss.data.formats.parquet import open_parquet, parquet_batches
from dploss.data.split import evenly_spaced
from dploss.data.vectors import parquet_files, read_matrix
from dploss.errors import InputError
from dploss.files.untrusted import decoding

_SAMPLED_GROUPS, _BLOCK_ROWS = 16, 8192


class VectorStream:
    """The rows of a source, read once, in order; what cannot be used is for `BadRows` to find.

    Args:
        source: as `open_vectors` takes it. Parquet is decoded as it is read; of other formats those that can stay on
            the disk do.
        column: of the vectors.

    Attributes:
        name: the source, for messages.
        rows, dim: N and D.
        column: the parquet column of the vectors; None for other formats.
        files: what is read.

    Raises:
        InputError: nothing there that can be read.
    """

    def __init__(self, source: str, column: str | None = None) -> None:
        self.name = source
        self.files = parquet_files(source) or [Path(source)]
        self.column: str | None = None
        self.dim = 0
        if parquet_files(source):
            self._open_shards(column)
        else:
            self._matrix = read_matrix(source, column)
            self.rows, self.dim = self._matrix.shape

    def _open_shards(self, column: str | None) -> None:
        self._shards = [(path, *open_parquet(path)) for path in self.files]
        for path, _, columns in self._shards:
            self.column = choose_column(str(path), columns, column or self.column)
        sizes = [file.metadata.num_rows for _, file, _ in self._shards]
        self._starts = [0, *accumulate(sizes)]
        self.rows = self._starts[-1]
        if not self.rows:
            raise InputError(f"{self.name}: there are no rows in it")
        # The first rows may all be null.
        self.dim = next((rows.shape[1] for rows, _ in self._parquet(0, _BLOCK_ROWS) if rows.shape[1]), 0)
        if not self.dim:
            raise InputError(f"{self.name}: all of its {self.rows:,} rows are null or empty")

    def state(self) -> list[list[str | int]]:
        """What changes when the source does: each file's path, size and time of change in ns."""
        return [[os.path.abspath(path), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in self.files]

    def parts(self, least: int) -> list[tuple[int, int]]:
        """The rows of parquet cut between row groups: the first row of each part, and the one after its last.

        Args:
            least: rows that a part has at least, but for the last.
        """
        cuts = [0]
        for (_, file, _), first in zip(self._shards, self._starts, strict=False):
            for group in range(file.num_row_groups):
                if first - cuts[-1] >= least:
                    cuts.append(first)
                first += file.metadata.row_group(group).num_rows
        return list(pairwise([*cuts, self.rows]))

    def batches(
        self, start: int, size: int, beside: bool = False, stop: int | None = None
    ) -> Iterator[tuple[np.ndarray, pa.Table | None]]:
        """From row `start` to row `stop`, at most about `size` rows at a time.

        Args:
            start: the first row, 0..N.
            size: rows at a time.
            beside: whether to give the other columns as well; only parquet has any.
            stop: the row after the last; N if None.

        Yields:
            (n, D) float32 rows, and the other columns of these rows.

        Raises:
            InputError: a file that cannot be read.
        """
        if self.column is None:
            pieces: Iterator[tuple[np.ndarray, pa.Table | None]] = (
                (self._matrix[first : first + size], None) for first in range(start, self.rows, size)
            )
        else:
            pieces = self._parquet(start, size, beside)
        left = (self.rows if stop is None else stop) - start
        for rows, others in pieces:
            if left <= 0:
                return
            rows, others = rows[:left], None if others is None else others[:left]
            left -= len(rows)
            yield rows, others

    def sample(self, most: int) -> np.ndarray:
        """Up to about `most` rows from all over the source, (n, D) float32."""
        if self.column is None:
            return self._matrix[evenly_spaced(self.rows, most)]
        count = min(_SAMPLED_GROUPS, max(1, self.rows // max(1, most // _SAMPLED_GROUPS)))
        each = -(-most // count)
        starts = np.linspace(0, max(0, self.rows - each), count).astype(int)
        return np.concatenate([next(self._parquet(int(start), each))[0] for start in starts])

    def _parquet(self, start: int, size: int = 1, beside: bool = False) -> Iterator[tuple[np.ndarray, pa.Table | None]]:
        assert self.column is not None, "parquet has columns"
        columns = None if beside else [self.column]
        above = np.empty((0, self.dim)) if self.dim else None
        for (path, file, _), first in zip(self._shards, self._starts, strict=False):
            if first + file.metadata.num_rows <= start:
                continue
            skip = max(0, start - first)
            with decoding(path, "not a readable parquet file"):
                for place, batch in parquet_batches(path, file, self.column, columns, skip, size):
                    rows = to_rows(str(path), batch.column(self.column), place, above).astype(np.float32)
                    if len(rows):
                        others = pa.table(batch).drop_columns(self.column) if beside else None
                        yield rows, others
