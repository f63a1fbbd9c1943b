"""The texts that vectors were made from, where their file has them beside."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from dploss.data.formats.arrow import paths_of, value_at
from dploss.data.formats.columns import choose_text_column
from dploss.data.formats.csv_layout import read_cells, read_layout
from dploss.data.formats.nested import text_columns_of, unwrapped
from dploss.data.formats.tables import open_table
from dploss.data.vectors import local_name, table_files
from dploss.errors import InputError
from dploss.files.compressed import inner_suffix, open_bytes
from dploss.files.untrusted import decoding

_TROUBLE = "the texts cannot be read"


def column_names(source: str) -> list[str]:
    """The columns of a source that `read_texts` can read, or of its first row; none of a format that has none.

    Raises:
        InputError: it cannot be read.
    """
    name = local_name(source)
    tables, path = table_files(name), Path(name)
    if tables:
        return list(text_columns_of(open_table(tables[0]).schema))
    suffix = inner_suffix(path)
    if suffix in (".csv", ".tsv"):
        return read_layout(path).names
    if suffix not in (".jsonl", ".ndjson"):
        return []
    with decoding(path, _TROUBLE), open_bytes(path) as file:
        return list(paths_of(json.loads(next(filter(bytes.strip, file), b"{}"))))


def read_texts(source: str, indices: np.ndarray, column: str | None = None) -> list[str]:
    """The texts of some rows.

    Args:
        source: as for `open_vectors`; parquet, Arrow IPC, .jsonl, .csv and .tsv files can have texts.
        indices: of the rows, counted from 0 as the vectors are.
        column: the column of the texts; by default text, sentence, title, ..., else the only column of text.

    Raises:
        InputError: no texts there, or not for these rows.
    """
    name = local_name(source)
    tables = table_files(name)
    if tables:
        return _from_tables(tables, indices, column)
    suffix = inner_suffix(Path(name))
    if suffix in (".jsonl", ".ndjson"):
        return _from_jsonl(Path(name), indices, column)
    if suffix in (".csv", ".tsv"):
        return _from_csv(Path(name), indices, column)
    raise InputError(f"{name}: this format has no texts beside the vectors; .parquet, .arrow, .jsonl and .csv can")


def _from_tables(shards: list[Path], indices: np.ndarray, column: str | None) -> list[str]:
    chunks: list[pa.Array] = []
    for shard in shards:
        with decoding(shard, _TROUBLE):
            table = open_table(shard)
            column = choose_text_column(str(shard), text_columns_of(table.schema), column)
            chunks += [unwrapped(str(shard), chunk, 0) for chunk in table.values(column)]
    with decoding(shards[0].parent, _TROUBLE):
        return [str(text) for text in pa.chunked_array(chunks).take(pa.array(indices)).to_pylist()]


def _from_jsonl(path: Path, indices: np.ndarray, column: str | None) -> list[str]:
    wanted = set(indices.tolist())
    texts: dict[int, str] = {}
    with decoding(path, _TROUBLE):
        way: list[str] = []
        with open_bytes(path) as file:
            for row, line in enumerate(filter(bytes.strip, file)):
                if row == 0:
                    fields = json.loads(line)
                    ways = paths_of(fields)
                    columns = {name: isinstance(value_at(fields, way), str) for name, way in ways.items()}
                    way = ways[choose_text_column(str(path), columns, column)]
                if row in wanted:
                    # JSON can spell half a character, "\ud800", which cannot be printed.
                    texts[row] = str(value_at(json.loads(line), way)).encode(errors="replace").decode()
    return _in_order(path, texts, indices)


def _from_csv(path: Path, indices: np.ndarray, column: str | None) -> list[str]:
    layout = read_layout(path)
    place = layout.names.index(choose_text_column(str(path), layout.texts, column))
    wanted = set(indices.tolist())
    texts: dict[int, str] = {}
    with decoding(path, _TROUBLE):
        rows = (cells for line, cells in read_cells(path, layout.delimiter) if line > layout.head)
        for row, cells in enumerate(rows):
            if row in wanted:
                texts[row] = cells[place]
    return _in_order(path, texts, indices)


def _in_order(path: Path, texts: dict[int, str], indices: np.ndarray) -> list[str]:
    for row in indices.tolist():
        if row not in texts:
            raise InputError(f"{path}: {_TROUBLE}: there is no row {row}")
    return [texts[row] for row in indices.tolist()]
