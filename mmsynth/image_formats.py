"""The image formats that mmsynth reads, and their names among file and member extensions."""

from functools import cache

#: PIL's name of a format → its file extension
EXTENSIONS = {
    **{"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"},
    "AVIF": "avif",
}
#: extensions of picture members; if a sample has several, the first in this order is its main picture
MEMBER_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
#: PIL tries no other formats, because some run other programs (EPS) or accept almost any bytes (TGA)
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_AVIF = (b"ftypavif", b"ftypavis")


@cache
def formats() -> tuple[str, ...]:
    """PIL's names of the formats to read."""
    return _FORMATS if _reads_avif() else tuple(name for name in _FORMATS if name != "AVIF")


def why_unreadable(data: bytes) -> str:
    """The message for a file in none of these formats."""
    if data[4:12] in _AVIF and not _reads_avif():
        return "AVIF needs Pillow 11.3 or newer: pip install -U pillow"
    return f"no {', '.join(_FORMATS)} that PIL can read"


@cache
def _reads_avif() -> bool:
    import PIL.features

    return "avif" in PIL.features.modules and PIL.features.check("avif") is True
