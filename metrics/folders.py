"""Folders of images: what is in them, each read when it is needed."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from metrics.decoding import UnreadableImage, check_file, read_image
from metrics.errors import InputError
from metrics.paths import visible_files

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
# Made by file managers.
_NO_ONES = ("thumbs.db", "desktop.ini")
# As many are named in a line.
_FEW_IMAGES, _FEW_SUFFIXES = 3, 5


def find_images(folder: str | Path) -> list[Path]:
    """The image files of a folder and its subfolders, by suffix, sorted by path.

    Left out are files whose names begin with a dot (cameras begin names with an underscore), and folders whose names
    begin with either.

    Raises:
        InputError: no such folder.
    """
    return images_and_others(folder)[0]


def images_and_others(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """`find_images`, and the other files there, sorted by path.

    Raises:
        InputError: no such folder.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder of images")
    files = sorted(visible_files(folder, hidden="."))
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    return images, [path for path in files if path.suffix.lower() not in SUFFIXES]


def left_out(images: Iterable[Path], others: Iterable[Path], used: Collection[Path] = ()) -> str:
    """How many files of which suffixes are not read: "12 .heic, 3 .txt"; empty where there are none.

    Files beside an image that have its name (its caption, its description) are not counted.

    Args:
        images: As `images_and_others` finds them, like `others`.
        others: The files to count.
        used: Those among them that are read for something else.
    """
    described, read = {path.with_suffix("") for path in images}, {os.path.realpath(path) for path in used}
    counts = Counter(
        path.suffix.lower() or "without a suffix"
        for path in others
        if path.with_suffix("") not in described
        and path.name.lower() not in _NO_ONES
        and os.path.realpath(path) not in read
    )
    named = [f"{count:,} {suffix}" for suffix, count in counts.most_common(_FEW_SUFFIXES)]
    if more := counts.total() - sum(count for _, count in counts.most_common(_FEW_SUFFIXES)):
        named.append(f"{more:,} others")
    return ", ".join(named)


def unreadable_line(folder: str | Path, n_images: int, reasons: Mapping[str, str]) -> str:
    """That images cannot be read, the first few by name.

    Args:
        folder: The folder.
        n_images: How many are in it.
        reasons: Why not, by the images' names.
    """
    named = [f"{name} ({reason})" for name, reason in [*reasons.items()][:_FEW_IMAGES]]
    more = f" and {len(reasons) - len(named):,} more" if len(reasons) > len(named) else ""
    return f"{folder}: {len(reasons):,} of {n_images:,} images cannot be read: {', '.join(named)}{more}"


class ImageFolder(Sequence[Image.Image]):
    """The images of a folder and its subfolders, as `find_images` sorts them; each is read when indexed.

    Args:
        folder: The folder.
        names: Only these files, in this order (paths relative to the folder); None for all images.

    Attributes:
        others: The files beside the images; none where the names were given.

    Raises:
        InputError: no such folder, or no images in it; when indexed: a file that cannot be read as an image.
    """

    def __init__(self, folder: str | Path, names: Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        self.others: list[Path] = []
        if names is None:
            images, self.others = images_and_others(folder)
            names = [path.relative_to(folder).as_posix() for path in images]
            if not names:
                raise InputError(no_images(folder, self.others))
        self.names = list(names)

    def unreadable(self, seen: Callable[[], object] = lambda: None) -> dict[str, str]:
        """Which images cannot be read, and why; all are decoded to find it out, and `seen` is called after each."""
        reasons = {}
        for name in self.names:
            try:
                read_image(self.folder / name)
            except UnreadableImage as error:
                reasons[name] = error.reason
            seen()
        return reasons

    def fingerprint(self) -> str:
        """A text that changes when a file is added, removed or written.

        Raises:
            InputError: a file is gone.
        """
        files = []
        for path in (self.folder.resolve() / name for name in self.names):
            check_file(path)
            status = path.stat()
            files.append((str(path), status.st_size, status.st_mtime_ns))
        return repr(files)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> Image.Image:  # type: ignore[override]  # no slices
        """The image at an index, as `read_image` decodes it."""
        return read_image(self.folder / self.names[index])


def no_images(folder: str | Path, others: Sequence[Path]) -> str:
    """That a folder has no images, and what it has instead."""
    instead = left_out((), others)
    return f"{folder}: no images in it ({', '.join(SUFFIXES)})" + (f"; it has {instead}" if instead else "")
