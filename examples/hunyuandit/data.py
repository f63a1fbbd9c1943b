"""Captioned images on the disk, and which of them each step trains on."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset, Sampler

from metrics import InputError

CAPTIONS = "captions.csv"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Whatever a file is called: for some other formats PIL starts other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")


@dataclass(frozen=True)
class Captioned:
    """An image's file and its caption."""

    path: Path
    caption: str


def read_captioned(source: str | Path) -> list[Captioned]:
    """Find captioned images, and look into every file's head.

    Args:
        source: a CSV file with the columns image_path (relative to the file's folder) and text_en; or a folder that
            has such a captions.csv, or else a .txt beside every image, in its subfolders too.

    Raises:
        InputError: nothing is there, an image without a caption, or a file that is no image.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if source.is_dir():
        table = source / CAPTIONS
        found = _from_table(table) if table.is_file() else _from_texts(source)
    else:
        found = _from_table(source)
    if not found:
        raise InputError(f"{source}: no captioned images in it")
    for one in found:
        _opened(one.path).close()
    return found


def spread(items: Sequence[Captioned], count: int) -> list[Captioned]:
    """Up to `count` of the items, evenly spaced: the same ones at every evaluation."""
    chosen = np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)
    return [items[place] for place in chosen]


def picture(path: Path, image_size: int) -> Image.Image:
    """An image's middle square, resized to image_size x image_size, RGB; alpha goes on white.

    Raises:
        InputError: it cannot be decoded.
    """
    with _opened(path) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
        except Exception as error:
            # Damaged bytes lead decoders to errors of any kind.
            raise _unreadable(path, error) from error
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    return ImageOps.fit(upright.convert("RGB"), (image_size, image_size), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> torch.Tensor:
    """An RGB picture as the autoencoder takes it: (3, height, width), float32 within -1..1."""
    return torch.from_numpy(np.array(image, np.float32) / 127.5 - 1).permute(2, 0, 1)


class CaptionedImages(Dataset):
    """Captioned images, read when asked for: {"pixels": (3, image_size, image_size), "caption": text}."""

    def __init__(self, items: Sequence[Captioned], image_size: int) -> None:
        self.items = items
        self.image_size = image_size

    def __len__(self) -> int:
        """How many images."""
        return len(self.items)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """The image at a place, decoded, and its caption."""
        item = self.items[place]
        return {"pixels": pixels(picture(item.path, self.image_size)), "caption": item.caption}


class Order(Sampler):
    """Which images each batch has, from any step on: one shuffled epoch after the other, without gaps.

    It follows from the arguments alone, so a resumed training sees what an undisturbed one sees.

    Args:
        images: how many there are.
        batch_size: images of one process's batch.
        batches: a step's batches, all processes' together.
        seed: of the shuffling.
        first_step: where to begin.
        process, processes: of the step's batches this process gets every `processes`-th, from number `process` on.
    """

    def __init__(
        self, images: int, batch_size: int, batches: int, seed: int, first_step: int, process: int, processes: int
    ) -> None:
        self.images, self.batch_size, self.batches, self.seed = images, batch_size, batches, seed
        self.first_step, self.process, self.processes = first_step, process, processes

    def __iter__(self) -> Iterator[list[int]]:
        """The places of a batch's images, for ever."""
        batch = self.first_step * self.batches + self.process
        epoch, shuffled = -1, np.empty(0, int)
        while True:
            places = []
            for position in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                if position // self.images != epoch:
                    epoch = position // self.images
                    shuffled = np.random.default_rng([self.seed, epoch]).permutation(self.images)
                places.append(int(shuffled[position % self.images]))
            yield places
            batch += self.processes

    def epoch(self, step: int) -> int:
        """Whole epochs that are done after so many steps."""
        return step * self.batches * self.batch_size // self.images


def _from_table(path: Path) -> list[Captioned]:
    found = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            absent = {"image_path", "text_en"} - set(rows.fieldnames or ())
            if absent:
                raise InputError(f"{path}: no column {min(absent)} (it needs image_path and text_en)")
            for row in rows:
                if not row["image_path"] or not row["text_en"]:
                    raise InputError(f"{path}, line {rows.line_num}: image_path or text_en is empty")
                image = path.parent / row["image_path"]
                if not image.is_file():
                    raise InputError(f"{path}, line {rows.line_num}: no image {image}")
                found.append(Captioned(image, row["text_en"]))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    return found


def _from_texts(folder: Path) -> list[Captioned]:
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()):
        text = path.with_suffix(".txt")
        if not text.is_file():
            raise InputError(f"{path}: no caption: neither {folder / CAPTIONS} nor {text.name} beside it")
        try:
            caption = text.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(f"{text}: no UTF-8 text ({error})") from error
        if not caption:
            raise InputError(f"{text}: the caption is empty")
        found.append(Captioned(path, caption))
    return found


def _opened(path: Path) -> Image.Image:
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file")
    try:
        return Image.open(path, formats=_FORMATS)
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: cannot be read as an image ({str(error) or type(error).__name__})")
