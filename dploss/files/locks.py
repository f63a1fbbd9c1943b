"""Locks: one writer per experiment or output file. The system releases a lock when the process that holds it ends."""

from pathlib import Path

from filelock import FileLock, Timeout

from dploss.errors import InputError

_LOCK = ".lock"
# `was_abandoned` holds the lock for an instant.
_SECONDS = 1.0


def lock_experiment(folder: Path) -> FileLock:
    """Lock an experiment for training, until the lock's `release` is called or the process ends.

    Args:
        folder: of the experiment; it must exist.

    Returns:
        The lock, held.

    Raises:
        InputError: another process is training it.
        OSError: the folder is not writable.
    """
    return _locked(
        folder / _LOCK, f"{folder}: another process is training this experiment; stop it or wait until it ends"
    )


def lock_output(path: Path) -> FileLock:
    """Lock an output file for writing, until the lock's `release` is called or the process ends.

    Args:
        path: of the file; its folder must exist.

    Returns:
        The lock, held.

    Raises:
        InputError: another process is writing it.
        OSError: the folder is not writable.
    """
    return _locked(path.with_name(f".{path.name}{_LOCK}"), f"{path}: another process is writing this file")


def _locked(path: Path, busy: str) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_SECONDS)
    except Timeout as error:
        raise InputError(busy) from error
    return lock


def was_abandoned(folder: Path) -> bool:
    """Whether the process that trained the experiment in `folder` has ended; False also where that is unknown."""
    if not (folder / _LOCK).is_file():
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return True
    except (Timeout, OSError):
        return False
