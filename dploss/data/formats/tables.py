"""Files of rows with columns beside the vectors: parquet, and Arrow IPC."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from dploss.data.formats.ipc import IPC_SUFFIXES, IpcTable
from dploss.data.formats.parquet import ParquetTable


class Table(Protocol):
    """A file that is read from one end to the other, some rows at a time.

    Attributes:
        path: of the file.
        schema: its columns.
        columns: the columns and the fields of structs, and whether they hold lists.
        groups: numbers of rows that are stored together, which sum up to all.
        n_rows: how many there are.
    """

    path: Path
    schema: pa.Schema
    columns: dict[str, bool]
    groups: list[int]
    n_rows: int

    def batches(
        self, column: str, columns: list[str] | None, skip: int, size: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The rows from row `skip` on.

        Args:
            column: whose size decides how many rows come at a time.
            columns: to be read; all if None.
            skip: rows to leave out.
            size: rows at a time, at most.

        Yields:
            The index of a batch's first row, and the batch.

        Raises:
            InputError: it is damaged.
        """

    def values(self, column: str) -> list[pa.Array]:
        """A whole column, in parts.

        Raises:
            InputError: it is damaged.
        """


def open_table(path: Path) -> Table:
    """Open a .parquet file or an Arrow IPC file.

    Raises:
        InputError: it cannot be read.
    """
    return IpcTable(path) if path.suffix.lower() in IPC_SUFFIXES else ParquetTable(path)
