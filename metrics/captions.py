"""Captions of images: tables of them, and texts beside the images."""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from metrics.decoding import check_file
from metrics.errors import InputError
from metrics.folders import ImageFolder

CAPTIONS = "captions.csv"


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
    check_file(path)
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
