"""Rows of .jsonl files: a JSON object on every line."""

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dploss.data.formats.arrow import NOT_JSON, first_bad_line, parse_json, paths_of, to_rows, value_at
from dploss.data.formats.columns import CONVENTIONAL, choose_column
from dploss.errors import InputError
from dploss.files.compressed import open_bytes
from dploss.files.untrusted import decoding

# Lines among which one with a vector is looked for.
_LOOKED_AT = 1000


def read_jsonl(path: Path, column: str | None, limit: int | None) -> np.ndarray:
    """Read one column of a file with a JSON object on every line."""
    with decoding(path, "not a readable .jsonl file"), open_bytes(path) as file:
        text = (
            file.read() if limit is None else b"".join(itertools.islice((line for line in file if line.strip()), limit))
        )
    with decoding(path, "not a readable .jsonl file"):
        fields = _typical_fields(path, filter(bytes.strip, io.BytesIO(text)), column)
        values = _values_of(fields)
    column = choose_column(str(path), {name: isinstance(value, list) for name, value in values.items()}, column)
    keys = paths_of(fields)[column]
    kind = pa.string() if isinstance(values[column], str) else pa.list_(pa.float64())
    with decoding(path, "not a readable .jsonl file"):
        try:
            values = parse_json(text, keys, kind)
        except pa.ArrowInvalid as error:
            bad = first_bad_line(text, keys, kind)
            raise InputError(f"{path}: row {bad[0]} (line {bad[1]}) {bad[2]}" if bad else f"{path}: {error}") from error
        return to_rows(str(path), values, 0, None)


def _typical_fields(path: Path, lines: Iterator[bytes], column: str | None) -> dict[str, Any]:
    """The object of the first line that has a vector, which the first rows may lack; else of the first line."""
    first: dict[str, Any] | None = None
    for line in itertools.islice(lines, _LOOKED_AT):
        try:
            fields = json.loads(line)
        except NOT_JSON as error:
            if first is None:
                raise InputError(f"{path}: row 0 is not JSON: {error}") from error
            break
        if not isinstance(fields, dict):
            if first is None:
                example = '{"embedding": [0.1, 0.2]}'
                raise InputError(f"{path}: row 0 is no JSON object; every line must be one, like {example}")
            break
        if _has_vector(fields, column):
            return fields
        first = fields if first is None else first
    if first is None:
        raise InputError(f"{path}: the file is empty")
    return first


def _has_vector(fields: dict[str, Any], column: str | None) -> bool:
    values = _values_of(fields)
    if column is not None:
        return values.get(column) is not None
    return any(values.get(name) for name in CONVENTIONAL) or any(isinstance(value, list) for value in values.values())


def _values_of(fields: dict[str, Any]) -> dict[str, Any]:
    """The values of an object's fields and of those of the objects in it, by name."""
    return {name: value_at(fields, keys) for name, keys in paths_of(fields).items()}
