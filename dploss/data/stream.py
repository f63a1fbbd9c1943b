"""Vectors from one end of a file to the other, some rows at a time, with the columns beside them."""

import os
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from dploss.data.formats.arrow import to_rows
from dploss.data.formats.columns import choose_column
from dploss.data.formats.nested import pick, without
from dploss.data.formats.tables import open_table
from dploss.data.split import evenly_spaced
from dploss.data.vectors import local_name, read_matrix, table_files
from dploss.errors import InputError
from dploss.files.untrusted import decoding

_SAMPLED_GROUPS, _BLOCK_ROWS = 16, 8192


class VectorStream:
    """The rows of a source, read once, in order; what cannot be used is for `BadRows` to find.

    Args:
        source: as `open_vectors` takes it. Parquet and Arrow IPC files are decoded as they are read; of other formats
            those that can stay on the disk do.
        column: of the vectors.

    Attributes:
        name: the source, for messages.
        rows, dim: N and D.
        column: the column of the vectors in parquet and Arrow IPC files; None for other formats.
        files: what is read.

    Raises:
        InputError: nothing there that can be read.
    """

    def __init__(self, source: str, column: str | None = None) -> None:
        self.name = source = local_name(source)
        self.column: str | None = None
        self.dim = 0
        tables = table_files(source)
        self.files = tables or [Path(source)]
        if tables:
            self._open_shards(column)
        else:
            self._matrix = read_matrix(source, column)
            self.rows, self.dim = self._matrix.shape

    def _open_shards(self, column: str | None) -> None:
        self._shards = [open_table(path) for path in self.files]
        for shard in self._shards:
            self.column = choose_column(str(shard.path), shard.columns, column or self.column)
        self._starts = [0, *accumulate(shard.n_rows for shard in self._shards)]
        self.rows = self._starts[-1]
        if not self.rows:
            raise InputError(f"{self.name}: there are no rows in it")
        # The first rows may all be null.
        self.dim = next((rows.shape[1] for rows, _ in self._table_rows(0, _BLOCK_ROWS) if rows.shape[1]), 0)
        if not self.dim:
            raise InputError(f"{self.name}: all of its {self.rows:,} rows are null or empty")

    def state(self) -> list[list[str | int]]:
        """What changes when the source does: each file's path, size and time of change in ns."""
        return [[os.path.abspath(path), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in self.files]

    def parts(self, least: int) -> list[tuple[int, int]]:
        """The rows cut between row groups or record batches: the first row of each part, and the one after its last.

        Args:
            least: rows that a part has at least, but for the last.
        """
        cuts = [0]
        for shard, first in zip(self._shards, self._starts, strict=False):
            for group in shard.groups:
                if first - cuts[-1] >= least:
                    cuts.append(first)
                first += group
        return list(pairwise([*cuts, self.rows]))

    def batches(
        self, start: int, size: int, beside: bool = False, stop: int | None = None
    ) -> Iterator[tuple[np.ndarray, pa.Table | None]]:
        """From row `start` to row `stop`, at most about `size` rows at a time.

        Args:
            start: the first row, 0..N.
            size: rows at a time.
            beside: whether to give the other columns as well; only parquet and Arrow IPC files have any.
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
            pieces = self._table_rows(start, size, beside)
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
        return np.concatenate([next(self._table_rows(int(start), each))[0] for start in starts])

    def _table_rows(
        self, start: int, size: int = 1, beside: bool = False
    ) -> Iterator[tuple[np.ndarray, pa.Table | None]]:
        assert self.column is not None, "tables have columns"
        columns = None if beside else [self.column]
        above = np.empty((0, self.dim)) if self.dim else None
        for shard, first in zip(self._shards, self._starts, strict=False):
            if first + shard.n_rows <= start:
                continue
            for place, batch in shard.batches(self.column, columns, max(0, start - first), size):
                with decoding(shard.path, "not a readable column of vectors"):
                    rows = to_rows(str(shard.path), pick(batch, self.column), place, above).astype(np.float32)
                    others = without(batch, self.column) if beside else None
                if len(rows):
                    yield rows, others
