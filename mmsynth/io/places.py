"""Where tars lie: a file, a folder of them, a glob, a brace pattern, a URL that fsspec knows; and how each is opened.

Does not know what is in a tar.
"""

import glob
import gzip
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

from mmsynth.errors import SourceError
from mmsynth.io.tar import Stream
from mmsynth.secrets import without_secrets

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
_GLOB_CHARACTERS = re.compile(r"[*?\[]")
_GZIP = b"\x1f\x8b"
_TRIES = 4


def is_remote(location: str) -> bool:
    return "://" in location


def path_at(location: str) -> Path:
    """A file or folder here, or at a URL: what universal_pathlib gives for that reads and lists like a Path."""
    if not is_remote(location) or location.startswith("file://"):
        return Path(_without_file_scheme(location)).expanduser()
    from upath import UPath

    filesystem(location)  # its errors say which package is missing
    return cast(Path, UPath(location))


def expand(patterns: Iterable[str]) -> Iterator[str]:
    """Every tar that `patterns` name, in order. What is written out stays, whether it is there or not."""
    for pattern in patterns:
        for one in _braces(pattern) if "{" in pattern and not Path(pattern).exists() else [pattern]:
            local = _without_file_scheme(one)
            yield from _expand_remote(local) if is_remote(local) else _expand_local(local)


def _braces(pattern: str) -> list[str]:
    import braceexpand

    try:
        return list(braceexpand.braceexpand(pattern))
    except ValueError as error:
        raise SourceError(
            f"the braces in {without_secrets(pattern)} do not match: write it as shards/{{00000..00099}}.tar"
        ) from error


def _without_file_scheme(location: str) -> str:
    return location.removeprefix("file://") if location.startswith("file://") else location


def _expand_local(pattern: str) -> list[str]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        return sorted(str(p) for p in path.iterdir() if p.name.endswith(TAR_ENDINGS) and not p.name.startswith("."))
    if _GLOB_CHARACTERS.search(pattern) and not path.exists():
        return sorted(glob.glob(str(path)))  # noqa: PTH207 - the pattern may be absolute
    return [str(path)]


def _expand_remote(url: str) -> list[str]:
    # web servers list nothing, and a ? begins their query
    is_pattern = _GLOB_CHARACTERS.search(url) and not url.startswith(("http://", "https://"))
    if not is_pattern and not url.endswith("/"):
        return [url]
    system, path = filesystem(url)
    try:
        found = system.glob(path if is_pattern else f"{path.rstrip('/')}/*")
    except Exception as error:
        raise SourceError(f"cannot list {shown(url)}: {one_line(error)}") from error
    return sorted(system.unstrip_protocol(name) for name in found if is_pattern or name.endswith(TAR_ENDINGS))


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system for `url`, and the path in it. Raises SourceError when the protocol needs a package."""
    import fsspec

    try:
        return cast(tuple[Any, str], fsspec.core.url_to_fs(url))
    except ImportError as error:
        scheme = url.partition("://")[0]
        package = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}
        needed = package.get(scheme, f"fsspec[{scheme}]")
        raise SourceError(f"{scheme}:// needs a package that is not installed: pip install '{needed}'") from error
    except ValueError as error:
        raise SourceError(f"cannot read {shown(url)}: {one_line(error)}") from error


def shown(location: str) -> str:
    """A location as it may be written down: a file's name, a URL without passwords and signatures."""
    if not is_remote(location):
        return Path(location).name
    parts = urlsplit(location)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return str(without_secrets(lines[0])) if lines else type(error).__name__


def is_plain_file(location: str) -> bool:
    """Whether parts of it can be read: a local tar that is not compressed."""
    if is_remote(location):
        return False
    with Path(location).open("rb") as file:
        return file.read(2) != _GZIP


@contextmanager
def opened(location: str) -> Iterator[Stream]:
    """The tar's bytes from the start, decompressed if it is gzipped by content. Raises OSError."""
    if is_remote(location):
        stream: Any = _Remote(location)
    else:
        stream = Path(location).open("rb")  # noqa: SIM115 - closed below
    try:
        # what a gzip begins with is no name in a tar, so two bytes tell them apart
        begin = stream.read(2)
        whole = _Again(begin, stream)
        yield cast(Stream, gzip.GzipFile(fileobj=cast(Any, whole), mode="rb")) if begin == _GZIP else whole
    finally:
        stream.close()


class _Again:
    """A stream with the bytes that were already taken from it put back."""

    def __init__(self, begin: bytes, stream: Stream) -> None:
        self._begin, self._stream = begin, stream

    def read(self, size: int = -1, /) -> bytes:
        begin, self._begin = self._begin[:size], self._begin[size:]
        return begin + self._stream.read(size - len(begin)) if len(begin) < size else begin


class _Remote:
    """A remote file read straight through. When the connection fails it is opened again where it stopped."""

    def __init__(self, url: str) -> None:
        self._system, self._path = filesystem(url)
        self._position = 0
        self._file: Any = None

    def read(self, size: int, /) -> bytes:
        for attempt in range(1, _TRIES + 1):
            try:
                data = cast(bytes, self._reopened().read(size))
            except FileNotFoundError:
                raise
            except Exception as error:  # every protocol has its own errors
                self.close()
                if attempt == _TRIES:
                    raise OSError(one_line(error)) from error
                time.sleep(2.0**attempt / 4)
            else:
                self._position += len(data)
                return data
        raise AssertionError("the last attempt returns or raises")

    def _reopened(self) -> Any:
        if self._file is None:
            self._file = self._system.open(self._path, "rb")
            if self._position:
                self._file.seek(self._position)
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
