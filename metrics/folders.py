"""Images and captions on disk, read when they are needed."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from metrics.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
# Whatever a file is called: for some other formats PIL starts other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_MANY_PIXELS, _PIXELS_A_BYTE = 2**26, 30


class ImageFolder(Sequence):
    """The images of a folder and of the folders in it, sorted by name; each is read when asked for.

    Args:
        folder: The folder.
        names: Only these files, in this order (paths below the folder); without it, all images.

    Raises:
        InputError: no such folder, or no images in it; when asked for one: a file that is no readable image.
    """

    def __init__(self, folder: str | Path, names: Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        if not os.path.isdir(folder):
            raise InputError(f"{folder}: no such folder")
        if names is None:
            found = (
                path.relative_to(self.folder)
                for path in self.folder.rglob("*")
                if path.suffix.lower() in SUFFIXES and not path.is_dir()
            )
            names = sorted(path.as_posix() for path in found if not any(part[0] == "." for part in path.parts))
            if not names:
                raise InputError(f"{folder}: no images in it ({', '.join(SUFFIXES)})")
        self.names = list(names)

    def __len__(self) -> int:
        """How many images."""
        return len(self.names)

    def __getitem__(self, place: int) -> Image.Image:
        """The image at a place, decoded."""
        path = self.folder / self.names[place]
        if not os.path.isfile(path):
            raise InputError(f"{path}: no such regular file")
        try:
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > max(_MANY_PIXELS, _PIXELS_A_BYTE * path.stat().st_size):
                    raise ValueError(f"a file this small that claims {image.size} pixels is made to fill memory")
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return image
        except Exception as error:
            # Damaged bytes lead decoders to errors of any kind: struct.error, IndexError, MemoryError, ...
            raise InputError(f"{path}: cannot be read as an image ({str(error) or type(error).__name__})") from error


def read_captions(path: str | Path, images: ImageFolder) -> list[str]:
    """The folder's captions, in its order.

    Args:
        path: A CSV file with the columns image_path (from the file's own folder on) and text_en.
        images: The images that each need a caption; captions of others are ignored.

    Raises:
        InputError: a file that cannot be read, a missing column, two captions for an image, an image without one.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such regular file")
    texts: dict[str, str] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            absent = {"image_path", "text_en"} - set(rows.fieldnames or ())
            if absent:
                raise InputError(f"{path}: no column {sorted(absent)[0]} (it needs image_path and text_en)")
            for row in rows:
                if not row["image_path"] or not row["text_en"]:
                    raise InputError(f"{path}, line {rows.line_num}: image_path or text_en is empty")
                image = os.path.realpath(Path(path).parent / row["image_path"])
                if texts.setdefault(image, row["text_en"]) != row["text_en"]:
                    raise InputError(f"{path}, line {rows.line_num}: a second caption for {row['image_path']}")
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    captions = []
    for name in images.names:
        image = images.folder / name
        if os.path.realpath(image) not in texts:
            raise InputError(f"{image}: no caption in {path}")
        captions.append(texts[os.path.realpath(image)])
    return captions
