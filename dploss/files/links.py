"""Links such as best.pt to a checkpoint beside them: relative symlinks, or copies where symlinks are not supported."""

import os
import shutil
from itertools import count
from pathlib import Path

from dploss.files.atomic import remove, sync_folder


def point_to(link: Path, target: str) -> None:
    """Make `link` point to `target`, atomically where symlinks are supported.

    Args:
        link: its path; whatever is there is replaced, even a folder.
        target: a file or folder, relative to the link's folder.

    Raises:
        OSError: the folder is not writable, or full.
    """
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    remove(temporary)
    try:
        os.symlink(target, temporary, target_is_directory=(link.parent / target).is_dir())
    except (OSError, NotImplementedError):
        _copy(link.parent / target, temporary)
    _replace(temporary, link)
    sync_folder(link.parent)


def points_to(link: Path, target: str) -> bool:
    """Whether `link` is a relative symlink to `target`, or a file or folder with the same content."""
    if link.is_symlink():
        return os.readlink(link) == target and link.exists()
    wanted = link.parent / target
    if link.is_dir() and wanted.is_dir():
        return _listing(link) == _listing(wanted)
    return link.is_file() and wanted.is_file() and _identity(link) == _identity(wanted)


def points_outside(path: Path, home: Path) -> bool:
    """Whether `path` is a symlink to something outside the folder `home`, as a downloaded folder may contain."""
    return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(home))


def set_aside(path: Path) -> Path:
    """Rename a file or folder to NAME.before1, or the next free number; returns the new path."""
    aside = next(free for number in count(1) if not (free := path.with_name(f"{path.name}.before{number}")).exists())
    os.replace(path, aside)
    return aside


def _copy(source: Path, copy: Path) -> None:
    """Copy with modification times, by which `points_to` recognises the copy."""
    if source.is_dir():
        shutil.copytree(source, copy)
    else:
        shutil.copy2(source, copy)


def _replace(temporary: Path, link: Path) -> None:
    if link.exists() and not link.is_symlink() and (link.is_dir() or temporary.is_dir()):
        # A folder cannot be renamed over, nor over a file: what is there is moved aside first.
        aside = link.with_name(f".{link.name}.{os.getpid()}.old.tmp")
        os.replace(link, aside)
        os.replace(temporary, link)
        remove(aside)
    else:
        os.replace(temporary, link)


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted(
        (path.relative_to(folder).as_posix(), *_identity(path)) for path in folder.rglob("*") if path.is_file()
    )
