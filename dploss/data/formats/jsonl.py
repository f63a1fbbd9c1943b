"""Rows of .jsonl files: a JSON object on every line."""

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from dploss.data.formats.arrow import NOT_JSON, first_bad_line, parse_json, paths_of, to_rows, value_at
from dploss.data.formats.columns import choose_column
from dploss.errors import InputError
from dploss.files.compressed import open_bytes
from dploss.files.untrusted import decoding


def read_jsonl(path: Path, column: str | None, limit: int | None) -> np.ndarray:
    """Read one column of a file with a JSON object on every line."""
    with decoding(path, "not a readable .jsonl file"), open_bytes(path) as file:
        text = (
            file.read() if limit is None else b"".join(itertools.islice((line for line in file if line.strip()), limit))
        )
    first = next((line for line in io.BytesIO(text) if line.strip()), None)
    if first is None:
        raise InputError(f"{path}: the file is empty")
    try:
        fields = json.loads(first)
    except NOT_JSON as error:
        raise InputError(f"{path}: row 0 is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InputError(f'{path}: row 0 is no JSON object; every line must be one, like {{"embedding": [0.1, 0.2]}}')
    with decoding(path, "not a readable .jsonl file"):
        paths = paths_of(fields)
    column = choose_column(
        str(path), {name: isinstance(value_at(fields, way), list) for name, way in paths.items()}, column
    )
    way = paths[column]
    kind = pa.string() if isinstance(value_at(fields, way), str) else pa.list_(pa.float64())
    with decoding(path, "not a readable .jsonl file"):
        try:
            values = parse_json(text, way, kind)
        except pa.ArrowInvalid as error:
            bad = first_bad_line(text, way, kind)
            raise InputError(f"{path}: row {bad[0]} (line {bad[1]}) {bad[2]}" if bad else f"{path}: {error}") from error
        return to_rows(str(path), values, 0, None)
