"""One writer for each experiment: a lock on its folder, which the system lets go when its holder dies."""

from pathlib import Path

from filelock import FileLock, Timeout

from dploss.errors import InputError

_LOCK = ".lock"
# Whoever asks `was_abandoned` holds the lock for an instant.
_SECONDS = 1.0


def lock_experiment(folder: Path) -> FileLock:
    """Become the only process that trains an experiment, until the lock's `release` is called or the process ends.

    Args:
        folder: the experiment's; it exists.

    Returns:
        The lock, held.

    Raises:
        InputError: another process trains it.
        OSError: the folder is not writable.
    """
    return _locked(folder / _LOCK, f"{folder}: another process is training this experiment; stop it, or let it finish")


def lock_output(path: Path) -> FileLock:
    """Become the only process that writes a file, until the lock's `release` is called or the process ends.

    Args:
        path: of the file; its folder exists.

    Raises:
        InputError: another process writes it.
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
    """Whether whoever trained the experiment in `folder` is gone; False too where that cannot be found out."""
    if not (folder / _LOCK).is_file():
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return True
    except (Timeout, OSError):
        return False
