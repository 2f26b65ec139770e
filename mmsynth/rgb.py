"""Converts any picture that PIL opens to 8-bit RGB: upright, 16 bits scaled to 8, transparency on white.

Knows pixels. Does not know where the bytes came from, nor how errors of broken files are named.
"""

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

_PIXELS_A_STRIP = 2**20
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
#: errors that PIL may raise for broken files; RuntimeError comes from its AVIF decoder
BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, OverflowError, struct.error),
    RuntimeError,
)


def orientation_of(opened: "PIL.Image.Image") -> int:
    try:
        return int(opened.getexif().get(_EXIF_ORIENTATION, 1))
    except BROKEN:
        return 1  # a broken EXIF block does not make a picture unreadable


def upright_size(opened: "PIL.Image.Image") -> tuple[int, int]:
    """Width and height as displayed, before anything is decoded."""
    width, height = opened.size
    if opened.format == "TIFF":
        # some versions of PIL give a TIFF's upright size, others the stored size; the tags have the stored size
        tags = getattr(opened, "tag_v2", {})
        width, height = int(tags.get(_TIFF_WIDTH, width)), int(tags.get(_TIFF_HEIGHT, height))
    # orientations 5 to 8 are rotated by a quarter turn
    return (height, width) if 5 <= orientation_of(opened) <= 8 else (width, height)


def turned(picture: "PIL.Image.Image", orientation: int) -> "PIL.Image.Image":
    """Turn a picture upright. PIL's exif_transpose would rewrite the EXIF block, and raise for a broken one."""
    from PIL.Image import Transpose

    method = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)
    return picture if method is None else picture.transpose(method)


def to_rgb(opened: "PIL.Image.Image") -> "PIL.Image.Image":
    import PIL.Image

    opened = turned(opened, orientation_of(opened))
    convert = _on_white if "transparency" in opened.info else _CONVERSIONS.get(opened.mode)
    if opened.mode in _DEEP:
        convert = _to_8_bits(opened)
    if convert is None:
        return opened.convert("RGB")
    if opened.width * opened.height <= _PIXELS_A_STRIP:
        return convert(opened)
    # strip by strip, or memory would hold a large picture five times
    whole = PIL.Image.new("RGB", opened.size)
    for box in _strips(opened.size):
        whole.paste(convert(opened.crop(box)), box)
    return whole


def _strips(size: tuple[int, int]) -> "Iterator[tuple[int, int, int, int]]":
    width, height = size
    rows = max(1, _PIXELS_A_STRIP // max(1, width))
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _on_white(strip: "PIL.Image.Image") -> "PIL.Image.Image":
    import PIL.Image

    rgba = strip.convert("RGBA")
    white = PIL.Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return PIL.Image.alpha_composite(white, rgba).convert("RGB")


def _to_8_bits(opened: "PIL.Image.Image") -> "Callable[[PIL.Image.Image], PIL.Image.Image]":
    """A function that scales a strip of 16- or 32-bit greys to 8 bits by the picture's range. PIL would clip at 255."""
    import numpy as np
    import PIL.Image

    def values(strip: "PIL.Image.Image") -> "npt.NDArray[np.float32]":
        return np.nan_to_num(np.asarray(strip, dtype=np.float32), posinf=0.0, neginf=0.0)

    def convert(strip: "PIL.Image.Image") -> "PIL.Image.Image":
        scaled = np.clip(values(strip) / top * 255.0, 0, 255).round().astype(np.uint8)
        return PIL.Image.fromarray(scaled).convert("RGB")

    largest = max((values(opened.crop(box)).max() for box in _strips(opened.size)), default=np.float32(0))
    usual = 1.0 if opened.mode == "F" and largest <= 1.0 else 255.0 if largest <= 255 else 65535.0
    top = max(65535.0 if opened.mode.startswith("I;16") else usual, largest)
    return convert


_DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
_CONVERSIONS: "dict[str, Callable[[PIL.Image.Image], PIL.Image.Image]]" = {
    mode: _on_white for mode in ("RGBA", "LA", "PA", "La", "RGBa")
}
