"""Images: the original encoded bytes, decoded on demand.

Knows how any ordinary image file becomes the 8-bit RGB that models see. Does not know where the bytes are stored.
"""

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mmsynth import jpeg
from mmsynth.errors import ImageError
from mmsynth.image_formats import EXTENSIONS, formats, why_unreadable
from mmsynth.rgb import BROKEN, orientation_of, to_rgb, turned, upright_size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

    Decoded = PIL.Image.Image | npt.NDArray[np.uint8]

R = TypeVar("R")

#: larger images are refused before decoding (the limit at which PIL warns: about 89 megapixels)
MAX_PIXELS = 89_478_485
#: larger files are refused before they are read: no image within the pixel limit needs so many bytes
MAX_FILE_BYTES = 2**30


class _Room:
    """A limit on the pixels that all threads together decode at once."""

    def __init__(self, pixels: int) -> None:
        self._left = pixels
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for `pixels`, and hold it during the block."""
        with self._changed:
            self._changed.wait_for(lambda: pixels <= self._left)
            self._left -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._left += pixels
                self._changed.notify_all()


#: a decoder takes up to 20 bytes a pixel while it works (WebP)
room = _Room(2 * MAX_PIXELS)


class Image:
    """One image: `data` holds the encoded bytes, and `pixels()` decodes them as RGB.

    `Image.from_file(path)` reads the file on first use, in the thread that uses it. A renderer makes an image with
    `Image.from_pixels(picture)`. The engine then encodes it once, in the recipe's format, so that every later stage
    judges the picture that is written.
    """

    def __init__(self, data: bytes) -> None:
        self._data: bytes | None = data
        self._path: Path | None = None
        self._drawn: PIL.Image.Image | None = None
        self._decoded = False

    @classmethod
    def from_file(cls, path: str | Path) -> "Image":
        """The image in a file, read on demand."""
        image = cls(b"")
        image._data, image._path = None, Path(path) if isinstance(path, str) else path
        return image

    @classmethod
    def from_pixels(cls, pixels: "PIL.Image.Image") -> "Image":
        """A newly drawn image, not encoded yet."""
        image = cls(b"")
        image._data, image._drawn = None, pixels
        return image

    @property
    def is_drawn(self) -> bool:
        """Whether it was drawn and is not encoded yet."""
        return self._drawn is not None

    @property
    def data(self) -> bytes:
        """The encoded bytes. A drawn image that is not encoded yet gives a PNG.

        Raises ImageError(`image_unreadable` | `image_too_large`) if the file cannot be read.
        """
        if self._data is None and self._path is not None:
            try:
                with self._path.open("rb") as file:
                    if file.seek(0, os.SEEK_END) > MAX_FILE_BYTES:
                        raise ImageError("image_too_large", f"the file is over {MAX_FILE_BYTES:,} bytes")
                    file.seek(0)
                    self._data = file.read()
            except (OSError, ValueError) as error:
                raise ImageError("image_unreadable", str(error)) from error
        return self._data if self._data is not None else self.encoded("png").data

    def encoded(self, format: str, quality: int = 95) -> "Image":
        """The picture encoded as `format` (jpg, png, webp). An image that is already encoded is returned unchanged."""
        if self._drawn is None:
            return self
        buffer = io.BytesIO()
        if format == "png":
            self._drawn.save(buffer, "PNG")
        elif format == "jpg":
            # 4:4:4, because small drawn images lose colour with the usual 4:2:0
            to_rgb(self._drawn).save(buffer, "JPEG", quality=quality, subsampling=0)
        else:
            self._drawn.save(buffer, "WEBP", quality=quality)
        image = Image(buffer.getvalue())
        image._decoded = True  # our own encoder wrote it
        return image

    @property
    def bytes_held(self) -> int:
        """The number of encoded bytes in memory. 0 for a file that was not read yet."""
        return len(self._data or b"")

    @cached_property
    def _header(self) -> tuple[str, int, int]:
        """Format, width and height as displayed (EXIF rotation applied), from the header alone."""
        if self._drawn is not None:
            return "PNG", self._drawn.width, self._drawn.height
        with self.opened() as opened:
            return opened.format or "", *upright_size(opened)

    @property
    def format(self) -> str:
        """PIL's name of the format, by content, not by file name: JPEG, PNG, WEBP, …"""
        return self._header[0]

    @property
    def extension(self) -> str:
        """The extension in a shard: jpg, png, webp, gif, bmp, tiff, avif."""
        return EXTENSIONS.get(self.format, self.format.lower())

    @property
    def has_header(self) -> bool:
        """Whether it starts with a picture's header. Reads nothing else."""
        try:
            return bool(self._header)
        except ImageError:
            return False

    @property
    def width(self) -> int:
        return self._header[1]

    @property
    def height(self) -> int:
        return self._header[2]

    def pixels(self, at_least: int | None = None) -> "PIL.Image.Image":
        """The picture as RGB: upright, first frame, 16-bit scaled to 8, transparency on white.

        With `at_least`, a JPEG may come at a half, a quarter or an eighth of its size, with no side below so many
        pixels. The decoder then computes averages instead of pixels, in a fraction of the time.
        Raises ImageError(`image_empty` | `image_unreadable` | `image_truncated` | `image_too_large`).
        """
        return self._load(at_least, _picture)

    def array(self, at_least: int | None = None) -> "npt.NDArray[np.uint8]":
        """`pixels()` as an array height × width × 3, with as few copies as possible. May be read-only."""
        return self._load(at_least, _array)

    def verify(self) -> None:
        """Decode the image once, if it was not decoded yet. Raises the ImageError that `pixels()` would."""
        if not self._decoded:
            self._load(1, _check_rgb)  # as small as possible: the decoder reads every byte anyway

    def _load(self, at_least: int | None, finish: "Callable[[Decoded], R]") -> R:
        """The result of `finish` for the decoded picture. Raises ImageError."""
        if self._drawn is not None:
            return finish(self._drawn)
        with self.opened() as opened, decoding():
            # keep the header, so that asking for the size later does not open the file again
            self.__dict__.setdefault("_header", (opened.format or "", *upright_size(opened)))
            whole = opened.size
            if at_least is not None and opened.format == "JPEG":
                opened.draft(None, (at_least, at_least))
            with room.taken(opened.width * opened.height):
                finished = finish(_decoded(opened, self.data, whole))
            self._decoded = True
            return finished

    def opened(self) -> "PIL.Image.Image":
        """The file opened by PIL, nothing decoded yet. Decode it within `decoding()`. Raises ImageError."""
        import PIL.Image

        data = self.data
        if not data:
            raise ImageError("image_empty", "the file has no bytes")
        _silence_bomb_warning()
        # catch the warning too, in case the user turns warnings into errors
        too_large = (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning)
        try:
            opened = PIL.Image.open(io.BytesIO(data), formats=formats())
        except too_large as error:
            raise ImageError("image_too_large", str(error)) from error
        except BROKEN as error:
            if _is_truncation(error):
                raise ImageError("image_truncated", "the header is cut short") from error
            raise ImageError("image_unreadable", why_unreadable(data)) from error
        if opened.width * opened.height > MAX_PIXELS:
            raise ImageError("image_too_large", f"{opened.width}×{opened.height} is over {MAX_PIXELS:,} pixels")
        return opened

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __repr__(self) -> str:
        if self._data is not None:
            return f"Image({len(self._data):,} bytes)"
        return f"Image({self._path})" if self._path else "Image(drawn, not encoded)"

    def __getstate__(self) -> dict[str, object]:
        return {"_data": self._data, "_path": self._path, "_drawn": self._drawn, "_decoded": self._decoded}


@cache
def _silence_bomb_warning() -> None:
    """Silence PIL's warning about huge images. This module refuses them, as a counted failure."""
    import PIL.Image

    warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)


@contextmanager
def decoding() -> Iterator[None]:
    """Turn the errors that PIL raises while decoding a broken file into ImageError."""
    try:
        yield
    except BROKEN as error:
        reason = "image_truncated" if _is_truncation(error) else "image_unreadable"
        raise ImageError(reason, str(error)) from error


def _decoded(opened: "PIL.Image.Image", data: bytes, whole: tuple[int, int]) -> "Decoded":
    """An upright RGB array if `jpeg` can decode the file, else the opened picture, loaded."""
    pixels = jpeg.decoded(data, opened, whole) if opened.format == "JPEG" else None
    if pixels is None:
        opened.load()
        return opened
    orientation = orientation_of(opened)
    if orientation == 1:
        return pixels
    import numpy as np
    import PIL.Image

    return np.asarray(turned(PIL.Image.fromarray(pixels), orientation))


def _picture(decoded: "Decoded") -> "PIL.Image.Image":
    import PIL.Image

    return to_rgb(decoded) if isinstance(decoded, PIL.Image.Image) else PIL.Image.fromarray(decoded)


def _array(decoded: "Decoded") -> "npt.NDArray[np.uint8]":
    import numpy as np

    return decoded if isinstance(decoded, np.ndarray) else np.asarray(to_rgb(decoded))


def _check_rgb(decoded: "Decoded") -> None:
    """Raise what `to_rgb` would raise. Grey and RGB pictures always convert."""
    import PIL.Image

    if isinstance(decoded, PIL.Image.Image) and decoded.mode not in {"L", "RGB"}:
        to_rgb(decoded)


def _is_truncation(error: BaseException) -> bool:
    text = str(error).lower()
    return "truncated" in text or "eof" in text or "broken data stream" in text or "not enough" in text
