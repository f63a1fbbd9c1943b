"""Image files, decoded: the one reader of images in this repository; it needs neither torch nor dploss."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from metrics.errors import InputError
from metrics.modes import as_rgb_or_float

# Whatever a file is called: for some other formats PIL starts other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
# A file may decode to 256 MiB, or to 100 times its own size: more than any photograph does.
SMALL_BYTES, _UNPACKED = 2**28, 100


class UnreadableImage(InputError):  # noqa: N818 -- an image, among many that can be read
    """A file that cannot be read as an image.

    Attributes:
        reason: Why not, without the file's name.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: cannot be read as an image ({reason})")
        self.reason = " ".join(reason.split())


def read_image(path: str | Path) -> Image.Image:
    """Decode an image file: upright, on white, in mode RGB or F (see `metrics.modes.as_rgb_or_float`).

    Raises:
        UnreadableImage: no such file, or no image that can be decoded.
    """
    with _opened(path) as image:
        image.load()
        return as_rgb_or_float(image)


def check_image(path: str | Path) -> None:
    """Read an image file's header, without decoding its pixels.

    Raises:
        UnreadableImage: no such file, or not an image's header.
    """
    with _opened(path):
        pass


def check_file(path: str | Path) -> None:
    """Refuse a path that is no regular file.

    Raises:
        InputError: no such file, or a folder, a pipe, a device.
    """
    if trouble := _no_file(path):
        raise InputError(f"{path}: {trouble}")


def _no_file(path: str | Path) -> str | None:
    # From a pipe or a device one might read for ever.
    return None if os.path.isfile(path) else "not a file" if os.path.exists(path) else "no such file"


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """An image file whose header is read; an error while decoding it names the file."""
    if trouble := _no_file(path):
        raise UnreadableImage(path, trouble)
    try:
        with warnings.catch_warnings():
            # Of damaged EXIF, say: what keeps an image from being read is an error.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                size, claimed = os.path.getsize(path), 3 * image.width * image.height
                if claimed > max(SMALL_BYTES, _UNPACKED * size):
                    raise ValueError(
                        f"corrupt: declared size, {image.width} x {image.height} pixels, exceeds the file's {size:,} "
                        "bytes"
                    )
                yield image
    except Exception as error:
        # Damaged bytes lead decoders to errors of any kind: struct.error, IndexError, MemoryError, ...
        raise UnreadableImage(path, _reason(path, error)) from error


def _reason(path: str | Path, error: Exception) -> str:
    """What an error says, without the file's name."""
    if isinstance(error, UnidentifiedImageError):
        return f"not a {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}" if os.path.getsize(path) else "an empty file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
