"""A column of lists, or of lists as JSON text, as a matrix: flattened and reshaped by Arrow, never looped over."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from dploss.errors import InputError, SettingError
from dploss.text import counted

_JSON_BLOCK = 2**24
NOT_JSON = (ValueError, RecursionError)


def parse_json(text: bytes | pa.Buffer, column: str, kind: pa.DataType) -> pa.Array:
    """The values of one field of newline-delimited JSON objects."""
    table = pyarrow.json.read_json(
        pa.BufferReader(text),
        read_options=pyarrow.json.ReadOptions(block_size=_JSON_BLOCK),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=pa.schema([(column, kind)]), unexpected_field_behavior="ignore"
        ),
    )
    return table.column(column).combine_chunks()


def first_bad_line(text: bytes, column: str, kind: pa.DataType) -> tuple[int, int, str] | None:
    """Row, line and fault of the first line that Arrow cannot have parsed; Arrow itself counts within blocks."""
    expected = str if kind == pa.string() else list
    row = 0
    for line_number, line in enumerate(io.BytesIO(text), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except NOT_JSON as error:
            return row, line_number, f"is not JSON: {error}"
        if not isinstance(fields, dict):
            return row, line_number, "is no JSON object"
        value = fields.get(column)
        if value is not None and not isinstance(value, expected):
            return row, line_number, f"holds {type(value).__name__} where row 0 holds {expected.__name__}"
        if expected is list and not all(type(item) in (int, float) for item in value or ()):
            return row, line_number, "holds a value that is not a number"
        row += 1
    return None


def to_rows(source: str, values: pa.Array, first_row: int, above: np.ndarray | None) -> np.ndarray:
    """Lists of numbers, or JSON text of such lists, as a matrix in their own dtype.

    Args:
        source: the file, for messages.
        values: one entry a row.
        first_row: the index of the first entry, for messages.
        above: rows read before, whose dimensions these must have.
    """
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = _lists_from_text(source, values, first_row)
    if not is_list(values.type) or not _is_number(values.type.value_type):
        template = "{source}: the column holds {kind}, not lists of numbers; choose with {column}"
        raise SettingError(template, source=source, kind=values.type)
    if len(values) == 0:
        return np.empty((0, 0), np.float32)
    _refuse_null(source, values, first_row)
    # By DLPack: Arrow's own to_numpy imports pandas, which takes a second, where there is one.
    lengths = np.from_dlpack(pc.list_value_length(values))
    width = above.shape[1] if above is not None else lengths[0]
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        row, length = first_row + wrong[0], lengths[wrong[0]]
        raise InputError(f"{source}: row {row} has {counted(length, 'dimension')}, the rows before it have {width}")
    flat = values.flatten()
    if flat.null_count:
        row = first_row + _first_null(flat) // width
        raise InputError(f"{source}: row {row} has a null among its values")
    return np.from_dlpack(flat).reshape(len(values), width)


def _lists_from_text(source: str, texts: pa.Array, first_row: int) -> pa.Array:
    """Parse JSON text such as "[0.1, 0.2]" by joining it to newline-delimited JSON, in one buffer."""
    _refuse_null(source, texts, first_row)
    texts = pc.replace_substring(texts.cast(pa.large_string()), "\n", " ")
    opening, closing, nothing = (pa.scalar(part, pa.large_string()) for part in ('{"v":', "}\n", ""))
    lines = pc.binary_join_element_wise(opening, texts, closing, nothing)
    text = pc.binary_join(pa.LargeListArray.from_arrays([0, len(lines)], lines), nothing)[0].as_buffer()
    kind = pa.list_(pa.float64())
    try:
        values = parse_json(text, "v", kind)
    except pa.ArrowInvalid as error:
        bad = first_bad_line(text.to_pybytes(), "v", kind)
        raise InputError(f"{source}: row {first_row + bad[0]} {bad[2]}" if bad else f"{source}: {error}") from error
    if len(values) != len(texts):
        raise InputError(f"{source}: the JSON text of some row holds more than one value")
    return values


def _refuse_null(source: str, values: pa.Array, first_row: int) -> None:
    if values.null_count:
        raise InputError(f"{source}: row {first_row + _first_null(values)} is null; every row needs a vector")


def _first_null(values: pa.Array) -> int:
    return np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)
