"""Captioned images on disk, and which of them each step trains on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset, Sampler

from dploss.data.split import evenly_spaced
from metrics import InputError
from metrics.captions import CAPTIONS, CaptionRow, read_caption_table, table_in, text_beside
from metrics.decoding import check_image, read_image
from metrics.folders import find_images
from metrics.images import to_image


@dataclass(frozen=True)
class Captioned:
    """An image file and its caption."""

    path: Path
    caption: str


def read_captioned(source: str | Path) -> list[Captioned]:
    """Find captioned images, and check the header of every file.

    Args:
        source: a CSV file with the columns image_path (relative to the file's folder) and text_en; or a folder that
            has such a captions.csv, or the metadata.csv or metadata.jsonl of a Hugging Face image folder, or else a
            .txt beside every image, in its subfolders too.

    Raises:
        InputError: no images, an image without a caption, or a file that is not an image.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if source.is_dir():
        table = table_in(source)
        found = _from_rows(*table) if table else _from_texts(source)
    else:
        found = _from_rows(source, read_caption_table(source))
    if not found:
        raise InputError(f"{source}: no captioned images in it")
    for item in found:
        check_image(item.path)
    return found


def evenly_spaced_items(items: Sequence[Captioned], most: int) -> list[Captioned]:
    """Up to `most` of the items, evenly spaced, so the same ones at every evaluation."""
    return [items[index] for index in evenly_spaced(len(items), most)]


def read_square(path: Path, image_size: int) -> Image.Image:
    """The middle square of an image file, resized to image_size x image_size, RGB.

    Raises:
        InputError: it cannot be decoded.
    """
    image = Image.fromarray(to_image(read_image(path)).movedim(0, 2).numpy())
    return ImageOps.fit(image, (image_size, image_size), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> torch.Tensor:
    """An RGB image as the input of the autoencoder: (3, height, width), float32 within -1..1."""
    return torch.from_numpy(np.array(image, np.float32) / 127.5 - 1).permute(2, 0, 1)


class CaptionedImages(Dataset):
    """Captioned images, read when indexed: {"pixels": (3, image_size, image_size), "caption": text}."""

    def __init__(self, items: Sequence[Captioned], image_size: int) -> None:
        self.items = items
        self.image_size = image_size

    def __len__(self) -> int:
        """The number of images."""
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The image at an index, decoded, and its caption."""
        item = self.items[index]
        return {"pixels": pixels(read_square(item.path, self.image_size)), "caption": item.caption}


class Order(Sampler):
    """The indices of the images of each batch, from any step on: one shuffled epoch after the other, without gaps.

    They follow from the arguments alone, so a resumed training sees the same batches as an uninterrupted one.

    Args:
        images: the number of images.
        batch_size: images in a batch of one process.
        batches: batches of a step, of all processes together.
        seed: of the shuffling.
        first_step: the first step to yield batches for.
        process, processes: this process gets every `processes`-th batch of a step, from the `process`-th on.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        *,
        batches: int,
        seed: int,
        first_step: int = 0,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.images, self.batch_size, self.batches, self.seed = images, batch_size, batches, seed
        self.first_step, self.process, self.processes = first_step, process, processes

    def __iter__(self) -> Iterator[list[int]]:
        """The indices of a batch's images, endlessly."""
        batch = self.first_step * self.batches + self.process
        epoch, shuffled = -1, np.empty(0, int)
        while True:
            indices = []
            for position in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                if position // self.images != epoch:
                    epoch = position // self.images
                    shuffled = np.random.default_rng([self.seed, epoch]).permutation(self.images)
                indices.append(int(shuffled[position % self.images]))
            yield indices
            batch += self.processes

    def epoch(self, step: int) -> int:
        """The number of whole epochs completed after a number of steps."""
        return step * self.batches * self.batch_size // self.images


def _from_rows(path: Path, rows: Sequence[CaptionRow]) -> list[Captioned]:
    found = []
    for row in rows:
        image = path.parent / row.image_path
        if not image.is_file():
            raise InputError(f"{path}, line {row.line}: no image {image}")
        found.append(Captioned(image, row.text))
    return found


def _from_texts(folder: Path) -> list[Captioned]:
    found = []
    for path in find_images(folder):
        caption = text_beside(path)
        if caption is None:
            beside = path.with_suffix(".txt").name
            raise InputError(f"{path}: no caption: neither {folder / CAPTIONS} nor {beside} beside it has one")
        found.append(Captioned(path, caption))
    return found
