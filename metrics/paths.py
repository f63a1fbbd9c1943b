"""Which files a folder or a glob stands for: hidden and temporary ones are left out."""

import glob
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

HIDDEN = (".", "_")


def visible_files(folder: str | Path, hidden: str | tuple[str, ...] = HIDDEN) -> Iterator[Path]:
    """The files of a folder and its subfolders, in no order; links to folders are not followed.

    What lies in subfolders whose names begin with a dot or an underscore is left out (.ipynb_checkpoints, _temporary,
    __MACOSX); how the folder itself is named does not matter.

    Args:
        folder: The folder.
        hidden: With what the names of files begin that are left out, too.
    """
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        yield from (Path(parent, name) for name in files if not name.startswith(hidden))


def visible_matches(pattern: str) -> list[Path]:
    """The paths that a glob matches, sorted: its wildcards match no name that begins with a dot or an underscore.

    Args:
        pattern: A glob, ** for any subfolders; parts of it that themselves begin so match such names, and folders at
            its beginning that exist as they are written are no patterns: `data [v1]/*.parquet`.
    """
    if "\0" in pattern:
        return []
    base, parts = Path(), list(Path(pattern).parts)
    while parts and os.path.lexists(base / parts[0]):
        base /= parts.pop(0)
    named = [part for part in parts if part.startswith(HIDDEN)]

    def visible(part: str) -> bool:
        return not part.startswith(HIDDEN) or part in named or any(fnmatchcase(part, one) for one in named)

    matches = map(Path, glob.glob(os.path.join("", *parts), root_dir=base, recursive=True))
    return sorted(base / path for path in matches if all(map(visible, path.parts)))
