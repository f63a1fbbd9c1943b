"""Images and captions on disk: find them, and read them when they are needed.

The one reader of images in this repository; it needs neither torch nor dploss.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from metrics.errors import InputError
from metrics.modes import as_rgb_or_float
from metrics.paths import visible_files

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
CAPTIONS = "captions.csv"
# Whatever a file is called: for some other formats PIL starts other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
# A file may decode to 256 MiB, or to 100 times its own size: more than any photograph does.
SMALL_BYTES, _UNPACKED = 2**28, 100


def find_images(folder: str | Path) -> list[Path]:
    """The image files of a folder and its subfolders, by suffix, sorted by path.

    Left out are files whose names begin with a dot (cameras begin names with an underscore), and folders whose names
    begin with either.

    Raises:
        InputError: no such folder.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder of images")
    return sorted(path for path in visible_files(folder, hidden=".") if path.suffix.lower() in SUFFIXES)


def read_image(path: str | Path) -> Image.Image:
    """Decode an image file: upright, on white, in mode RGB or F (see `metrics.modes.as_rgb_or_float`).

    Raises:
        InputError: no such file, or no image that can be decoded.
    """
    with _opened(path) as image:
        image.load()
        return as_rgb_or_float(image)


def check_image(path: str | Path) -> None:
    """Read an image file's header, without decoding its pixels.

    Raises:
        InputError: no such file, or not an image's header.
    """
    with _opened(path):
        pass


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
            _check_file(path)
            status = path.stat()
            files.append((str(path), status.st_size, status.st_mtime_ns))
        return repr(files)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> Image.Image:  # type: ignore[override]  # no slices
        """The image at an index, as `read_image` decodes it."""
        return read_image(self.folder / self.names[index])


@dataclass(frozen=True)
class CaptionRow:
    """A row of a table of captions.

    Attributes:
        line: The last line of the row in the file, from 1.
        image_path: The image's path as the table has it, relative to the table's folder.
        image: The image's real path.
        text: The caption; empty only where `read_caption_table` allows it.
    """

    line: int
    image_path: str
    image: str
    text: str


def read_caption_table(path: str | Path, allow_empty: bool = False) -> list[CaptionRow]:
    """The rows of a CSV file with the columns image_path (relative to the file's folder) and text_en.

    Args:
        path: The file, UTF-8.
        allow_empty: Whether text_en may be empty.

    Raises:
        InputError: a file that cannot be read, a missing column, or an empty field.
    """
    _check_file(path)
    found = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            absent = {"image_path", "text_en"} - set(rows.fieldnames or ())
            if absent:
                raise InputError(f"{path}: no column {min(absent)} (it needs image_path and text_en)")
            for row in rows:
                name, text = row["image_path"], row["text_en"]
                if not name or text is None or not (text or allow_empty):
                    raise InputError(f"{path}, line {rows.line_num}: image_path or text_en is empty")
                found.append(CaptionRow(rows.line_num, name, os.path.realpath(Path(path).parent / name), text))
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    return found


def read_captions(path: str | Path, images: ImageFolder) -> list[str]:
    """The captions of a folder's images, in their order.

    Args:
        path: A table for `read_caption_table`.
        images: The images that each need a caption; captions of other images are ignored.

    Raises:
        InputError: a table that cannot be read, two captions for an image, or an image without one.
    """
    texts: dict[str, str] = {}
    for row in read_caption_table(path):
        if texts.setdefault(row.image, row.text) != row.text:
            raise InputError(f"{path}, line {row.line}: a second caption for {row.image_path}")
    captions = []
    for name in images.names:
        image = images.folder / name
        if os.path.realpath(image) not in texts:
            raise InputError(f"{image}: no caption in {path}")
        captions.append(texts[os.path.realpath(image)])
    return captions


def text_beside(image: Path) -> str | None:
    """The text of the .txt file beside an image; None where there is none, or it is empty.

    Raises:
        InputError: the file cannot be read as UTF-8.
    """
    path = image.with_suffix(".txt")
    if not os.path.isfile(path):
        return None
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from error


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """An image file whose header is read; an error while decoding it names the file."""
    _check_file(path)
    try:
        with Image.open(path, formats=_FORMATS) as image:
            size, claimed = os.path.getsize(path), 3 * image.width * image.height
            if claimed > max(SMALL_BYTES, _UNPACKED * size):
                raise ValueError(
                    f"corrupt: declared size, {image.width} x {image.height} pixels, exceeds the file's {size:,} bytes"
                )
            yield image
    except Exception as error:
        # Damaged bytes lead decoders to errors of any kind: struct.error, IndexError, MemoryError, ...
        raise InputError(f"{path}: cannot be read as an image ({str(error) or type(error).__name__})") from error


def _check_file(path: str | Path) -> None:
    # From a pipe or a device one might read for ever.
    if not os.path.isfile(path):
        raise InputError(f"{path}: {'not a file' if os.path.exists(path) else 'no such file'}")
