"""Folders of images -> float32 rows of pixels, with their captions; a small set cut from two sample photographs.

Files are found and decoded by `metrics.folders`, which needs no torch, so that training and metrics read them alike.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from dploss.data import BUILTIN, Vectors
from dploss.data.vectors import fingerprint_of, local_name
from dploss.errors import InputError, SettingError
from dploss.text import counted
from metrics.errors import InputError as MetricsInputError
from metrics.folders import CAPTIONS, SUFFIXES, find_images, read_caption_table, read_image, text_beside

_CROP, _STRIDE = 64, 24
# Pixels high; images of 32 or 64 would be stamps on a screen.
_SMALLEST_SHOWN = 256
_PHOTOGRAPHS = {
    "china.jpg": "a photograph of a Chinese temple",
    "flower.jpg": "a photograph of a pink flower",
}


@dataclass(frozen=True)
class Images(Vectors):
    """Images as vectors: rows (N, 3 * S * S) float32 in 0..1, channels first.

    Attributes:
        captions: a text for each row, its caption or its class; None where it has none.
        image_size: S, pixels along a side.
    """

    rows: np.ndarray
    captions: tuple[str | None, ...]
    image_size: int


def open_images(source: str | Path = BUILTIN, image_size: int = 64, limit: int | None = None) -> Images:
    """Read images, each cropped to its middle square and resized.

    Captions come from captions.csv in the folder (image_path,text_en; paths relative to it), else from a .txt beside
    the image, else from the subfolder that the image is in.

    Args:
        source: "builtin", crops of the photographs that scikit-learn ships (neighbouring crops overlap); or a folder,
            searched with its subfolders, in the order of the paths, without hidden files and folders.
        image_size: pixels along a side.
        limit: only the first `limit` images.

    Raises:
        InputError: no folder, fewer than three images in it, or a file that cannot be read; the message names it.
    """
    name = local_name(source)
    images: Sequence[Path | Image.Image]
    captions: Sequence[str | None]
    if name == BUILTIN:
        crops = list(_builtin_crops())[:limit]
        images, captions = [crop for crop, _ in crops], [caption for _, caption in crops]
    else:
        with metrics_errors():
            images = paths = find_images(name)[:limit]
            captions = _captions(Path(name), paths)
    if len(images) < 3:
        held = counted(len(images), "image")
        raise InputError(f"{name}: {held} in it, training needs at least 3 ({', '.join(SUFFIXES)})")
    try:
        rows = np.empty((len(images), 3 * image_size**2), np.float32)
    except (MemoryError, ValueError) as error:
        template = "{name}: {n} images of {image_size} {size}: {error}"
        raise SettingError(template, name=name, n=len(images), size=image_size, error=error) from error
    for row, image in zip(rows, images, strict=True):
        if isinstance(image, Path):
            with metrics_errors():
                image = read_image(image)
        row[:] = _pixels(image, image_size)
    source = name if name == BUILTIN else str(Path(name).absolute())
    return Images(rows, source, fingerprint_of(name, rows), tuple(captions), image_size)


@contextmanager
def metrics_errors() -> Iterator[None]:
    """Raise an InputError of `metrics` as dploss's own, with the same message."""
    try:
        yield
    except MetricsInputError as error:
        raise InputError(str(error)) from error


def as_image(row: np.ndarray, image_size: int) -> Image.Image:
    """One row of pixels, (3 * S * S,), as an image; values are clipped to 0..1."""
    pixels = row.reshape(3, image_size, image_size).transpose(1, 2, 0)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))


def comparison(reference: Image.Image, generated: Image.Image) -> Image.Image:
    """Two images of one size side by side, a label above each; small ones enlarged, every pixel to a square."""
    factor = -(-_SMALLEST_SHOWN // reference.height)
    width, height = factor * reference.width, factor * reference.height
    letters = max(16, height // 32)
    label, gap, font = 3 * letters // 2, letters // 4, ImageFont.load_default(letters)
    both = Image.new("RGB", (2 * width + gap, label + height), "white")
    draw = ImageDraw.Draw(both)
    for left, text, image in ((0, "reference", reference), (width + gap, "generated", generated)):
        draw.text((left + width // 2, label // 2), text, "black", font, anchor="mm")
        both.paste(image.resize((width, height), Image.Resampling.NEAREST), (left, label))
    return both


def _pixels(image: Image.Image, image_size: int) -> np.ndarray:
    """An RGB or F image's middle square, resized: (3 * S * S,) float32 in 0..1."""
    image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BICUBIC)
    if image.mode == "F":
        # Bicubic weights overshoot at edges; of 8 bits PIL clips the values itself.
        return np.tile(np.clip(np.asarray(image), 0, 1).reshape(-1), 3)
    return (np.asarray(image, np.float32) / 255).transpose(2, 0, 1).reshape(-1)


def _builtin_crops() -> Iterator[tuple[Image.Image, str]]:
    from sklearn.datasets import load_sample_image

    for name, caption in _PHOTOGRAPHS.items():
        photograph = Image.fromarray(load_sample_image(name))
        for image in (photograph, photograph.reduce(2)):
            for top in range(0, image.height - _CROP + 1, _STRIDE):
                for left in range(0, image.width - _CROP + 1, _STRIDE):
                    yield image.crop((left, top, left + _CROP, top + _CROP)), caption


def _captions(folder: Path, images: list[Path]) -> list[str | None]:
    """Each image's caption; an empty text in captions.csv counts as none."""
    table = {}
    if os.path.isfile(folder / CAPTIONS):
        table = {row.image: row.text for row in read_caption_table(folder / CAPTIONS, allow_empty=True)}
    return [
        table.get(os.path.realpath(image))
        or text_beside(image)
        or (image.parent.name if image.parent != folder else None)
        for image in images
    ]
