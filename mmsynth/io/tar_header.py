"""Tar headers byte for byte as Python's tarfile writes them, in a tenth of the time: few fields differ between members.

GNU's format, which has names of any length; no time and no owner: the same bytes on every run.
"""

import tarfile

_NAME = slice(0, 100)
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_MODE = 0o444
#: what twelve characters hold in octal digits; GNU writes larger numbers in another way
_TOO_LARGE = 8**11


def tar_header(name: str, size: int) -> bytes:
    """The header block, or blocks, of a file of `size` bytes called `name`."""
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) > _NAME.stop or size >= _TOO_LARGE:
        return _by_tarfile(name, size)
    digits = b"%011o" % size
    checksum = b"%06o" % (_EMPTY_SUM + sum(encoded) + sum(digits))
    return b"".join((encoded, _ZEROS[len(encoded) :], _AFTER_NAME, digits, _AFTER_SIZE, checksum, _AFTER_CHECKSUM))


def _by_tarfile(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, _MODE
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


_EMPTY = _by_tarfile("", 0)
_ZEROS = bytes(_NAME.stop)
_AFTER_NAME = _EMPTY[_NAME.stop : _SIZE.start]
# both numbers end in a byte that is not a digit
_AFTER_SIZE = _EMPTY[_SIZE.stop - 1 : _CHECKSUM.start]
_AFTER_CHECKSUM = _EMPTY[_CHECKSUM.stop - 2 :]
#: of all that does not change; the checksum itself counts as eight spaces
_EMPTY_SUM = sum(_AFTER_NAME) + sum(_AFTER_SIZE) + 8 * 32 + sum(_EMPTY[_CHECKSUM.stop :])
