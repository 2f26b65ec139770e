"""The image formats that are read, and the names that files and members of a tar have for them."""

from functools import cache

#: PIL's name of a format → the extension that its files get
EXTENSIONS = {
    **{"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"},
    "AVIF": "avif",
}
#: extensions of members that are pictures: of several, the first in this order is the sample's main picture
MEMBER_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
#: no others are tried: among PIL's formats are some that run other programs (EPS) or take anything for an image (TGA)
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_AVIF = (b"ftypavif", b"ftypavis")


@cache
def formats() -> tuple[str, ...]:
    """PIL's names of the formats that it is asked to read."""
    return _FORMATS if _reads_avif() else tuple(name for name in _FORMATS if name != "AVIF")


def why_unreadable(data: bytes) -> str:
    """What to say of a file that is none of these."""
    if data[4:12] in _AVIF and not _reads_avif():
        return "AVIF needs Pillow 11.3 or newer: pip install -U pillow"
    return f"no {', '.join(_FORMATS)} that PIL can read"


@cache
def _reads_avif() -> bool:
    import PIL.features

    return "avif" in PIL.features.modules and PIL.features.check("avif") is True
