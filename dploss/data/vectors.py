"""open_vectors: find the reader, convert its rows to float32, check them once."""

import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dploss.data.formats.binary import BINS, VECS, read_bin, read_safetensors, read_vecs
from dploss.data.formats.hdf5 import read_hdf5
from dploss.data.formats.jsonl import read_jsonl
from dploss.data.formats.npy import read_npy, read_npz
from dploss.data.formats.parquet import read_parquet
from dploss.data.memmap import MappedRows, unit_rows
from dploss.errors import InputError, SettingError
from dploss.files.untrusted import regular_file
from dploss.text import counted

BUILTIN = "builtin"
_BUILTIN_FILE = Path(__file__).parent / "builtin" / "wordnet_mpnet_768.parquet"
_READERS = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".safetensors": read_safetensors,
    ".hdf5": read_hdf5,
    ".h5": read_hdf5,
    **dict.fromkeys(VECS, read_vecs),
    **dict.fromkeys(BINS, read_bin),
}
_CHUNK_VALUES = 2**22
# Squared distances of larger values overflow float32.
_LARGEST = 1e15


@dataclass(frozen=True)
class Vectors:
    """Rows of equal length, finite, at least three.

    Attributes:
        rows: (N, D) float32, in memory; or on the disk, where the format allows it or they are large (MappedRows).
        source: absolute path (or glob) they came from, or "builtin".
        fingerprint: "sha256:..." of the rows' shape and float32 values, before any normalisation: the same for
            the same rows in whatever format.
    """

    rows: np.ndarray | MappedRows
    source: str
    fingerprint: str


def open_vectors(
    source: str | Path = BUILTIN,
    column: str | None = None,
    limit: int | None = None,
    metric: str = "euclidean",
) -> Vectors:
    """Read vectors as float32 rows and check them.

    Args:
        source: "builtin"; a .npy, .npz, .parquet, .jsonl, .safetensors, .hdf5, .fvecs, .bvecs, .fbin, .f16bin,
            .u8bin or .i8bin file; a folder or a glob of .parquet shards, read in the order of their names.
        column: the column (npz, hdf5, safetensors: array) of the vectors; by default embedding, embeddings, emb,
            vector, vectors or embedding_json (JSON text), else the only column of lists.
        limit: only the first `limit` rows.
        metric: "euclidean", or "cosine", which normalises every row to length 1.

    Raises:
        InputError: no such file, a format or column that cannot be read, or rows that are ragged, not numbers, not
            finite, all zeros under cosine, or fewer than 3. The message names the file and the row, counted from 0.
    """
    name = str(source)
    vectors = as_vectors(read_matrix(name, column, limit), name, metric)
    return vectors if name == BUILTIN else replace(vectors, source=str(Path(name).absolute()))


def as_vectors(rows: np.ndarray | MappedRows, name: str, metric: str = "euclidean") -> Vectors:
    """Check rows that are in memory already, or mapped.

    Args:
        rows: (N, D) float32; not changed, and not copied but under cosine.
        name: where they came from, for messages, and as their source.
        metric: "euclidean", or "cosine", which normalises every row to length 1.

    Raises:
        InputError: see `open_vectors`.
    """
    if len(rows) < 3:
        raise InputError(f"{name}: it has {counted(len(rows), 'row')}, training needs at least 3")
    fingerprint = fingerprint_of(name, rows, zeros=metric != "cosine")
    if metric == "cosine":
        rows = rows.as_units() if isinstance(rows, MappedRows) else _as_units(rows)
    return Vectors(rows, name, fingerprint)


def read_matrix(name: str, column: str | None = None, limit: int | None = None) -> np.ndarray | MappedRows:
    """The rows of a source as `open_vectors` takes it, (N, D) float32; their values are not looked at.

    Raises:
        InputError: nothing that can be read, or no matrix of numbers.
    """
    rows = _read(name, column, limit)
    if rows.ndim != 2 or not rows.shape[1]:
        if not len(np.atleast_1d(rows)):
            raise InputError(f"{name}: there are no rows in it")
        raise InputError(f"{name}: it holds an array of shape {rows.shape}, not a matrix (rows, dimensions)")
    stored = rows.stored if isinstance(rows, MappedRows) else rows
    if stored.dtype.kind not in "fiu":
        raise InputError(f"{name}: it holds {stored.dtype} values, not numbers")
    if stored is not rows:
        return rows
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows, np.float32)


def _read(name: str, column: str | None, limit: int | None) -> np.ndarray | MappedRows:
    shards = parquet_files(name)
    if shards:
        return read_parquet(shards, column, limit)
    path = Path(name)
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise InputError(f"{name}: unknown format; known are .parquet, {', '.join(_READERS)}")
    if path.stat().st_size == 0:
        raise InputError(f"{name}: the file is empty")
    return _READERS[suffix](path, column, limit)


def parquet_files(name: str) -> list[Path]:
    """The parquet files that a source stands for, in the order of their rows; none where it is another file.

    Raises:
        InputError: nothing is there.
    """
    if name == BUILTIN:
        return [_BUILTIN_FILE]
    path = Path(name)
    if os.path.isdir(path):
        shards = sorted(shard for shard in path.rglob("*.parquet") if not shard.is_dir())
        if not shards:
            raise InputError(f"{name}: no .parquet files in this folder")
        return shards
    if not os.path.exists(path) and glob.has_magic(name):
        shards = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
        if not shards:
            raise InputError(f"{name}: no file matches")
        if any(shard.suffix.lower() != ".parquet" for shard in shards):
            raise InputError(f"{name}: a glob must match .parquet files alone")
        return shards
    return [path] if regular_file(path).suffix.lower() == ".parquet" else []


def _chunks(rows: np.ndarray | MappedRows) -> Iterator[tuple[int, np.ndarray]]:
    """The index of the first row, and the rows, of one chunk after another."""
    step = max(1, _CHUNK_VALUES // rows.shape[1])
    for start in range(0, len(rows), step):
        yield start, rows[start : start + step]


def fingerprint_of(name: str, rows: np.ndarray | MappedRows, zeros: bool = True) -> str:
    """The "sha256:..." of rows (N, D) float32, which are checked meanwhile.

    Args:
        name: where they came from, for messages.
        rows: all of them.
        zeros: whether a row may be all zeros.

    Raises:
        InputError: a value that is not finite, or too large for distances, or a row of zeros.
    """
    digest = hashlib.sha256(f"float32 {rows.shape}".encode())
    for start, chunk in _chunks(rows):
        check_values(name, start, chunk)
        if not zeros and not chunk.any(axis=1).all():
            row = start + np.flatnonzero(~chunk.any(axis=1))[0]
            template = "{name}: row {row} is all zeros, which has no direction: use {metric} euclidean"
            raise SettingError(template, name=name, row=row)
        digest.update(chunk.data)
    return f"sha256:{digest.hexdigest()}"


def check_values(name: str, first_row: int, rows: np.ndarray) -> None:
    """Refuse values of float32 rows (N, D) that are not finite, or too large for distances.

    Args:
        name: where they came from, for messages.
        first_row: the index of the first.
        rows: to be checked.

    Raises:
        InputError: there is such a value; the message names its row.
    """
    usable = np.abs(rows) <= _LARGEST
    if usable.all():
        return
    row, column = np.argwhere(~usable)[0]
    value = rows[row, column]
    trouble = f"be at most {_LARGEST:g}: divide all rows by a number" if np.isfinite(value) else "be finite"
    raise InputError(
        f"{name}: row {first_row + row}, dimension {column} is {value} as float32; every value must {trouble}"
    )


def _as_units(rows: np.ndarray) -> np.ndarray:
    """A copy whose rows have length 1."""
    unit = np.empty(rows.shape, np.float32)
    for start, chunk in _chunks(rows):
        unit[start : start + len(chunk)] = unit_rows(chunk)
    return unit
