"""What the name of a source stands for: files of Arrow tables, shards of them; and why it is none that can be read."""

import glob
import itertools
import os
import zipfile
from pathlib import Path
from shlex import quote

from dploss.data.formats.ipc import IPC_SUFFIXES
from dploss.errors import InputError
from dploss.files.compressed import COMPRESSIONS, inner_suffix
from dploss.files.untrusted import decoding, read_json
from metrics.paths import visible_files, visible_matches

_DATASET_STATE, _DATASET_SPLITS = "state.json", "dataset_dict.json"
_MAGIC = {
    b"PAR1": ".parquet",
    b"ARROW1": ".arrow",
    b"\xff\xff\xff\xff": ".arrow",
    b"\x93NUMPY": ".npy",
    b"\x89HDF": ".hdf5",
    b"{": ".jsonl",
}
_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".bz2", ".xz")
_PICKLES = (".pkl", ".pickle", ".joblib")
_UNPACKERS = {".gz": "gunzip", ".zst": "unzstd"}


def ipc_files(name: str) -> list[Path]:
    """The Arrow IPC files that a source stands for, in the order of their rows; none where it is something else.

    A folder that Hugging Face's save_to_disk wrote is its files; another folder its .arrow, .feather and .ipc files,
    where there are no .parquet files.

    Raises:
        InputError: a folder of several splits, or files of several formats.
    """
    path = Path(name)
    if os.path.isdir(path):
        return _of_folder(path)
    matches = [] if os.path.exists(path) or not glob.has_magic(name) else visible_matches(name)
    ipc = [match for match in matches if _is_ipc(match)]
    if ipc and len(ipc) < len(matches):
        raise InputError(f"{name}: a glob must match files of one format alone")
    return ipc or ([path] if _is_ipc(path) else [])


def _of_folder(folder: Path) -> list[Path]:
    if (folder / _DATASET_SPLITS).is_file():
        described = read_json(folder / _DATASET_SPLITS, "not a list of splits")
        splits = described.get("splits") if isinstance(described, dict) else None
        first = splits[0] if isinstance(splits, list) and splits else "SPLIT"
        known = ", ".join(map(str, splits or ())) or "no splits"
        raise InputError(f"{folder}: a dataset of {known}; name one of them, as {folder / str(first)}")
    if (folder / _DATASET_STATE).is_file():
        return _of_dataset(folder)
    found = list(visible_files(folder))
    ipc = sorted(path for path in found if _is_ipc(path))
    return [] if any(path.suffix == ".parquet" for path in found) else ipc


def _of_dataset(folder: Path) -> list[Path]:
    """The files of a folder that save_to_disk wrote, in the order that its state.json says."""
    path = folder / _DATASET_STATE
    with decoding(path, "not the state of a dataset"):
        state = read_json(path, "not readable")
        if state.get("_indices_data_files"):
            raise InputError(
                f"{folder}: a dataset with an index; save it anew: dataset.flatten_indices().save_to_disk()"
            )
        names = [file["filename"] for file in state["_data_files"]]
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("it names no files of this folder")
    return [folder / name for name in names]


def _is_ipc(path: Path) -> bool:
    return path.suffix.lower() in IPC_SUFFIXES


def unknown_format(name: str, known: str) -> InputError:
    """The error of a file of a format that is not read; the message says what to do, where its content tells.

    Args:
        name: of the file, which exists.
        known: the formats that are read, for the message.
    """
    path = Path(name)
    suffix, inner = path.suffix.lower(), inner_suffix(path)
    if suffix in _ARCHIVES or inner in _ARCHIVES:
        return InputError(f"{name}: archives are not read; unpack it first")
    if suffix in COMPRESSIONS and not inner:
        return InputError(f"{name}: what is in it is not known; its name must say so, as rows.jsonl{suffix} does")
    if suffix in COMPRESSIONS:
        return InputError(
            f"{name}: {inner} is not read compressed; unpack it first: {_UNPACKERS[suffix]} {quote(name)}"
        )
    with decoding(path, "unknown format"), open(path, "rb") as file:
        start = file.read(16)
    if suffix in _PICKLES or (start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5")):
        return InputError(f"{name}: pickles can run code and are not read; save the matrix by numpy.save as .npy")
    if start.lstrip()[:1] == b"[":
        return InputError(
            f"{name}: JSON is read a row on every line; write it so: jq -c '.[]' {quote(name)} > rows.jsonl"
        )
    likely = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None) or _kind_of_archive(path)
    if likely is None:
        return InputError(f"{name}: unknown format; known are {known}")
    return InputError(
        f"{name}: unknown format {suffix or 'without a suffix'}, but it looks like {likely}: rename it so"
    )


def _kind_of_archive(path: Path) -> str | None:
    """What a zip archive is: NumPy's and torch's files are such."""
    if not zipfile.is_zipfile(path):
        return None
    with decoding(path, "unknown format"), zipfile.ZipFile(path) as archive:
        names = list(itertools.islice(archive.namelist(), 1000))
    if any(name.endswith("data.pkl") for name in names):
        return ".pt"
    return ".npz" if any(name.endswith(".npy") for name in names) else None
