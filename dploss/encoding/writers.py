"""Writers of files of codes: they append to a partial file, which is renamed when it is complete."""

import io
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dploss.codes.encoded_file import Form
from dploss.codes.stored_code import StoredCode
from dploss.data.formats.arrow import arrow_file
from dploss.files.atomic import atomic_write, move

SUFFIXES = (".npy", ".parquet", ".fvecs", ".fbin")
_COLUMN = "embedding"


class MatrixWriter:
    """A .npy, .fbin or .fvecs file: a header, then row after row.

    Args:
        partial: the file until it is complete.
        form: how latents are stored.
        rows: N, of the complete file.
        suffix: of the complete file.
        done: number of rows written by an earlier run; anything after them is truncated.
    """

    def __init__(self, partial: Path, form: Form, rows: int, suffix: str, done: int) -> None:
        self.partial = partial
        dtype, self.width = form.stored
        self.dtype = dtype.newbyteorder("<")
        self.prefix = np.array([[self.width]], "<i4").view(np.uint8) if suffix == ".fvecs" else None
        header = self._header(suffix, rows)
        row_bytes = self.width * self.dtype.itemsize + (4 if suffix == ".fvecs" else 0)
        self.file = open(partial, "r+b" if done else "wb")  # noqa: SIM115
        if not done:
            self.file.write(header)
        self.file.truncate(len(header) + done * row_bytes)
        self.file.seek(0, os.SEEK_END)

    def _header(self, suffix: str, rows: int) -> bytes:
        if suffix == ".fbin":
            return np.array([rows, self.width], "<u4").tobytes()
        if suffix == ".fvecs":
            return b""
        header = io.BytesIO()
        fields = {"descr": self.dtype.str, "fortran_order": False, "shape": (rows, self.width)}
        np.lib.format.write_array_header_1_0(header, fields)
        return header.getvalue()

    def append(self, codes: np.ndarray, usable: np.ndarray, others: pa.Table | None) -> None:
        """Write rows, those that are not `usable` as NaN; other columns are ignored."""
        rows = np.ascontiguousarray(codes, self.dtype)
        if not usable.all():
            rows[~usable] = np.nan
        if self.prefix is not None:
            prefix = np.broadcast_to(self.prefix, (len(rows), 4))
            rows = np.concatenate([prefix, rows.view(np.uint8).reshape(len(rows), -1)], axis=1)
        self.file.write(rows.data)

    def flush(self) -> None:
        """Write everything through to the disk (fsync)."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def finish(self, path: Path) -> None:
        """Close the file and rename it to `path`."""
        self.flush()
        self.file.close()
        move(self.partial, path)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def as_column(codes: np.ndarray, usable: np.ndarray, form: Form) -> pa.Array:
    """(n, width) codes as an Arrow column: of binary values for those of a code, else of fixed-size lists.

    Those that are not `usable`, (n,) bool, are null.
    """
    some_null = not usable.all()
    if isinstance(form, StoredCode):
        buffer = pa.py_buffer(np.ascontiguousarray(codes))
        valid = pa.py_buffer(np.packbits(usable, bitorder="little")) if some_null else None
        return pa.Array.from_buffers(pa.binary(form.n_bytes), len(codes), [valid, buffer])
    values = pa.array(np.ascontiguousarray(codes).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(values, codes.shape[1], mask=pa.array(~usable) if some_null else None)


class ParquetWriter:
    """A parquet file, written as a folder of parts, one per flush, that are joined at the end.

    Args:
        partial: the folder of the parts.
        form: how latents are stored.
        column: name of the codes' column; "embedding" if None.
        done: number of parts written by an earlier run.
    """

    def __init__(self, partial: Path, form: Form, column: str | None, done: int) -> None:
        self.partial, self.form, self.column, self.parts = partial, form, column or _COLUMN, done
        self.tables: list[pa.Table] = []
        partial.mkdir(exist_ok=True)

    def append(self, codes: np.ndarray, usable: np.ndarray, others: pa.Table | None) -> None:
        """Buffer rows, with their other columns, for the next part; those that are not `usable` are null."""
        column = as_column(codes, usable, self.form)
        self.tables.append(
            pa.table({self.column: column}) if others is None else others.append_column(self.column, column)
        )

    def flush(self) -> None:
        """Write the buffered rows as one part."""
        if self.tables:
            with atomic_write(self._part(self.parts)) as file:
                pq.write_table(pa.concat_tables(self.tables), file)
            self.parts += 1
            self.tables = []

    def _part(self, index: int) -> Path:
        return self.partial / f"{index:06d}.parquet"

    def finish(self, path: Path, metadata: Mapping[bytes, bytes] = MappingProxyType({})) -> None:
        """Join the parts into the file `path`, with further metadata in its schema."""
        self.flush()
        parts = [self._part(index) for index in range(self.parts)]
        schema = pq.read_schema(arrow_file(parts[0]))
        if metadata:
            schema = schema.with_metadata({**(schema.metadata or {}), **metadata})
        with atomic_write(path) as file, pq.ParquetWriter(file, schema) as writer:
            for part in parts:
                writer.write_table(pq.read_table(arrow_file(part)))
        shutil.rmtree(self.partial)

    def close(self) -> None:
        """Do nothing: no file is kept open."""
