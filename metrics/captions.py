"""Captions of images: tables of them, and texts beside the images."""

import csv
import json
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from metrics.decoding import check_file
from metrics.errors import InputError
from metrics.folders import ImageFolder

CAPTIONS = "captions.csv"
# Of Hugging Face's image folders; they need not have captions.
_METADATA = ("metadata.csv", "metadata.jsonl")
# Of the image's path and of its text.
_COLUMNS = (("image_path", "text_en"), ("file_name", "text"))


@dataclass(frozen=True)
class CaptionRow:
    """A row of a table of captions.

    Attributes:
        line: The last line of the row in the file, from 1.
        image_path: The image's path as the table has it, relative to the table's folder.
        image: The image, as `image_key` names it.
        text: The caption; empty only where `read_caption_table` allows it.
    """

    line: int
    image_path: str
    image: str
    text: str


def image_key(path: str | Path) -> str:
    """The real path of an image; letters that macOS takes apart (Hangul, accents) are composed, as people type them."""
    return unicodedata.normalize("NFC", os.path.realpath(path))


def read_caption_table(path: str | Path, allow_empty: bool = False) -> list[CaptionRow]:
    r"""The rows of a table with the columns image_path and text_en, or file_name and text.

    Paths are relative to the table's folder; sub\a.png is sub/a.png, unless a file is called so.

    Args:
        path: A CSV file, or a .jsonl file with an object on every line; UTF-8.
        allow_empty: Whether the text may be empty.

    Raises:
        InputError: a file that cannot be read, a missing column, or an empty field.
    """
    return _caption_rows(path, *_read(path), allow_empty)


def table_in(folder: Path, allow_empty: bool = False) -> tuple[Path, list[CaptionRow]] | None:
    """The table of captions in a folder of images: captions.csv, else a metadata.csv or .jsonl with the column text.

    Args:
        folder: The folder.
        allow_empty: Whether the text may be empty.

    Returns:
        The file and its rows; None where there is none.

    Raises:
        InputError: see `read_caption_table`.
    """
    if os.path.isfile(folder / CAPTIONS):
        return folder / CAPTIONS, read_caption_table(folder / CAPTIONS, allow_empty)
    for path in (folder / name for name in _METADATA):
        if os.path.isfile(path):
            columns, records = _read(path)
            if "text" in columns:
                return path, _caption_rows(path, columns, records, allow_empty)
    return None


def read_captions(path: str | Path, images: ImageFolder) -> tuple[list[str | None], str | None]:
    """The captions of a folder's images, in their order.

    A caption belongs to the image at its path. An image without one gets that of an image elsewhere (its reference,
    say) that has its name: the same path below the folder, else the same file name, else the same without the suffix.

    Args:
        path: A table for `read_caption_table`.
        images: The images.

    Returns:
        Each image's caption, None where it has none; and a line about captions of images that are nowhere.

    Raises:
        InputError: a table that cannot be read, two captions for an image, or several images whose name fits.
    """
    texts: dict[str, str] = {}
    rows = read_caption_table(path)
    for row in rows:
        if texts.setdefault(row.image, row.text) != row.text:
            raise InputError(f"{path}, line {row.line}: a second caption for {row.image_path}")
    keys = [image_key(images.folder / name) for name in images.names]
    known = {*keys}
    elsewhere = defaultdict(list)
    for row in rows:
        if row.image not in known:
            elsewhere[PurePosixPath(row.image).stem].append(row)
    captions: list[str | None] = []
    for key, name in zip(keys, images.names, strict=True):
        fitting = [] if key in texts else _of_name(name, elsewhere[PurePosixPath(key).stem])
        if len({row.text for row in fitting}) > 1:
            one, other, *_ = dict.fromkeys(row.image_path for row in fitting)
            raise InputError(f"{path}: {images.folder / name} may be {one} or {other}: both have its name")
        known |= {row.image for row in fitting}
        captions.append(fitting[0].text if fitting else texts.get(key))
    return captions, unmatched_line(path, rows, lambda row: row.image in known or os.path.exists(row.image))


def unmatched_line(path: str | Path, rows: Sequence[CaptionRow], matches: Callable[[CaptionRow], bool]) -> str | None:
    """That captions belong to no image; None where all do."""
    unmatched = [row for row in rows if not matches(row)]
    if not unmatched:
        return None
    return f"{path}: {len(unmatched):,} of {len(rows):,} captions match no image (first: {unmatched[0].image_path})"


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


def _of_name(name: str, rows: list[CaptionRow]) -> list[CaptionRow]:
    """The rows, of images of one stem, that fit best."""
    wanted = PurePosixPath(unicodedata.normalize("NFC", name))
    below = [row for row in rows if PurePosixPath(row.image).parts[-len(wanted.parts) :] == wanted.parts]
    return below or [row for row in rows if PurePosixPath(row.image).name == wanted.name] or rows


def _read(path: str | Path) -> tuple[Collection[str], list[tuple[int, dict[str, Any]]]]:
    """The columns of a table, and the line and the fields of every row."""
    check_file(path)
    form = "JSON lines" if Path(path).suffix.lower() == ".jsonl" else "CSV"
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            if form == "CSV":
                rows = csv.DictReader(file, strict=True)
                return rows.fieldnames or (), [(rows.line_num, row) for row in rows]
            objects = [(line, json.loads(text)) for line, text in enumerate(file, 1) if text.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as {form} ({error})") from error
    for line, fields in objects:
        if not isinstance(fields, dict):
            raise InputError(f"{path}, line {line}: not a JSON object")
    empty = {name: "" for _, fields in objects for name in fields}
    return empty, [(line, empty | {name: value for name, value in fields.items() if value}) for line, fields in objects]


def _caption_rows(
    path: str | Path, columns: Collection[str], records: list[tuple[int, dict[str, Any]]], allow_empty: bool
) -> list[CaptionRow]:
    image, text = next((pair for pair in _COLUMNS if pair[0] in columns), _COLUMNS[0])
    if image not in columns:
        raise InputError(f"{path}: no column {image} (it needs image_path and text_en, or file_name and text)")
    if text not in columns:
        raise InputError(f"{path}: no column {text} (it needs {image} and {text})")
    folder, found = Path(path).parent, []
    for line, fields in records:
        name, caption = fields[image], fields[text]
        if not isinstance(name, str) or not isinstance(caption, str) or not name or not (caption or allow_empty):
            raise InputError(f"{path}, line {line}: {image} or {text} is empty, or no text")
        try:
            if "\\" in name and not os.path.exists(folder / name):
                name = name.replace("\\", "/")
            caption.encode()
            found.append(CaptionRow(line, name, image_key(folder / name), caption))
        except ValueError as error:
            # A zero byte in a path, or half a character.
            raise InputError(f"{path}, line {line}: {error}") from error
    return found
