"""Rows of .csv and .tsv files: a column of lists, or columns of a number each."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from dploss.data.bad_rows import marks
from dploss.data.formats.arrow import nulls, to_rows
from dploss.data.formats.csv_layout import TROUBLE, Layout, is_number, read_cells, read_layout
from dploss.data.memmap import MappedRows, gathered
from dploss.errors import InputError
from dploss.files.compressed import open_bytes
from dploss.files.untrusted import decoding

_BLOCK_BYTES = 2**22
_BRACKETS = "[](){} \t\r\n"
_BETWEEN = r"[\s,]+"


def read_csv(path: Path, column: str | None, limit: int | None) -> np.ndarray | MappedRows:
    """Read the vectors of a file of cells between commas, semicolons or tabs, with a header or without."""
    layout = read_layout(path)
    chosen = layout.vectors(str(path), column)
    # The first rows may all be empty.
    width = next((block.shape[1] for block in _blocks(path, layout, chosen, None) if block.shape[1]), 0)
    return gathered(_blocks(path, layout, chosen, np.empty((0, width))), limit)


def _blocks(path: Path, layout: Layout, chosen: list[int], above: np.ndarray | None) -> Iterator[np.ndarray]:
    """The rows, some at a time, each of as many dimensions as those above."""
    row = 0
    try:
        with decoding(path, TROUBLE), open_bytes(path) as file:
            for batch in _batches(file, layout, chosen):
                block = _block(path, layout, chosen, batch, row, above)
                row += len(block)
                if len(block):
                    yield block
    except InputError as error:
        # Arrow counts rows within blocks, or not at all.
        bad = _first_bad_row(path, layout, chosen, row)
        if bad is None:
            raise
        raise InputError(f"{path}: {bad}") from error


def _batches(file: object, layout: Layout, chosen: list[int]) -> Iterator[pa.RecordBatch]:
    lists = layout.lists[chosen[0]]
    columns = [f"f{index}" for index in chosen]
    yield from pyarrow.csv.open_csv(
        file,
        pyarrow.csv.ReadOptions(
            use_threads=False, block_size=_BLOCK_BYTES, skip_rows=layout.head, autogenerate_column_names=True
        ),
        pyarrow.csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
        pyarrow.csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.large_string() if lists else pa.float64()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def _block(
    path: Path, layout: Layout, chosen: list[int], batch: pa.RecordBatch, row: int, above: np.ndarray | None
) -> np.ndarray:
    if layout.lists[chosen[0]]:
        return to_rows(str(path), _lists(batch.column(0)), row, above).astype(np.float32)
    rows = np.empty((len(batch), len(chosen)), np.float32)
    with np.errstate(over="ignore"):
        for index, values in enumerate(batch.columns):
            rows[:, index] = np.from_dlpack(values.fill_null(0))
    if any(values.null_count for values in batch.columns):
        missing = np.column_stack([nulls(values) for values in batch.columns])
        whole, incomplete = np.asarray(missing.all(axis=1)), np.asarray(missing.any(axis=1))
        rows[incomplete] = marks(whole, incomplete, np.zeros(len(rows), int))[incomplete]
    return rows


def _lists(texts: pa.Array) -> pa.Array:
    """Lists from text: numbers between commas, as JSON has them, or blanks, as NumPy prints them, in any brackets."""
    inner = pc.utf8_trim(texts, _BRACKETS)
    inner = pc.if_else(pc.equal(inner, ""), pa.scalar(None, inner.type), inner)
    return pc.split_pattern_regex(inner, _BETWEEN).cast(pa.large_list(pa.float64()))


def _first_bad_row(path: Path, layout: Layout, chosen: list[int], first: int) -> str | None:
    """Where and what the first fault of the rows from `first` on is."""
    row = -1
    for line, cells in read_cells(path, layout.delimiter):
        if line <= layout.head:
            continue
        row += 1
        if row < first:
            continue
        place = f"row {row} (line {line})"
        if len(cells) != len(layout.names):
            return f"{place} has {len(cells)} cells, not {len(layout.names)} as the first line"
        for index in chosen:
            name, cell = layout.names[index], cells[index]
            if not cell.strip(_BRACKETS):
                continue
            parts = re.split(_BETWEEN, cell.strip(_BRACKETS)) if layout.lists[index] else [cell]
            wrong = next((part for part in parts if not is_number(part)), None)
            if wrong is not None:
                return f"{place} has {wrong[:40]!r} in column {name}, not a number"
    return None
