"""PIL's many image modes, reduced to two: 8-bit RGB and floating-point grey."""

import numpy as np
from PIL import Image, ImageOps

_WITH_ALPHA = ("P", "PA", "LA", "RGBA", "RGBa")
_MOST_OF_16_BITS = 65535


def as_rgb_or_float(image: Image.Image) -> Image.Image:
    """The image in mode RGB or, where it is grey of more than 8 bits, in mode F with values within 0..1.

    It is rotated as its EXIF orientation says. Transparent pixels are laid on white. 16-bit values are divided by
    65535, floating-point values kept. The argument is not changed.

    Raises:
        ValueError: integers outside 0..65535, or floating-point values outside 0..1 or not finite.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return _scaled_16_bits(image)
    if image.mode == "F":
        _check_range(np.asarray(image), "floating-point values", 1)
        return image
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image, mask=image.getchannel("A"))
        return canvas
    return image.convert("RGB")


def _scaled_16_bits(image: Image.Image) -> Image.Image:
    # Modes I;16, I;16B, ... and, of older versions of PIL and of 32-bit files, I; convert("RGB") would clip at 255.
    values = np.asarray(image)
    _check_range(values, "integers", _MOST_OF_16_BITS)
    grey = values.astype(np.float32) / np.float32(_MOST_OF_16_BITS)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 1
    return Image.fromarray(grey)


def _check_range(values: np.ndarray, what: str, most: int) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"some {what} are not finite")
    low, high = values.min(), values.max()
    if low < 0 or high > most:
        raise ValueError(f"{what} must lie within 0..{most}, found {low:.6g}..{high:.6g}")
