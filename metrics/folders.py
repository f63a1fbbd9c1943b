"""Images and captions on disk, read when they are needed."""

import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from metrics.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


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
        if not self.folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        if names is None:
            found = (
                path.relative_to(self.folder) for path in self.folder.rglob("*") if path.suffix.lower() in SUFFIXES
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
        try:
            with Image.open(path) as image:
                image.load()
                return image
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: cannot be read as an image ({error})") from error


def read_captions(path: str | Path, images: ImageFolder) -> list[str]:
    """The folder's captions, in its order.

    Args:
        path: A CSV file with the columns image_path (from the file's own folder on) and text_en.
        images: The images that each need a caption; captions of others are ignored.

    Raises:
        InputError: a file that cannot be read, a missing column, two captions for an image, an image without one.
    """
    texts: dict[Path, str] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            absent = {"image_path", "text_en"} - set(rows.fieldnames or ())
            if absent:
                raise InputError(f"{path}: no column {sorted(absent)[0]} (it needs image_path and text_en)")
            for row in rows:
                if not row["image_path"] or not row["text_en"]:
                    raise InputError(f"{path}, line {rows.line_num}: image_path or text_en is empty")
                image = (Path(path).parent / row["image_path"]).resolve()
                if texts.setdefault(image, row["text_en"]) != row["text_en"]:
                    raise InputError(f"{path}, line {rows.line_num}: a second caption for {row['image_path']}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    captions = []
    for name in images.names:
        image = images.folder / name
        if image.resolve() not in texts:
            raise InputError(f"{image}: no caption in {path}")
        captions.append(texts[image.resolve()])
    return captions
