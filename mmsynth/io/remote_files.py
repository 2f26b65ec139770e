"""Files at URLs, read like a pathlib Path or as a stream that can seek and reopens after a failed connection."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar, cast
from urllib.parse import urlsplit

from mmsynth.errors import SourceError
from mmsynth.io.locations import filesystem, is_remote, is_web, local, shown
from mmsynth.io.retry import retried

T = TypeVar("T")

#: small, because fsspec's files read ahead themselves
_BUFFERED_BYTES = 2**16


def path_at(location: str | Path) -> Path:
    """A local path, or for a URL an object that reads and lists like a Path."""
    return cast(Path, RemotePath(str(location))) if is_remote(location) else local(location)


def is_at(url: str) -> bool:
    """Whether `url` exists. Raises SourceError if it cannot be reached."""
    system, path = filesystem(url)
    # exists() answers no for every failure, but a web server offers nothing better
    ask = system.exists if is_web(url) else system.info
    try:
        return bool(_looked("reach", url, lambda: ask(path)))
    except FileNotFoundError:
        return False


def urls_matching(pattern: str) -> list[str]:
    """The files and folders that match a glob, in order. Raises SourceError."""
    system, path = filesystem(pattern)
    return [system.unstrip_protocol(name) for name in sorted(_looked("list", pattern, lambda: system.glob(path)))]


def urls_in(folder: str) -> list[str]:
    """The files and folders in the folder at a URL, in order. Raises SourceError."""
    system, path = filesystem(folder)
    found = _looked("list", folder, lambda: system.glob(f"{path.rstrip('/')}/*"))
    return [system.unstrip_protocol(name) for name in sorted(found)]


def files_below(folder: str, depth: int | None = None) -> list[str]:
    """Relative paths of all files below the folder at a URL, down to `depth` levels. Raises SourceError."""
    system, top = filesystem(folder)
    found = _looked("list", folder, lambda: system.find(top, maxdepth=depth))
    return [path.removeprefix(top).strip("/") for path in found]


def _looked(what: str, url: str, ask: Callable[[], T]) -> T:
    """The answer of `ask`, with retries. Raises FileNotFoundError, or SourceError for any other failure."""
    try:
        return retried(f"{what} {shown(url)}", ask)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SourceError(str(error)) from error


def open_url(url: str) -> IO[bytes]:
    """Open the file at a URL for reading. Raises OSError."""
    system, path = filesystem(url)
    return open_at(system, path, shown(url))


def open_at(system: Any, path: str, named: str) -> IO[bytes]:
    """Open a file of one of fsspec's file systems for reading. Messages call it `named`. Raises OSError."""
    file = _RemoteFile(system, path, named)
    file.connect()
    return io.BufferedReader(file, _BUFFERED_BYTES)


class _RemoteFile(io.RawIOBase):
    """A remote file that reopens at its position when the connection fails."""

    def __init__(self, system: Any, path: str, named: str) -> None:
        self._system, self._path, self._named = system, path, named
        self._position = 0
        self._file: Any = None

    def connect(self) -> None:
        self._asked("open", lambda file: None)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            self._position = int(self._asked("read", lambda file: file.seek(offset, io.SEEK_END)))
        else:
            place = offset if whence == io.SEEK_SET else self._position + offset
            if place != self._position:
                self._asked("read", lambda file: file.seek(place))
            self._position = place
        return self._position

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._asked("read", lambda file: file.read(len(buffer)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _asked(self, what: str, ask: Callable[[Any], T]) -> T:
        def attempt() -> T:
            try:
                return ask(self._reopened())
            except Exception:
                self._disconnect()
                raise

        return retried(f"{what} {self._named}", attempt)

    def _reopened(self) -> Any:
        if self._file is None:
            self._file = self._system.open(self._path, "rb")
            if self._position:
                self._file.seek(self._position)
        return self._file

    def _disconnect(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


class RemotePath:
    """The part of pathlib's Path that reading needs, for a URL. Look-ups raise SourceError, reads raise OSError."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._system, self._path = filesystem(url)
        bare = urlsplit(url).path if is_web(url) else url.partition("://")[2]
        self._name = PurePosixPath(bare.rstrip("/"))

    def __str__(self) -> str:
        return self.url

    def __fspath__(self) -> str:
        raise TypeError(f"{shown(self.url)} is not a file of this machine")

    def __truediv__(self, name: str) -> "RemotePath":
        bare, mark, query = self.url.partition("?") if is_web(self.url) else (self.url, "", "")
        return RemotePath(f"{bare.rstrip('/')}/{name}{mark}{query}")

    @property
    def name(self) -> str:
        return self._name.name

    @property
    def stem(self) -> str:
        return self._name.stem

    @property
    def suffix(self) -> str:
        return self._name.suffix

    @property
    def parent(self) -> "RemotePath":
        bare = self.url.partition("?")[0] if is_web(self.url) else self.url
        return RemotePath(bare.rstrip("/").rpartition("/")[0])

    def exists(self) -> bool:
        return is_at(self.url)

    def is_dir(self) -> bool:
        if is_web(self.url):
            return self.url.endswith("/")  # otherwise fsspec would search the whole file for links
        try:
            return bool(_looked("reach", self.url, lambda: self._system.info(self._path))["type"] == "directory")
        except FileNotFoundError:
            return False

    def is_file(self) -> bool:
        return self.exists() and not self.is_dir()

    def iterdir(self) -> Iterator["RemotePath"]:
        return map(RemotePath, urls_in(self.url))

    def open(self, mode: str = "rb") -> IO[bytes]:
        assert mode == "rb", "remote files are read as bytes"
        return open_at(self._system, self._path, shown(self.url))

    def read_bytes(self) -> bytes:
        return cast(bytes, retried(f"read {shown(self.url)}", lambda: self._system.cat_file(self._path)))
