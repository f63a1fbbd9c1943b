"""Atomic writes: a file is written beside its place, synced, then renamed over the old one."""

import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from dploss.errors import InputError


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its place when the block ends.

    A reader, or a power cut, meets the old file or the new one, never half of one: the bytes are fsynced before
    the rename, and the folder after it. If the block raises, the old file stays and the temporary one is removed.

    Args:
        path: the file to replace; its folder must exist.

    Yields:
        A binary file open for writing.

    Raises:
        OSError: the disk is full, the folder is not writable, ...; its filename is `path`.
    """
    # An unguessable name, and mode "x": nobody can have put a link there beforehand.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def move(old: Path, new: Path) -> None:
    """Rename durably, replacing `new`."""
    os.replace(old, new)
    sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable; Windows neither can nor need open a folder for that."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_stale_temporaries(folder: Path) -> None:
    """Remove what `atomic_write` left in `folder`, and in the folders in it, when its process was killed.

    Only the process that owns the folder may call this: it also removes the temporary file of a running writer.
    """
    for temporary in list(folder.rglob(".*.tmp")):
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Try to write in a folder, or in the nearest above it that exists; nothing is left there.

    Raises:
        InputError: it is read-only, no folder, or belongs to another.
    """
    place = folder.absolute()
    while not os.path.lexists(place):
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise InputError(f"{folder}: nothing can be saved there ({error.strerror}); name another folder") from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically, as `json_text`."""
    with atomic_write(path) as file:
        file.write(json_text(value).encode() + b"\n")


def json_text(value: Any) -> str:
    """Strict JSON: a float that is not finite becomes null."""
    text = json.dumps(_strict(value), indent=2, allow_nan=False, ensure_ascii=False)
    # Of a path that is not UTF-8, Python's text has lone surrogates; JSON has an escape for them, UTF-8 has nothing.
    return text.encode(errors="backslashreplace").decode()


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value
