"""Convert images of any kind to one form: uint8 tensors of shape (3, height, width)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from metrics.errors import InputError
from metrics.modes import as_rgb_or_float

CHANNELS = (1, 3, 4)


def as_sequence(images: Any) -> Sequence[Any]:
    """Images as an object with a length and an index.

    A single image becomes a list of one: a PIL image, or a tensor or array of 2 or 3 dimensions. What has a length and
    an index (a list, a folder, a tensor or array of 4 dimensions) is returned unread; other iterables become a list.
    """
    if isinstance(images, Image.Image) or (isinstance(images, Tensor | np.ndarray) and images.ndim < 4):
        return [images]
    if hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        return images
    return list(images)


def to_image(image: Any, name: object = 0) -> Tensor:
    """One image as a uint8 tensor of shape (3, height, width).

    Args:
        image: A PIL image of any mode, or a tensor or array: uint8, or floating point within 0..1. Of 2 dimensions it
            is grey. Of 3, the channels' axis is the one of length 1, 3 or 4: a tensor's first if that fits, otherwise
            its last; an array's last if that fits, otherwise its first. One channel is grey, four are RGB and alpha;
            transparent pixels are laid on white. A PIL image is rotated as its EXIF orientation says.
        name: What an error calls the image, such as its index.

    Raises:
        InputError: another type or shape, or values that are not finite or outside their range.
    """
    if isinstance(image, Image.Image):
        try:
            image = np.array(as_rgb_or_float(image))
        except Exception as error:
            # PIL decodes lazily, and damaged bytes lead decoders to errors of any kind.
            raise InputError(f"image {name}: cannot be read ({str(error) or type(error).__name__})") from error
        channels_first = False
    elif isinstance(image, Tensor):
        image, channels_first = image.detach().cpu(), True
    elif isinstance(image, np.ndarray):
        channels_first = False
    else:
        raise InputError(f"image {name}: {type(image).__name__} is no PIL image, tensor or array")
    return _three_channels(_bytes(_channels_first(torch.as_tensor(image), channels_first, name), name))


def _channels_first(image: Tensor, prefer_first: bool, name: object) -> Tensor:
    if image.ndim == 2:
        image = image[None]
    elif image.ndim == 3:
        first, last = image.shape[0] in CHANNELS, image.shape[2] in CHANNELS
        if last and not (first and prefer_first):
            image = image.movedim(2, 0)
    if image.ndim != 3 or image.shape[0] not in CHANNELS or 0 in image.shape:
        raise InputError(f"image {name}: shape {tuple(image.shape)} has no axis of 1, 3 or 4 channels")
    return image


def _bytes(image: Tensor, name: object) -> Tensor:
    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point():
        raise InputError(f"image {name}: values must be uint8 or floating-point, got {image.dtype}")
    if not torch.isfinite(image).all():
        raise InputError(f"image {name}: some floating-point values are not finite")
    low, high = image.min().item(), image.max().item()
    if low < 0 or high > 1:
        raise InputError(f"image {name}: floating-point values must lie within 0..1, found {low:.4g}..{high:.4g}")
    return (image.double() * 255).round().to(torch.uint8)


def _three_channels(image: Tensor) -> Tensor:
    if image.shape[0] == 1:
        return image.repeat(3, 1, 1)
    if image.shape[0] == 4:
        alpha = image[3].double() / 255
        return (image[:3] * alpha + 255 * (1 - alpha)).round().to(torch.uint8)
    return image.clone(memory_format=torch.contiguous_format)


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """The image at another size: bicubic with antialiasing, uint8 (3, height, width)."""
    if image.shape[1:] == (height, width):
        return image
    result = F.interpolate(image[None].float(), (height, width), mode="bicubic", antialias=True)
    return result[0].round().clamp(0, 255).to(torch.uint8)


def batches(images: Sequence[Any], size: int, prefix: str = "") -> Iterator[tuple[list[int], Tensor]]:
    """Images in batches of one height and width; at most `size` images are held at a time.

    Args:
        images: Images as `to_image` takes them, read by index.
        size: The most images in a batch. Images of different sizes in pixels become several smaller batches.
        prefix: Put before an image's index in errors.

    Yields:
        The images' indices in the sequence, and the images: uint8 (n, 3, height, width).
    """
    for start in range(0, len(images), size):
        groups: dict[torch.Size, list[tuple[int, Tensor]]] = {}
        for index in range(start, min(start + size, len(images))):
            image = to_image(images[index], f"{prefix}{index}")
            groups.setdefault(image.shape, []).append((index, image))
        for group in groups.values():
            yield [index for index, _ in group], torch.stack([image for _, image in group])
