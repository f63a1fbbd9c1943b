"""The texts that vectors were made from, where their file has them beside."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dploss.errors import InputError
from dploss.vectors.columns import choose_text_column
from dploss.vectors.opening import parquet_files


def read_texts(source: str, rows: np.ndarray, column: str | None = None) -> list[str]:
    """The texts of some rows.

    Args:
        source: as for `open_vectors`; .parquet and .jsonl files can have texts.
        rows: row numbers, counted from 0 as the vectors are.
        column: the column of the texts; by default text, sentence, title, ..., else the only column of text.

    Raises:
        InputError: no texts there, or not for these rows.
    """
    shards = parquet_files(source)
    if shards:
        return _from_parquet(shards, rows, column)
    if Path(source).suffix.lower() in (".jsonl", ".ndjson"):
        return _from_jsonl(Path(source), rows, column)
    raise InputError(f"{source}: this format has no texts beside the vectors; .parquet and .jsonl can")


def _from_parquet(shards: list[Path], rows: np.ndarray, column: str | None) -> list[str]:
    try:
        schema = pq.read_schema(shards[0])
        column = choose_text_column(str(shards[0]), {field.name: _is_text(field.type) for field in schema}, column)
        texts = pa.chunked_array(
            [chunk for shard in shards for chunk in pq.read_table(shard, columns=[column]).column(column).chunks]
        )
        return [str(text) for text in texts.take(pa.array(rows)).to_pylist()]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{shards[0].parent}: the texts cannot be read: {error}") from error


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _from_jsonl(path: Path, rows: np.ndarray, column: str | None) -> list[str]:
    wanted = set(rows.tolist())
    texts: dict[int, str] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for row, line in enumerate(filter(str.strip, file)):
                if row == 0:
                    columns = {name: isinstance(value, str) for name, value in json.loads(line).items()}
                    column = choose_text_column(str(path), columns, column)
                if row in wanted:
                    texts[row] = str(json.loads(line).get(column))
        return [texts[row] for row in rows.tolist()]
    except InputError:
        raise
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise InputError(f"{path}: the texts cannot be read: {error}") from error
