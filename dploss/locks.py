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
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=_SECONDS)
    except Timeout as error:
        raise InputError(f"{folder}: another process is training this experiment; stop it, or let it finish") from error
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
