"""Folders of images -> float32 rows of pixels, with their captions; a small set cut from two sample photographs."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dploss.data import BUILTIN, Vectors
from dploss.data.vectors import fingerprint_of
from dploss.errors import InputError
from dploss.files.untrusted import check_claim, decoding, regular_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
CAPTIONS = "captions.csv"
# Whatever a file is called: for some other formats PIL starts other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_OPAQUE = ("1", "L", "RGB", "CMYK", "YCbCr")
_CROP, _STRIDE = 64, 24
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

    captions: tuple[str | None, ...]
    image_size: int


def open_images(source: str | Path = BUILTIN, image_size: int = 64, limit: int | None = None) -> Images:
    """Read images, each cropped to its middle square and resized.

    Captions come from captions.csv in the folder (image_path,text_en; paths relative to it), else from a .txt beside
    the image, else from the subfolder that the image is in.

    Args:
        source: "builtin", crops of the photographs that scikit-learn ships (neighbouring crops overlap); or a folder,
            searched with its subfolders, in the order of the paths.
        image_size: pixels along a side.
        limit: only the first so many images.

    Raises:
        InputError: no folder, fewer than three images in it, or one that cannot be read; the message names it.
    """
    name = str(source)
    if name == BUILTIN:
        crops = list(_builtin_crops())[:limit]
        pictures, captions = [crop for crop, _ in crops], [caption for _, caption in crops]
    else:
        folder = Path(name)
        if not os.path.isdir(folder):
            raise InputError(f"{name}: no such folder of images")
        found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        paths = sorted(path for path in found if not path.is_dir())[:limit]
        known = _captions(folder)
        pictures = paths
        captions = [
            known.get(os.path.realpath(path)) or _text_beside(path) or _class_of(path, folder) for path in paths
        ]
    if len(pictures) < 3:
        raise InputError(f"{name}: {len(pictures)} images in it, training needs at least 3 ({', '.join(SUFFIXES)})")
    try:
        rows = np.empty((len(pictures), 3 * image_size**2), np.float32)
    except (MemoryError, ValueError) as error:
        raise InputError(f"{name}: {len(pictures)} images of --image-size {image_size}: {error}") from error
    for row, picture in zip(rows, pictures, strict=True):
        row[:] = _pixels(picture, image_size)
    source = name if name == BUILTIN else str(Path(name).absolute())
    return Images(rows, source, fingerprint_of(name, rows), tuple(captions), image_size)


def as_picture(row: np.ndarray, image_size: int) -> Image.Image:
    """One row of pixels as a picture; values outside 0..1 are cut off."""
    pixels = row.reshape(3, image_size, image_size).transpose(1, 2, 0)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of one height as one."""
    both = Image.new("RGB", (left.width + right.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both


def _pixels(picture: Path | Image.Image, image_size: int) -> np.ndarray:
    with decoding(picture, "not a readable image"):
        image = picture
        if isinstance(picture, Path):
            image = Image.open(regular_file(picture), formats=_FORMATS)
            check_claim(picture, 3 * image.width * image.height)
            image.load()
        # Alpha goes on white; a photograph is turned as its camera says.
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode not in _OPAQUE or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BICUBIC)
    return (np.asarray(image, np.float32) / 255).transpose(2, 0, 1).reshape(-1)


def _builtin_crops() -> Iterator[tuple[Image.Image, str]]:
    from sklearn.datasets import load_sample_image

    for name, caption in _PHOTOGRAPHS.items():
        photograph = Image.fromarray(load_sample_image(name))
        for picture in (photograph, photograph.reduce(2)):
            for top in range(0, picture.height - _CROP + 1, _STRIDE):
                for left in range(0, picture.width - _CROP + 1, _STRIDE):
                    yield picture.crop((left, top, left + _CROP, top + _CROP)), caption


def _captions(folder: Path) -> dict[str, str]:
    """What captions.csv says, by the images' real paths."""
    path = folder / CAPTIONS
    if not os.path.isfile(path):
        return {}
    captions = {}
    with decoding(path, "not a readable table"), open(path, encoding="utf-8-sig", newline="") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            if not line.get("image_path") or line.get("text_en") is None:
                raise InputError(f"{path}: line {number} lacks image_path or text_en")
            captions[os.path.realpath(folder / line["image_path"])] = line["text_en"]
    return captions


def _text_beside(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    with decoding(beside, "not readable text"):
        return beside.read_text(encoding="utf-8").strip() or None if os.path.isfile(beside) else None


def _class_of(path: Path, folder: Path) -> str | None:
    return path.parent.name if path.parent != folder else None
