"""JPEGs decoded by simplejpeg, where it is installed: bit for bit PIL's pixels, in four fifths of the time.

Both are libjpeg-turbo; PIL hands it the file in pieces, and the pixels on once more. Knows nothing of what may be wrong
with a file: whatever is not in perfect order is left to PIL, which says so or mends it.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image


def decoded(data: bytes, opened: "PIL.Image.Image", whole: tuple[int, int]) -> "npt.NDArray[np.uint8] | None":
    """RGB pixels of `data`, not turned upright, in the size that PIL's `opened` has after `draft`.

    `whole` is the size that it had before. None where PIL is to do it.
    """
    simplejpeg = _simplejpeg()
    if simplejpeg is None or opened.mode not in {"L", "RGB"}:
        return None
    (width, height), at_least = opened.size, {}
    if opened.size != whole:
        at_least = {"min_width": width, "min_height": height}
    try:
        # hostile files have a size for each reader: this one must not allocate what PIL would have refused
        if simplejpeg.decode_jpeg_header(data)[:2] != whole[::-1]:
            return None
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", **at_least)
    except ValueError:  # warnings too, which PIL lets pass
        return None
    return pixels if pixels.shape == (height, width, 3) else None


@cache
def _simplejpeg() -> Any:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg
