"""Rows from .parquet (a file or shards) and .jsonl files, through Arrow: flattened and reshaped, never looped over."""

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from dploss.errors import InputError
from dploss.reading import check_claim, decoding, regular_file
from dploss.vectors.columns import choose_column
from dploss.vectors.mapped import MappedRows, new_matrix

_BATCH_ROWS, _BATCH_BYTES = 8192, 2**26
_BUFFER = 2**20
_JSON_BLOCK = 2**24
_NOT_JSON = (ValueError, RecursionError)


def read_parquet(paths: list[Path], column: str | None, limit: int | None) -> np.ndarray | MappedRows:
    """Read one column of parquet files, row group by row group, into one float32 matrix."""
    files = [(path, *open_parquet(path)) for path in paths]
    for path, _, columns in files:
        column = choose_column(str(path), columns, column)
    total = min(sum(file.metadata.num_rows for _, file, _ in files), limit or 2**63)
    rows = memory = None
    filled = 0
    for path, file, _ in files:
        for block in _blocks(path, file, column, total - filled, rows):
            if rows is None:
                rows, memory = new_matrix((total, block.shape[1]))
            with np.errstate(over="ignore"):
                rows[filled : filled + len(block)] = block
            filled += len(block)
    if rows is None:
        return np.empty((0, 0), np.float32)
    return rows[:filled] if memory is None else MappedRows(rows[:filled], memory)


def _blocks(path: Path, file: pq.ParquetFile, column: str, most: int, above: np.ndarray | None) -> Iterator[np.ndarray]:
    """The first `most` rows of a file, some at a time; each as long as those `above`."""
    first = 0
    with decoding(path, "not a readable parquet file"):
        batches = _batches(path, file, column, most)
        while first < most and (batch := next(batches, None)) is not None:
            block = to_rows(str(path), batch.column(0)[: most - first], first, above)
            if len(block):
                above = block
                first += len(block)
                yield block


def open_parquet(path: Path) -> tuple[pq.ParquetFile, dict[str, bool]]:
    """The file, and of every column whether it holds lists."""
    with decoding(path, "not a readable parquet file"):
        if regular_file(path).stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
        file = pq.ParquetFile(path, buffer_size=_BUFFER)
        return file, {item.name: _is_list(item.type) for item in file.schema_arrow}


def _batches(path: Path, file: pq.ParquetFile, column: str, most: int) -> Iterator[pa.RecordBatch]:
    """One column, so many rows at a time as its first row lets expect to be of moderate size; `most` are wanted."""
    return file.iter_batches(_batch_size(path, file, column, most), columns=[column])


def _batch_size(path: Path, file: pq.ParquetFile, column: str, most: int) -> int:
    groups = [0] if file.num_row_groups else []
    first = next(file.iter_batches(1, columns=[column], row_groups=groups), None)
    size = max(1, first.nbytes) if first else 1
    check_claim(path, size * min(file.metadata.num_rows, most))
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // size))


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
        size: at most so many rows at a time.

    Yields:
        The row number of a batch's first row, and the batch.
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


def read_jsonl(path: Path, column: str | None, limit: int | None) -> np.ndarray:
    """Read one column of a file with a JSON object on every line."""
    with decoding(path, "not a readable .jsonl file"), open(path, "rb") as file:
        first = next((line for line in file if line.strip()), None)
        if first is None:
            raise InputError(f"{path}: the file is empty")
        file.seek(0)
        text = file.read() if limit is None else b"".join(itertools.islice(filter(bytes.strip, file), limit))
    try:
        fields = json.loads(first)
    except _NOT_JSON as error:
        raise InputError(f"{path}: row 0 is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InputError(f'{path}: row 0 is no JSON object; every line must be one, like {{"embedding": [0.1, 0.2]}}')
    column = choose_column(str(path), {name: isinstance(value, list) for name, value in fields.items()}, column)
    kind = pa.string() if isinstance(fields[column], str) else pa.list_(pa.float64())
    with decoding(path, "not a readable .jsonl file"):
        try:
            values = _parse_json(text, column, kind)
        except pa.ArrowInvalid as error:
            bad = _first_bad_line(text, column, kind)
            raise InputError(f"{path}: row {bad[0]} (line {bad[1]}) {bad[2]}" if bad else f"{path}: {error}") from error
        return to_rows(str(path), values, 0, None)


def _parse_json(text: bytes | pa.Buffer, column: str, kind: pa.DataType) -> pa.Array:
    """The values of one field of newline-delimited JSON objects."""
    table = pyarrow.json.read_json(
        pa.BufferReader(text),
        read_options=pyarrow.json.ReadOptions(block_size=_JSON_BLOCK),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=pa.schema([(column, kind)]), unexpected_field_behavior="ignore"
        ),
    )
    return table.column(column).combine_chunks()


def _first_bad_line(text: bytes, column: str, kind: pa.DataType) -> tuple[int, int, str] | None:
    """Row, line and trouble of the first line that Arrow cannot have parsed; Arrow itself counts within blocks."""
    expected = str if kind == pa.string() else list
    row = 0
    for number, line in enumerate(io.BytesIO(text), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except _NOT_JSON as error:
            return row, number, f"is not JSON: {error}"
        if not isinstance(fields, dict):
            return row, number, "is no JSON object"
        value = fields.get(column)
        if value is not None and not isinstance(value, expected):
            return row, number, f"holds {type(value).__name__} where row 0 holds {expected.__name__}"
        if expected is list and not all(type(item) in (int, float) for item in value or ()):
            return row, number, "holds a value that is not a number"
        row += 1
    return None


def to_rows(source: str, values: pa.Array, first_row: int, above: np.ndarray | None) -> np.ndarray:
    """Lists of numbers, or JSON text of such lists, as a matrix in their own dtype.

    Args:
        source: the file, for messages.
        values: one entry a row.
        first_row: the row number of the first entry, for messages.
        above: rows read before, whose length these must have.
    """
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = _lists_from_text(source, values, first_row)
    if not _is_list(values.type) or not _is_number(values.type.value_type):
        raise InputError(f"{source}: the column holds {values.type}, not lists of numbers; choose with --column")
    if len(values) == 0:
        return np.empty((0, 0), np.float32)
    _refuse_null(source, values, first_row)
    lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
    width = above.shape[1] if above is not None else lengths[0]
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        row, length = first_row + wrong[0], lengths[wrong[0]]
        raise InputError(f"{source}: row {row} has {length} numbers where the rows before have {width}")
    flat = values.flatten()
    if flat.null_count:
        row = first_row + _first_null(flat) // width
        raise InputError(f"{source}: row {row} has a null among its numbers")
    return flat.to_numpy(zero_copy_only=False).reshape(len(values), width)


def _lists_from_text(source: str, texts: pa.Array, first_row: int) -> pa.Array:
    """Parse JSON text such as "[0.1, 0.2]" by joining it to newline-delimited JSON, in one buffer."""
    _refuse_null(source, texts, first_row)
    texts = pc.replace_substring(texts.cast(pa.large_string()), "\n", " ")
    opening, closing, nothing = (pa.scalar(part, pa.large_string()) for part in ('{"v":', "}\n", ""))
    lines = pc.binary_join_element_wise(opening, texts, closing, nothing)
    text = pc.binary_join(pa.LargeListArray.from_arrays([0, len(lines)], lines), nothing)[0].as_buffer()
    kind = pa.list_(pa.float64())
    try:
        values = _parse_json(text, "v", kind)
    except pa.ArrowInvalid as error:
        bad = _first_bad_line(text.to_pybytes(), "v", kind)
        raise InputError(f"{source}: row {first_row + bad[0]} {bad[2]}" if bad else f"{source}: {error}") from error
    if len(values) != len(texts):
        raise InputError(f"{source}: the JSON text of some row holds more than one value")
    return values


def _refuse_null(source: str, values: pa.Array, first_row: int) -> None:
    if values.null_count:
        raise InputError(f"{source}: row {first_row + _first_null(values)} is null; every row needs a vector")


def _first_null(values: pa.Array) -> int:
    return np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)
