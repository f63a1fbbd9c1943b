"""PIL's many image modes, reduced to two: 8-bit RGB and floating-point grey."""

import numpy as np
from PIL import ExifTags, Image

_WITH_ALPHA = ("P", "PA", "LA", "RGBA", "RGBa")
_MOST_OF_16_BITS, _MOST_OF_8_BITS = 65535, 255
# What brings an image of each EXIF orientation upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def as_rgb_or_float(image: Image.Image) -> Image.Image:
    """The image in mode RGB or, where it is grey of more than 8 bits, in mode F with values within 0..1.

    It is rotated as its EXIF orientation says, where that can be read. Transparent pixels are laid on white. 16-bit
    grey is divided by 65535. Floating-point values up to 1 are kept; where one exceeds 1, all are divided by 255. Of
    an animation it is the first frame; of 16-bit colour PIL keeps the upper 8 bits. The argument is not changed.

    Raises:
        ValueError: integers outside 0..65535, or floating-point values outside 0..255 or not finite.
    """
    image = _upright(image)
    if image.mode.startswith("I"):
        return _scaled_16_bits(image)
    if image.mode == "F":
        return _scaled_floats(image)
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image, mask=image.getchannel("A"))
        return canvas
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """The image, turned as it was held."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        # Damaged EXIF leads PIL to errors of any kind: SyntaxError, struct.error, ...; the pixels are whole.
        return image
    # PIL's own exif_transpose also writes all of the EXIF anew, which a damaged tag beside the orientation prevents.
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _scaled_16_bits(image: Image.Image) -> Image.Image:
    # Modes I;16, I;16B, ... and, of older versions of PIL and of 32-bit files, I; convert("RGB") would clip at 255.
    values = np.asarray(image)
    _check_range(values, "integers", "0..65535", _MOST_OF_16_BITS)
    grey = values.astype(np.float32) / np.float32(_MOST_OF_16_BITS)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 1
    return Image.fromarray(grey)


def _scaled_floats(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    _check_range(values, "floating-point values", "0..1 or 0..255", _MOST_OF_8_BITS)
    return image if values.max() <= 1 else Image.fromarray(values / np.float32(_MOST_OF_8_BITS))


def _check_range(values: np.ndarray, what: str, limits: str, most: int) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"some {what} are not finite")
    low, high = values.min(), values.max()
    if low < 0 or high > most:
        raise ValueError(f"{what} must lie within {limits}, found {low:.6g}..{high:.6g}")
