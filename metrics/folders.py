"""Folders of images: what is in them, each read when it is needed."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from metrics.decoding import check_file, read_image
from metrics.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def find_images(folder: str | Path) -> list[Path]:
    """The image files of a folder and its subfolders, by suffix, sorted by path.

    Files and folders whose names start with a dot are left out.

    Raises:
        InputError: no such folder.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder of images")
    return sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.is_dir()
    )


class ImageFolder(Sequence[Image.Image]):
    """The images of a folder and its subfolders, as `find_images` sorts them; each is read when indexed.

    Args:
        folder: The folder.
        names: Only these files, in this order (paths relative to the folder); None for all images.

    Raises:
        InputError: no such folder, or no images in it; when indexed: a file that cannot be read as an image.
    """

    def __init__(self, folder: str | Path, names: Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        if names is None:
            names = [path.relative_to(folder).as_posix() for path in find_images(folder)]
            if not names:
                raise InputError(f"{folder}: no images in it ({', '.join(SUFFIXES)})")
        self.names = list(names)

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
