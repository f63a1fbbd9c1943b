"""Rows of Arrow IPC files (.arrow, .feather, .ipc), in the file or the stream format, a file or shards."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dploss.data.formats.arrow import to_rows
from dploss.data.formats.columns import choose_column
from dploss.data.formats.ipc_messages import Declared, is_file
from dploss.data.formats.nested import SIZED_ROWS, columns_of, pick, rows_at_a_time, top_level
from dploss.data.memmap import MappedRows, forget_pages, map_file, new_matrix
from dploss.errors import InputError
from dploss.files.untrusted import check_claim, decoding, regular_file

IPC_SUFFIXES = (".arrow", ".feather", ".ipc")
_FEATHER_V1 = b"FEA1"
_TROUBLE = "not a readable Arrow IPC file"
_FLOAT_BYTES = 4


def read_ipc(paths: list[Path], column: str | None, limit: int | None) -> np.ndarray | MappedRows:
    """Read one column of IPC files into one float32 matrix."""
    tables = [IpcTable(path) for path in paths]
    column = choose_column(str(tables[0].path), tables[0].columns, column)
    for table in tables[1:]:
        choose_column(str(table.path), table.columns, column)
    total = min(sum(table.n_rows for table in tables), limit or 2**63)
    if not total:
        return np.empty((0, 0), np.float32)
    # The first rows may all be null.
    width = next((block.shape[1] for block in _blocks(tables, column, None) if block.shape[1]), 0)
    rows, backing = new_matrix((total, width))
    place = 0
    for block in _blocks(tables, column, rows):
        wanted = block[: total - place]
        with np.errstate(over="ignore"):
            rows[place : place + len(wanted)] = wanted
        place += len(wanted)
        if place == total:
            break
    return rows if backing is None else MappedRows(rows, backing)


def _blocks(tables: Sequence["IpcTable"], column: str, above: np.ndarray | None) -> Iterator[np.ndarray]:
    """The rows of all tables, some at a time, each of as many dimensions as those above."""
    for table in tables:
        for row, batch in table.batches(column, [column], 0, table.n_rows):
            with decoding(table.path, _TROUBLE):
                block = to_rows(str(table.path), pick(batch, column), row, above)
            yield block


class IpcTable:
    """An IPC file as a `Table`, mapped.

    Args:
        path: of the file.

    Raises:
        InputError: it cannot be read, or declares more than it can hold.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if regular_file(path).stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
        with decoding(path, _TROUBLE):
            self._memory = map_file(path)
            if self._memory[: len(_FEATHER_V1)] == _FEATHER_V1:
                raise InputError(f"{path}: version 1 of Feather is not read; write it with pyarrow.feather anew")
            self._data = pa.py_buffer(self._memory)
            self.schema = self._open(None).schema
            self.columns = columns_of(self.schema)
            declared = Declared(self._data)
        self._compressed = declared.compressed
        self.groups = declared.rows
        self.n_rows = sum(self.groups)
        check_claim(path, max(declared.unpacked, _FLOAT_BYTES * self.n_rows))

    def batches(
        self, column: str, columns: list[str] | None, skip: int, size: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """See `Table`."""
        with decoding(self.path, _TROUBLE):
            row = 0
            for batch in self._record_batches(columns):
                if len(batch) and row + len(batch) > skip:
                    step = min(size, rows_at_a_time(self.path, batch[:SIZED_ROWS], column, self.n_rows))
                    for start in range(max(0, skip - row), len(batch), step):
                        yield row + start, batch[start : start + step]
                        forget_pages(self._memory)
                row += len(batch)
            if row != self.n_rows:
                raise ValueError("it has fewer rows than it declares")

    def values(self, column: str) -> list[pa.Array]:
        """See `Table`."""
        with decoding(self.path, _TROUBLE):
            return [pick(batch, column) for batch in self._record_batches([column])]

    def _record_batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        fields = None
        if columns is not None:
            fields = sorted({self.schema.names.index(top_level(self.schema, name)) for name in columns})
        # Where nothing is to be decompressed, Arrow would copy the fields that it is to include.
        reader = self._open(fields if self._compressed else None)
        is_stream = isinstance(reader, pa.RecordBatchStreamReader)
        for batch in reader if is_stream else map(reader.get_batch, range(reader.num_record_batches)):
            if fields is not None and not self._compressed:
                batch = batch.select(fields)
            # Offsets that lead out of the file would end the process.
            batch.validate(full=True)
            yield batch

    def _open(self, fields: list[int] | None) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
        """A reader of some of the columns; of all if None."""
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        opened = pa.ipc.open_file if is_file(self._data) else pa.ipc.open_stream
        return opened(pa.BufferReader(self._data), options=options)
