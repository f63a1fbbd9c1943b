"""The texts that vectors were made from, where their file has them beside."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dploss.data.formats.columns import choose_text_column
from dploss.data.vectors import parquet_files
from dploss.errors import InputError
from dploss.files.untrusted import decoding, regular_file

_TROUBLE = "the texts cannot be read"


def read_texts(source: str, indices: np.ndarray, column: str | None = None) -> list[str]:
    """The texts of some rows.

    Args:
        source: as for `open_vectors`; .parquet and .jsonl files can have texts.
        indices: of the rows, counted from 0 as the vectors are.
        column: the column of the texts; by default text, sentence, title, ..., else the only column of text.

    Raises:
        InputError: no texts there, or not for these rows.
    """
    shards = parquet_files(source)
    if shards:
        return _from_parquet(shards, indices, column)
    if Path(source).suffix.lower() in (".jsonl", ".ndjson"):
        return _from_jsonl(Path(source), indices, column)
    raise InputError(f"{source}: this format has no texts beside the vectors; .parquet and .jsonl can")


def _from_parquet(shards: list[Path], indices: np.ndarray, column: str | None) -> list[str]:
    chunks: list[pa.Array] = []
    for shard in shards:
        with decoding(shard, _TROUBLE):
            columns = {field.name: _is_text(field.type) for field in pq.read_schema(regular_file(shard))}
            column = choose_text_column(str(shard), columns, column)
            chunks += pq.read_table(shard, columns=[column]).column(column).chunks
    with decoding(shards[0].parent, _TROUBLE):
        return [str(text) for text in pa.chunked_array(chunks).take(pa.array(indices)).to_pylist()]


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _from_jsonl(path: Path, indices: np.ndarray, column: str | None) -> list[str]:
    wanted = set(indices.tolist())
    texts: dict[int, str] = {}
    with decoding(path, _TROUBLE):
        with open(path, "rb") as file:
            for row, line in enumerate(filter(bytes.strip, file)):
                if row == 0:
                    columns = {name: isinstance(value, str) for name, value in json.loads(line).items()}
                    column = choose_text_column(str(path), columns, column)
                if row in wanted:
                    # JSON can spell half a character, "\ud800", which cannot be printed.
                    texts[row] = str(json.loads(line).get(column)).encode(errors="replace").decode()
        missing = wanted - texts.keys()
        if missing:
            raise ValueError(f"there is no row {min(missing)}")
    return [texts[row] for row in indices.tolist()]
