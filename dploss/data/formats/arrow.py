"""A column of lists, or of lists as JSON text, as a matrix: flattened and reshaped by Arrow, never looped over."""

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from dploss.data.bad_rows import marks
from dploss.data.formats.nested import is_list, unwrapped
from dploss.errors import InputError, SettingError

_JSON_BLOCK = 2**24
NOT_JSON = (ValueError, RecursionError)


def arrow_file(path: Path) -> pa.OSFile:
    """A file for pyarrow, which itself opens no names but those in UTF-8."""
    return pa.OSFile(os.fsencode(path))


def parse_json(text: bytes | pa.Buffer, path: Sequence[str], kind: pa.DataType) -> pa.Array:
    """The values of one field, or of a field of an object in it, of newline-delimited JSON objects."""
    first, *inner = path
    for name in reversed(inner):
        kind = pa.struct([(name, kind)])
    table = pyarrow.json.read_json(
        pa.BufferReader(text),
        read_options=pyarrow.json.ReadOptions(block_size=_JSON_BLOCK),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=pa.schema([(first, kind)]), unexpected_field_behavior="ignore"
        ),
    )
    values = table.column(first).combine_chunks()
    return pc.struct_field(values, inner) if inner else values


def first_bad_line(text: bytes, path: Sequence[str], kind: pa.DataType) -> tuple[int, int, str] | None:
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
        value = value_at(fields, path)
        if value is not None and not isinstance(value, expected):
            return row, line_number, f"holds {type(value).__name__} where row 0 holds {expected.__name__}"
        if expected is list and not all(item is None or type(item) in (int, float) for item in value or ()):
            return row, line_number, "holds a value that is not a number"
        row += 1
    return None


def paths_of(fields: Mapping[str, Any]) -> dict[str, list[str]]:
    """The path to every field, of an object to its fields as object.field; a key that has a dot itself comes first."""
    paths = {name: [name] for name, value in fields.items() if not isinstance(value, dict)}
    for name, value in fields.items():
        if isinstance(value, dict):
            for inner, path in paths_of(value).items():
                paths.setdefault(f"{name}.{inner}", [name, *path])
    return paths


def value_at(fields: Any, path: Sequence[str]) -> Any:
    """The value at a path of `paths_of`; None where a part of it is missing."""
    for name in path:
        fields = fields.get(name) if isinstance(fields, dict) else None
    return fields


def to_rows(source: str, values: pa.Array, first_row: int, above: np.ndarray | None) -> np.ndarray:
    """Lists of numbers, or JSON text of such lists, as a matrix.

    Its dtype is theirs; but float32 where rows are null, empty, have a null inside or other dimensions than most, which
    become NaNs that `BadRows` tells apart. Its width is 0 where no row has values.

    Args:
        source: the file, for messages.
        values: one entry a row.
        first_row: the index of the first entry, for messages.
        above: rows read before, whose dimensions these must have.
    """
    values = unwrapped(source, values, first_row)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = _lists_from_text(source, values, first_row)
    if pa.types.is_null(values.type):
        # What pandas writes of a column without a value.
        values = values.cast(pa.list_(pa.float32()))
    if not is_list(values.type) or not _is_number(values.type.value_type):
        template = "{source}: the column holds {kind}, not lists of numbers; choose with {column}"
        raise SettingError(template, source=source, kind=values.type)
    if len(values) == 0:
        return np.empty((0, 0), np.float32)
    # By DLPack: Arrow's own to_numpy imports pandas, which takes a second, where there is one.
    lengths = np.from_dlpack(pc.list_value_length(values).fill_null(0))
    width = above.shape[1] if above is not None else _usual(lengths)
    flat = values.flatten()
    if values.null_count or flat.null_count or (lengths != width).any():
        return _marked(values, flat, lengths, width)
    return np.from_dlpack(flat).reshape(len(values), width)


def _usual(lengths: np.ndarray) -> int:
    """The most frequent length above 0; 0 where there is none."""
    found, times = np.unique(lengths[lengths > 0], return_counts=True)
    return int(found[times.argmax()]) if len(found) else 0


def _marked(values: pa.Array, flat: pa.Array, lengths: np.ndarray, width: int) -> np.ndarray:
    """(n, width) float32, of lists that are not all vectors."""
    is_null, has_null = nulls(values), np.zeros(len(values), bool)
    has_null[np.searchsorted(np.cumsum(lengths), np.flatnonzero(nulls(flat)), side="right")] = True
    usable = (lengths == width) & ~is_null & ~has_null
    rows = np.empty((len(values), width), np.float32)
    rows[~usable] = marks(is_null, has_null, lengths)[~usable]
    with np.errstate(over="ignore"):
        rows[usable] = np.from_dlpack(values.filter(pa.array(usable)).flatten()).reshape(usable.sum(), width)
    return rows


def nulls(values: pa.Array) -> np.ndarray:
    """(n,) bool: which values are null."""
    return np.from_dlpack(values.is_null().cast(pa.uint8())).view(bool)


def _lists_from_text(source: str, texts: pa.Array, first_row: int) -> pa.Array:
    """Parse JSON text such as "[0.1, 0.2]" by joining it to newline-delimited JSON, in one buffer."""
    texts = pc.replace_substring(texts.cast(pa.large_string()).fill_null("null"), "\n", " ")
    texts = pc.if_else(pc.equal(pc.ascii_trim_whitespace(texts), ""), "[]", texts)
    opening, closing, nothing = (pa.scalar(part, pa.large_string()) for part in ('{"v":', "}\n", ""))
    lines = pc.binary_join_element_wise(opening, texts, closing, nothing)
    text = pc.binary_join(pa.LargeListArray.from_arrays([0, len(lines)], lines), nothing)[0].as_buffer()
    kind = pa.list_(pa.float64())
    try:
        values = parse_json(text, ["v"], kind)
    except pa.ArrowInvalid as error:
        bad = first_bad_line(text.to_pybytes(), ["v"], kind)
        raise InputError(f"{source}: row {first_row + bad[0]} {bad[2]}" if bad else f"{source}: {error}") from error
    if len(values) != len(texts):
        raise InputError(f"{source}: the JSON text of some row holds more than one value")
    return values


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)
