"""The tar format: reads members and their positions from a file or stream, and writes headers.

Python's tarfile silently takes garbage after a member for the end of the archive. This module reports where a tar
breaks, and gives positions, so that a part of a tar can be read on its own. Knows nothing of samples.
"""

import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mmsynth.errors import SampleError

_BLOCK = 512
_CHUNK_BYTES = 2**24
#: a longer name means that garbage was taken for a header
_LONGEST_EXTENSION_BYTES = 2**20
#: larger members are not read, because a few compressed bytes may expand to any size
_LARGEST_MEMBER_BYTES = 2**30


class Stream(Protocol):
    """Anything with `read`: a file, a decompressor, a remote object."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a tar. Positions are in bytes from the start of the tar."""

    name: str
    #: the position of its first header block, so that reading can start here
    start: int
    data: int
    size: int
    #: "file", "folder", or what else it is: "large file", "link", "sparse file", "device", …
    kind: str

    @property
    def end(self) -> int:
        """Where the next member starts."""
        return self.data + _padded(self.size)


def scan(file: io.BufferedIOBase, start: int = 0, stop: int | None = None) -> Iterator[tuple[Member, bytes | None]]:
    """The members of a file from `start` to `stop`, without their data.

    Raises SampleError(`broken_tar`) where the tar breaks, and (`bytes_after_end`) where more comes after its end.
    """
    length = file.seek(0, io.SEEK_END)
    position = start
    while stop is None or position < stop:
        file.seek(position)
        member = _next_member(file, position)
        if member is None:
            _check_end(file, position + _BLOCK)
            return
        if member.data + member.size > length:
            yield member, b""
            raise _cut_short(member)
        yield member, None
        position = member.end


def read(stream: Stream, start: int = 0, stop: int | None = None) -> Iterator[tuple[Member, bytes | None]]:
    """The members from `start`, the stream's position, to `stop`, with their data.

    A member that is cut short comes with what there is of it, and then SampleError(`broken_tar`) is raised;
    SampleError(`bytes_after_end`) where more comes after the tar's end.
    """
    position = start
    while stop is None or position < stop:
        member = _next_member(stream, position)
        if member is None:
            _check_end(stream, position + _BLOCK)
            return
        if member.kind == "file":
            data = _read(stream, member.size)
            yield member, data
            skipped = _padded(member.size) - member.size
        else:
            data, skipped = b"", _padded(member.size)
            yield member, None
        if member.kind == "file" and len(data) < member.size:
            raise _cut_short(member)
        while skipped > 0:
            chunk = stream.read(min(skipped, _CHUNK_BYTES))
            if not chunk:
                break  # reading the next header reports the break
            skipped -= len(chunk)
        position = member.end


def _next_member(stream: Stream, start: int) -> Member | None:
    """The member whose headers start here, or None at the end of the archive. Leaves the stream at the data."""
    position = start
    fields: dict[str, str] = {}
    while True:
        block = _read(stream, _BLOCK)
        if len(block) < _BLOCK:
            at = position + len(block)
            raise SampleError("broken_tar", f"ends at byte {at} without an end mark: it was cut short")
        if block == _ZEROS:
            if fields:
                raise SampleError("broken_tar", f"a header at byte {start} tells of a member that is not there")
            return None
        try:
            header = _header(block)
        except ValueError as error:
            raise SampleError("broken_tar", f"no tar header at byte {position}: {error}") from error
        position += _BLOCK
        if header.type not in _EXTENSIONS:
            return _member(header, fields, start, position)
        if header.size > _LONGEST_EXTENSION_BYTES:
            raise SampleError("broken_tar", f"a name of {header.size:,} bytes at byte {position - _BLOCK}")
        payload = _read(stream, _padded(header.size))[: header.size]
        fields |= _extension_fields(header.type, payload)
        position += _padded(header.size)


def _check_end(stream: Stream, position: int) -> None:
    """Raise SampleError(`bytes_after_end`) unless nothing but zeros comes after the end mark, from `position` on."""
    while chunk := stream.read(_CHUNK_BYTES):
        if rest := chunk.lstrip(b"\0"):
            at = position + len(chunk) - len(rest)
            raise SampleError(
                "bytes_after_end",
                f"more bytes after the end mark, from byte {at}, were not read: tars that were joined with cat? "
                "Give them one by one, or join them with tar --concatenate",
            )
        position += len(chunk)


_ZEROS = bytes(_BLOCK)
#: headers that describe the member after them
_EXTENSIONS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X")
#: every other type is a plain file, as POSIX has it
_KINDS = {
    tarfile.DIRTYPE: "folder",
    tarfile.LNKTYPE: "link",
    tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
    tarfile.GNUTYPE_SPARSE: "sparse file",
}


_WITH_DATA = {"file", "sparse file", "large file"}


class _Header(NamedTuple):
    name: str
    size: int
    type: bytes


def _header(block: bytes) -> _Header:
    """Three fields of a header block, in a fifth of tarfile's time, which reads all of them. Raises ValueError."""
    checksum = _number(block[148:156])
    # the checksum field itself counts as eight spaces
    if checksum != _sum(block[:148]) + 8 * 32 + _sum(block[156:334]) + _sum(block[334:]):
        raise ValueError("bad checksum")
    name, size, kind = block[:100].partition(b"\0")[0], _number(block[124:136]), block[156:157]
    if size < 0:
        raise ValueError("a negative size")
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    return _Header(name.decode("utf-8", "surrogateescape"), size, kind)


def _sum(part: bytes) -> int:
    """The sum of at most 256 bytes: the lower half of Adler-32 less one, exact while the sum is below 65,521."""
    return (zlib.adler32(part) & 0xFFFF) - 1


def _number(field: bytes) -> int:
    """A number in octal digits, or in the binary form that GNU tar uses for larger ones."""
    if field[0] in {0x80, 0xFF}:
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _member(header: _Header, fields: dict[str, str], start: int, data: int) -> Member:
    size = int(fields["size"]) if fields.get("size", "").isdecimal() else header.size
    name = fields.get("path", header.name)
    kind = "folder" if name.endswith("/") else _KINDS.get(header.type, "file")
    if kind == "file" and size > _LARGEST_MEMBER_BYTES:
        kind = "large file"
    if any(field.startswith("GNU.sparse") for field in fields):
        kind = "sparse file"
    # links and devices have no data, whatever their size says
    return Member(name, start, data, size if kind in _WITH_DATA else 0, kind)


def _extension_fields(kind: bytes, payload: bytes) -> dict[str, str]:
    """The fields that a pax or GNU header sets for the member after it."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": payload.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    if kind not in (tarfile.XHDTYPE, b"X"):
        return {}  # a long link name, or fields of all members, such as owners and times
    fields = {}
    while payload:
        length, _, rest = payload.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(payload):
            break
        name, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        fields[name.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        payload = payload[int(length) :]
    return fields


def _cut_short(member: Member) -> SampleError:
    return SampleError("broken_tar", f"ends inside {member.name}, which has {member.size:,} bytes from {member.data}")


def _read(stream: Stream, size: int) -> bytes:
    """`size` bytes, or fewer at the end. Reads in chunks, because a broken header may ask for terabytes."""
    data = stream.read(min(size, _CHUNK_BYTES))
    if len(data) == size or not data:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (data := stream.read(min(missing, _CHUNK_BYTES))):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


# -- writing headers ---------------------------------------------------------------------------------------------------

_NAME = slice(0, 100)
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_MODE = 0o444
#: the first size that the octal field cannot hold; GNU tar writes larger ones in binary
_TOO_LARGE = 8**11


def tar_header(name: str, size: int) -> bytes:
    """The header block or blocks of a file called `name` with `size` bytes, without a time or an owner.

    Byte for byte what Python's tarfile writes in GNU format, in a tenth of the time.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) > _NAME.stop or size >= _TOO_LARGE:
        return _by_tarfile(name, size)
    digits = b"%011o" % size
    checksum = b"%06o" % (_EMPTY_SUM + sum(encoded) + sum(digits))
    return b"".join((encoded, _NO_NAME[len(encoded) :], _AFTER_NAME, digits, _AFTER_SIZE, checksum, _AFTER_CHECKSUM))


def _by_tarfile(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, _MODE
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


_EMPTY = _by_tarfile("", 0)
_NO_NAME = bytes(_NAME.stop)
_AFTER_NAME = _EMPTY[_NAME.stop : _SIZE.start]
# both numbers end in a byte that is not a digit
_AFTER_SIZE = _EMPTY[_SIZE.stop - 1 : _CHECKSUM.start]
_AFTER_CHECKSUM = _EMPTY[_CHECKSUM.stop - 2 :]
#: the checksum of the constant parts; the checksum field itself counts as eight spaces
_EMPTY_SUM = sum(_AFTER_NAME) + sum(_AFTER_SIZE) + 8 * 32 + sum(_EMPTY[_CHECKSUM.stop :])
