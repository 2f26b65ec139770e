"""Files at URLs, read like a pathlib Path or as a stream that can seek and reopens after a failed connection."""

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar, cast
from urllib.parse import urlsplit

from mmsynth.errors import Unreachable
from mmsynth.io.locations import filesystem, is_remote, is_web, local, shown
from mmsynth.io.retry import retried

T = TypeVar("T")

#: small, because fsspec's files read ahead themselves
_BUFFERED_BYTES = 2**16
_SKIPPED_BYTES = 2**20


def path_at(location: str | Path) -> Path:
    """A local path, or for a URL an object that reads and lists like a Path."""
    return cast(Path, RemotePath(str(location))) if is_remote(location) else local(location)


def is_at(url: str) -> bool:
    """Whether `url` exists. Raises SourceError if it cannot be reached."""
    system, path = filesystem(url)
    try:
        return bool(_looked("reach", url, lambda: system.info(path)))
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
    """Of every file in the folder at a URL and below, down to `depth`, its path from there. Raises SourceError."""
    return list(infos_below(folder, depth))


def infos_below(folder: str, depth: int | None = None) -> dict[str, dict[str, Any]]:
    """The same paths with what the file system says of each: size, time, ETag. One listing. Raises SourceError."""
    system, top = filesystem(folder)
    found = _looked("list", folder, lambda: system.find(top, maxdepth=depth, detail=True))
    return {path.removeprefix(top).strip("/"): info for path, info in found.items()}


def info_of(url: str) -> dict[str, Any]:
    """What the file system says of the file at a URL; empty where it says nothing."""
    with suppress(OSError, ValueError, NotImplementedError):
        system, path = filesystem(url)
        return dict(system.info(path))
    return {}


def _looked(what: str, url: str, ask: Callable[[], T]) -> T:
    """Raises FileNotFoundError, and Unreachable."""
    try:
        return retried(f"{what} {shown(url)}", ask)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreachable(str(error)) from error


def open_url(url: str) -> IO[bytes]:
    """The file at a URL, to read: an input. Raises FileNotFoundError, and Unreachable, in the middle of reading too."""
    system, path = filesystem(url)
    return _opened(_Input(system, path, shown(url)))


def open_at(system: Any, path: str, named: str) -> IO[bytes]:
    """A file of one of fsspec's file systems, to read; messages call it `named`. Raises OSError."""
    return _opened(_RemoteFile(system, path, named))


def _opened(file: "_RemoteFile") -> IO[bytes]:
    file.connect()
    return io.BufferedReader(file, _BUFFERED_BYTES)


class _RemoteFile(io.RawIOBase):
    """A remote file, opened again where it stopped when the connection fails.

    Where the server gives no parts of files, it is read from the start, and what comes before is skipped.
    """

    def __init__(self, system: Any, path: str, named: str) -> None:
        self._system, self._path, self._named = system, path, named
        #: where the reader is, and where the file is that the system opened
        self._position = self._at = 0
        self._file: Any = None
        self._gives_parts = True

    def connect(self) -> None:
        self._asked("open", self._connected)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}
        self._position = offset + (begin[whence] if whence in begin else self._asked("read", self._size))
        return self._position

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._asked("read", lambda: self._placed().read(len(buffer)))
        buffer[: len(data)] = data
        self._position += len(data)
        self._at = self._position
        return len(data)

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        def attempt() -> T:
            try:
                return ask()
            except Exception as error:
                self._disconnect()
                if not self._gives_parts or not _gives_no_parts(error):
                    raise
                self._gives_parts = False
                return ask()

        return retried(f"{what} {self._named}", attempt)

    def _connected(self) -> Any:
        if self._file is None:
            how = {} if self._gives_parts else {"block_size": 0}
            self._file, self._at = self._system.open(self._path, "rb", **how), 0
        return self._file

    def _placed(self) -> Any:
        """The open file, where the reader is."""
        file = self._connected()
        if self._at != self._position and self._gives_parts:
            file.seek(self._position)
            self._at = self._position
        if self._at > self._position:
            self._disconnect()
            file = self._connected()
        while self._at < self._position:
            skipped = len(file.read(min(self._position - self._at, _SKIPPED_BYTES)))
            if not skipped:
                return io.BytesIO()  # past the end, as of any file
            self._at += skipped
        return file

    def _size(self) -> int:
        file = self._connected()
        if self._gives_parts:
            self._at = int(file.seek(0, io.SEEK_END))
            return self._at
        size = self._system.info(self._path)["size"]
        if size is None:
            raise NotImplementedError("the server does not say how large it is")
        return int(size)

    def _disconnect(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):  # it may have failed for good
                file.close()


def _gives_no_parts(error: Exception) -> bool:
    """Whether fsspec says that a web server sends whole files only."""
    return isinstance(error, ValueError) and ("range requests" in str(error) or "seek streaming" in str(error))


class _Input(_RemoteFile):
    """A file that a source reads. What cannot be read of it now is no sample's failure."""

    _was_there = False

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        try:
            given = super()._asked(what, ask)
        except FileNotFoundError as error:
            if not self._was_there:
                raise
            raise Unreachable(f"cannot {what} {self._named} to its end: it is not there any more") from error
        except OSError as error:
            raise unreachable(error) from error
        self._was_there = True
        return given


def unreachable(error: OSError) -> Unreachable:
    """The error for a source that cannot be read now."""
    return Unreachable(f"{error}; shards that need it are not written: the same command tries again")


class RemotePath:
    """As much of pathlib's Path as reading needs, for a URL. Raises FileNotFoundError, and Unreachable."""

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
        return open_url(self.url)

    def read_bytes(self) -> bytes:
        try:
            return cast(bytes, retried(f"read {shown(self.url)}", lambda: self._system.cat_file(self._path)))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unreachable(error) from error
