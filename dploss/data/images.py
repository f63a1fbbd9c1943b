"""Folders of images -> float32 rows of pixels, with their captions; a small set cut from two sample photographs.

Files are found by `metrics.folders` and decoded by `metrics.decoding`, without torch: training and metrics read them
alike.
"""

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
from metrics.captions import image_key, table_in, text_beside, unmatched_line
from metrics.decoding import UnreadableImage, read_image
from metrics.errors import InputError as MetricsInputError
from metrics.folders import SUFFIXES, images_and_others, left_out, unreadable_line

_CROP, _STRIDE = 64, 24
_FEWEST = 3
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
        notes: what was not read of the folder, in lines.
    """

    rows: np.ndarray
    captions: tuple[str | None, ...]
    image_size: int
    notes: tuple[str, ...] = ()


class UnreadableImagesError(InputError):
    """Images among others that cannot be read; they can be skipped."""


def open_images(
    source: str | Path = BUILTIN, image_size: int = 64, limit: int | None = None, skip_bad_images: bool = False
) -> Images:
    """Read images, each cropped to its middle square and resized.

    Captions come from captions.csv in the folder (image_path,text_en; paths relative to it) or the metadata.csv or
    metadata.jsonl of a Hugging Face image folder (file_name,text), else from a .txt beside the image, else from the
    subfolder that the image is in.

    Args:
        source: "builtin", crops of the photographs that scikit-learn ships (neighbouring crops overlap); or a folder,
            searched with its subfolders, in the order of the paths, without hidden files and folders.
        image_size: pixels along a side.
        limit: only the first `limit` images, those that cannot be read included.
        skip_bad_images: whether images that cannot be read are left out.

    Raises:
        UnreadableImagesError: images that cannot be read, and are not skipped; the message names the first few.
        InputError: no folder, or fewer than three images in it that can be read.
    """
    name = local_name(source)
    if name == BUILTIN:
        crops = list(_builtin_crops())[:limit]
        rows = _empty_rows(name, len(crops), image_size)
        for row, (crop, _) in zip(rows, crops, strict=True):
            row[:] = _pixels(crop, image_size)
        return Images(rows, name, fingerprint_of(name, rows), tuple(caption for _, caption in crops), image_size)
    with metrics_errors():
        paths, others = images_and_others(name)
        captions, notes = _captions(Path(name), paths, others)
    paths = paths[:limit]
    rows = _empty_rows(name, len(paths), image_size, others)
    index, bad = _read_into(rows, Path(name), paths, image_size)
    if bad and not skip_bad_images:
        raise UnreadableImagesError(unreadable_line(name, len(paths), bad))
    if len(index) < _FEWEST:
        raise InputError(f"{unreadable_line(name, len(paths), bad)}; training needs at least {_FEWEST} that can")
    if bad:
        notes.append(f"{unreadable_line(name, len(paths), bad)}; left out")
    rows, source = rows[: len(index)], str(Path(name).absolute())
    return Images(
        rows, source, fingerprint_of(name, rows), tuple(captions[place] for place in index), image_size, tuple(notes)
    )


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


def _empty_rows(name: str, n_images: int, image_size: int, others: Sequence[Path] = ()) -> np.ndarray:
    """Memory for the pixels, (n_images, 3 * S * S) float32."""
    if n_images < _FEWEST:
        held, instead = counted(n_images, "image"), left_out((), others)
        raise InputError(
            f"{name}: {held} in it, training needs at least {_FEWEST} ({', '.join(SUFFIXES)})"
            + (f"; it has {instead}" if instead else "")
        )
    try:
        return np.empty((n_images, 3 * image_size**2), np.float32)
    except (MemoryError, ValueError) as error:
        template = "{name}: {n} images of {image_size} {size}: {error}"
        raise SettingError(template, name=name, n=n_images, size=image_size, error=error) from error


def _read_into(
    rows: np.ndarray, folder: Path, images: Sequence[Path], image_size: int
) -> tuple[list[int], dict[str, str]]:
    """Fill the first rows with the pixels of the images that can be read.

    Returns:
        The indices of these images; and why the others cannot be read, by their names.
    """
    index: list[int] = []
    bad = {}
    for place, path in enumerate(images):
        try:
            rows[len(index)] = _pixels(read_image(path), image_size)
            index.append(place)
        except UnreadableImage as error:
            bad[path.relative_to(folder).as_posix()] = error.reason
    return index, bad


def _captions(folder: Path, images: Sequence[Path], others: Sequence[Path]) -> tuple[list[str | None], list[str]]:
    """Each image's caption, an empty text in the table counts as none; and notes of what is not read."""
    table, used, notes = {}, [], []
    if found := table_in(folder, allow_empty=True):
        path, rows = found
        table, used = {row.image: row.text for row in rows}, [path]
        known = {*map(image_key, images)}
        if unmatched := unmatched_line(path, rows, lambda row: row.image in known):
            notes.append(unmatched)
    if unread := left_out(images, others, used):
        notes.append(f"{folder}: left out: {unread}")
    captions = [
        table.get(image_key(image)) or text_beside(image) or (image.parent.name if image.parent != folder else None)
        for image in images
    ]
    return captions, notes
