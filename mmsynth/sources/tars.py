"""Finds and opens tars: a file, a folder of them, a glob, a brace pattern, or a URL that fsspec knows.

Does not know what is in a tar.
"""

import glob
import gzip
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from mmsynth.errors import SourceError
from mmsynth.io.locations import is_remote, is_web, local
from mmsynth.io.remote_files import open_url, urls_in, urls_matching
from mmsynth.io.tar import Stream
from mmsynth.secrets import without_secrets

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
_GLOB_CHARACTERS = re.compile(r"[*?\[]")
_GZIP = b"\x1f\x8b"


def expand(patterns: Iterable[str]) -> Iterator[str]:
    """Every tar that `patterns` name, in order. A plain name stays in the list even if the file does not exist.

    Raises SourceError if a folder cannot be listed.
    """
    for pattern in patterns:
        has_braces = "{" in pattern and (is_remote(pattern) or not local(pattern).exists())
        for one in _braces(pattern) if has_braces else [pattern]:
            yield from _expand_remote(one) if is_remote(one) else _expand_local(local(one))


def _braces(pattern: str) -> list[str]:
    import braceexpand

    try:
        return list(braceexpand.braceexpand(pattern))
    except ValueError as error:
        raise SourceError(
            f"the braces in {without_secrets(pattern)} do not match: write it as shards/{{00000..00099}}.tar"
        ) from error


def _expand_local(path: Path) -> list[str]:
    if path.is_dir():
        return sorted(
            str(p) for p in path.iterdir() if p.name.lower().endswith(TAR_ENDINGS) and not p.name.startswith(".")
        )
    if _GLOB_CHARACTERS.search(str(path)) and not path.exists():
        return sorted(glob.glob(str(path)))  # noqa: PTH207 - the pattern may be absolute
    return [str(path)]


def _expand_remote(url: str) -> list[str]:
    is_pattern = _GLOB_CHARACTERS.search(url) and not is_web(url)
    if not is_pattern and not url.endswith("/"):
        return [url]
    if is_pattern:
        return urls_matching(url)
    return [found for found in urls_in(url) if found.lower().endswith(TAR_ENDINGS)]


def folder_of(location: str) -> str:
    """The folder or URL that a tar lies in."""
    return location.rpartition("/")[0] if is_remote(location) else str(Path(location).parent)


def stem_of(location: str) -> str:
    """A tar's name without its ending."""
    name = location.partition("?")[0].rpartition("/")[2] if is_remote(location) else Path(location).name
    return re.sub(r"\.(tar|tar\.gz|tgz)$", "", name, flags=re.IGNORECASE)


def is_plain_file(location: str) -> bool:
    """Whether parts of the tar can be read on their own: it must be local and uncompressed."""
    if is_remote(location):
        return False
    with Path(location).open("rb") as file:
        return file.read(2) != _GZIP


@contextmanager
def opened(location: str) -> Iterator[Stream]:
    """The tar's bytes from the start, decompressed if the content is gzip. Raises OSError."""
    stream: IO[bytes] = open_url(location) if is_remote(location) else Path(location).open("rb")  # noqa: SIM115
    with stream:
        # no name in a tar starts like a gzip file, so two bytes tell them apart
        begin = stream.read(2)
        whole = _Again(begin, stream)
        yield cast(Stream, gzip.GzipFile(fileobj=cast(Any, whole), mode="rb")) if begin == _GZIP else whole


class _Again:
    """A stream with its first bytes put back."""

    def __init__(self, begin: bytes, stream: Stream) -> None:
        self._begin, self._stream = begin, stream

    def read(self, size: int = -1, /) -> bytes:
        begin, self._begin = self._begin[:size], self._begin[size:]
        return begin + self._stream.read(size - len(begin)) if len(begin) < size else begin
