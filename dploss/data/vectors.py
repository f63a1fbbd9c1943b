"""open_vectors: find the reader, convert its rows to float32, check them once."""

import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dploss.data import builtin
from dploss.data.bad_rows import BadRows
from dploss.data.formats.binary import BINS, VECS, read_bin, read_safetensors, read_vecs
from dploss.data.formats.csv import read_csv
from dploss.data.formats.hdf5 import read_hdf5
from dploss.data.formats.ipc import IPC_SUFFIXES, read_ipc
from dploss.data.formats.jsonl import read_jsonl
from dploss.data.formats.npy import read_npy, read_npz
from dploss.data.formats.parquet import read_parquet
from dploss.data.formats.tables import open_table
from dploss.data.formats.tensors import read_tensor
from dploss.data.memmap import BFLOAT16, MappedRows, select, unit_rows
from dploss.data.sources import ipc_files, unknown_format
from dploss.errors import InputError
from dploss.files.compressed import COMPRESSIONS, inner_suffix
from dploss.files.given import refuse_remote
from dploss.files.untrusted import regular_file
from dploss.text import counted
from metrics.paths import visible_files, visible_matches

BUILTIN = "builtin"
_READERS = {
    ".npy": read_npy,
    ".npz": read_npz,
    **dict.fromkeys((".jsonl", ".ndjson"), read_jsonl),
    **dict.fromkeys((".csv", ".tsv"), read_csv),
    **dict.fromkeys((".pt", ".pth"), read_tensor),
    ".safetensors": read_safetensors,
    **dict.fromkeys((".hdf5", ".h5"), read_hdf5),
    **dict.fromkeys(VECS, read_vecs),
    **dict.fromkeys(BINS, read_bin),
}
_COMPRESSED = (".jsonl", ".ndjson", ".csv", ".tsv")
_KNOWN = ", ".join((".parquet", *IPC_SUFFIXES, *_READERS)) + (
    f", and {', '.join(_COMPRESSED)} compressed as {' or '.join(COMPRESSIONS)}"
)
_CHUNK_VALUES = 2**22
# Rows.
_FEWEST = 3


@dataclass(frozen=True)
class Vectors:
    """Rows of equal length, finite.

    Attributes:
        rows: (N, D) float32, in memory; or on the disk, where the format allows it or they are large (MappedRows).
        source: absolute path (or glob) they came from, or "builtin".
        fingerprint: "sha256:..." of the rows' shape and float32 values, before any normalisation: the same for
            the same rows in whatever format, and with others beside them that are left out.
        kept: (N,) their sorted indices in the source; None where all of its rows are here.
        bad: what is wrong with those that are left out.
    """

    rows: np.ndarray | MappedRows
    source: str
    fingerprint: str
    kept: np.ndarray | None = field(default=None, kw_only=True)
    bad: BadRows = field(default_factory=BadRows, kw_only=True)

    def in_source(self, index: np.ndarray) -> np.ndarray:
        """Indices in the source, of rows given by their indices here."""
        return index if self.kept is None else self.kept[index]

    @property
    def left_out(self) -> str | None:
        """What a person should know of rows that are left out; None where all are here."""
        return f"{self.bad}; they are left out" if self.bad.count else None


def open_vectors(
    source: str | Path = BUILTIN,
    column: str | None = None,
    limit: int | None = None,
    metric: str = "euclidean",
    skip_bad_rows: bool = False,
    *,
    fewest: int = _FEWEST,
) -> Vectors:
    """Read vectors as float32 rows and check them.

    Args:
        source: "builtin"; a .parquet, .arrow, .npy, .npz, .jsonl, .csv, .tsv, .pt, .safetensors, .hdf5, .fvecs, .bvecs,
            .fbin, .f16bin, .u8bin or .i8bin file; a folder or a glob of .parquet or .arrow shards, read in the order of
            their names; a folder of datasets' save_to_disk. docs/DATA.md says what is read of each.
        column: the column (npz, hdf5, safetensors, pt: array) of the vectors, a field of a struct as struct.field; by
            default embedding, embeddings, emb, vector, vectors or embedding_json (JSON text), else the only column of
            lists; of .csv else the columns of numbers, which a pattern such as dim_* chooses too.
        limit: only the first `limit` rows, counted with those that are then left out.
        metric: "euclidean", or "cosine", which normalises every row to length 1.
        skip_bad_rows: leave out rows that are null, empty, of other dimensions than most, not finite, beyond 1e15 or,
            under cosine, all zeros.
        fewest: how many rows there must be; by default as many as a training needs.

    Raises:
        InputError: no such file, a format or column that cannot be read, values that are not numbers, fewer rows than
            `fewest`, or rows that cannot be used and are not to be left out: the message counts them, and names the
            first, counted from 0.
    """
    name, zeros, kept = local_name(source), metric != "cosine", None
    rows = read_matrix(name, column, limit)
    _check_count(name, len(rows), fewest)
    fingerprint, usable, bad = _look_through(rows, zeros)
    if bad.count:
        bad.first_place = place_in_shards(name, bad.first_row)
        if not skip_bad_rows:
            raise bad.error(name, "{skip_bad_rows} leaves them out" if usable.sum() >= fewest else "")
        kept = np.flatnonzero(usable)
        if len(kept) < fewest:
            raise InputError(f"{name}: {bad}; {len(kept)} are left, {_needed(fewest)}")
        rows = select(rows, kept)
        fingerprint, _, _ = _look_through(rows, zeros)
    source = name if name == BUILTIN else str(Path(name).absolute())
    return Vectors(_as_compared(rows, metric), source, fingerprint, kept=kept, bad=bad)


def local_name(source: str | Path) -> str:
    """The name of a source on this machine, `~` expanded.

    Raises:
        InputError: it is empty, a URL or a name of the Hugging Face Hub.
    """
    refuse_remote(str(source))
    return os.path.expanduser(source)


def as_vectors(
    rows: np.ndarray | MappedRows, name: str, metric: str = "euclidean", *, fewest: int = _FEWEST
) -> Vectors:
    """Check rows that are in memory already, or mapped.

    Args:
        rows: (N, D) float32; not changed, and not copied but under cosine.
        name: where they came from, for messages, and as their source.
        metric: "euclidean", or "cosine", which normalises every row to length 1.
        fewest: how many rows there must be; by default as many as a training needs.

    Raises:
        InputError: fewer rows than `fewest`, or rows that cannot be used.
    """
    _check_count(name, len(rows), fewest)
    fingerprint = fingerprint_of(name, rows, zeros=metric != "cosine")
    return Vectors(_as_compared(rows, metric), name, fingerprint)


def _check_count(name: str, n_rows: int, fewest: int) -> None:
    if n_rows < fewest:
        raise InputError(f"{name}: it has {counted(n_rows, 'row')}, {_needed(fewest)}")


def _needed(fewest: int) -> str:
    return f"training needs at least {fewest}" if fewest == _FEWEST else f"at least {fewest} must be there"


def _as_compared(rows: np.ndarray | MappedRows, metric: str) -> np.ndarray | MappedRows:
    if metric != "cosine":
        return rows
    return rows.as_units() if isinstance(rows, MappedRows) else _as_units(rows)


def read_matrix(name: str, column: str | None = None, limit: int | None = None) -> np.ndarray | MappedRows:
    """The rows of a source as `open_vectors` takes it, (N, D) float32; their values are not looked at.

    Raises:
        InputError: nothing that can be read, or no matrix of numbers.
    """
    rows = _read(name, column, limit)
    if rows.ndim != 2 or not rows.shape[1]:
        if not len(np.atleast_1d(rows)):
            raise InputError(f"{name}: there are no rows in it")
        nothing = ": all of its rows are null or empty" if rows.ndim == 2 else ""
        raise InputError(f"{name}: it holds an array of shape {rows.shape}, not a matrix (rows, dimensions){nothing}")
    stored = rows.stored if isinstance(rows, MappedRows) else rows
    if stored.dtype.kind not in "fiu" and stored.dtype != BFLOAT16:
        raise InputError(f"{name}: it holds {stored.dtype} values, not numbers")
    if stored is not rows:
        return rows
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows, np.float32)


def _read(name: str, column: str | None, limit: int | None) -> np.ndarray | MappedRows:
    ipc = ipc_files(name)
    if ipc:
        return read_ipc(ipc, column, limit)
    shards = parquet_files(name)
    if shards:
        return read_parquet(shards, column, limit)
    path = Path(name)
    suffix = inner_suffix(path)
    if suffix not in _READERS or (suffix != path.suffix.lower() and suffix not in _COMPRESSED):
        raise unknown_format(name, _KNOWN)
    if path.stat().st_size == 0:
        raise InputError(f"{name}: the file is empty")
    return _READERS[suffix](path, column, limit)


def table_files(name: str) -> list[Path]:
    """The files of Arrow tables, parquet or IPC, that a source stands for, in the order of their rows; or none.

    Raises:
        InputError: nothing is there.
    """
    return ipc_files(name) or parquet_files(name)


def parquet_files(name: str) -> list[Path]:
    """The parquet files that a source stands for, in the order of their rows; none where it is another file.

    Raises:
        InputError: nothing is there.
    """
    if name == BUILTIN:
        return [builtin.VECTORS]
    path = Path(name)
    if os.path.isdir(path):
        shards = sorted(file for file in visible_files(path) if file.suffix == ".parquet")
        if not shards:
            nothing = "no .parquet files in this folder, and no .arrow"
            raise InputError(f"{name}: {nothing} (names that begin with . or _ are left out)")
        return shards
    if not os.path.exists(path) and glob.has_magic(name):
        shards = visible_matches(name)
        if not shards:
            raise InputError(f"{name}: no file matches")
        if any(shard.suffix.lower() != ".parquet" for shard in shards):
            raise InputError(f"{name}: a glob must match .parquet files alone, or .arrow")
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
    fingerprint, _, bad = _look_through(rows, zeros)
    if bad.count:
        raise bad.error(name)
    return fingerprint


def place_in_shards(name: str, row: int | None) -> str:
    """In which file of several a row of a source is, in words; empty for a source of one file, and for no row."""
    shards = table_files(name)
    if row is None or len(shards) < 2:
        return ""
    ends = np.cumsum([open_table(shard).n_rows for shard in shards])
    shard = int(np.searchsorted(ends, row, side="right"))
    return f" (row {row - (ends[shard - 1] if shard else 0)} of {shards[shard]})"


def _look_through(rows: np.ndarray | MappedRows, zeros: bool) -> tuple[str, np.ndarray, BadRows]:
    """The fingerprint of (N, D) rows, (N,) bool which of them can be used, and what is wrong with the others."""
    digest, bad = hashlib.sha256(f"float32 {rows.shape}".encode()), BadRows(zeros)
    usable = []
    for _, chunk in _chunks(rows):
        usable.append(bad.look(chunk))
        digest.update(chunk.data)
    return f"sha256:{digest.hexdigest()}", np.concatenate(usable), bad


def _as_units(rows: np.ndarray) -> np.ndarray:
    """A copy whose rows have length 1."""
    unit = np.empty(rows.shape, np.float32)
    for start, chunk in _chunks(rows):
        unit[start : start + len(chunk)] = unit_rows(chunk)
    return unit
