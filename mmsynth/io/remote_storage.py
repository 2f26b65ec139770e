"""Folders at URLs, by fsspec. Files are read in place or copied to this machine, and uploaded once complete."""

import errno
import shutil
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from mmsynth.errors import OutputError, SourceError
from mmsynth.io.locations import filesystem, shown
from mmsynth.io.remote_files import open_at
from mmsynth.io.retry import retried

T = TypeVar("T")

_COPIED_AT_ONCE = 1 << 20
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
#: on Linux, this process's open files by their numbers
_OPEN_FILES = Path("/proc/self/fd")


class RemoteStorage:
    """A folder that fsspec reaches. Files are uploaded once complete, and an interrupted upload leaves no file.

    Local copies lie in a temporary folder, which is removed with this object.
    """

    def __init__(self, url: str) -> None:
        self.location = url.rstrip("/")
        self.shown = shown(self.location)
        try:
            self.system, path = filesystem(self.location)
        except SourceError as error:
            raise OutputError(str(error)) from error
        self._path = path.rstrip("/")
        self._lock = threading.Lock()
        self._copies: tempfile.TemporaryDirectory[str] | None = None
        self._copied: set[str] = set()

    # -- reading ------------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        return [info["name"].rpartition("/")[2] for info in self._listed()]

    def state(self, ending: str) -> Hashable:
        # whatever the file system reports for each file: size, time, digest
        return tuple(sorted(str(sorted(info.items())) for info in self._listed() if info["name"].endswith(ending)))

    def _listed(self) -> list[dict[str, Any]]:
        def listed() -> list[dict[str, Any]]:
            self.system.invalidate_cache()  # other processes may have written since
            return list(self.system.ls(self._path, detail=True))

        with suppress(FileNotFoundError):
            return retried(f"list {self.shown}", listed)
        return []

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        paths = {self._at(name): name for name in names}
        if not paths:
            return {}
        found: dict[str, bytes] = self._reading(lambda: self.system.cat(list(paths)))
        return {paths[self.system._strip_protocol(path)]: data for path, data in found.items()}

    def open(self, name: str) -> IO[bytes]:
        return open_at(self.system, self._at(name), f"{self.shown}/{name}")

    def span(self, name: str, start: int, stop: int) -> bytes:
        return cast(bytes, self._reading(lambda: self.system.cat_file(self._at(name), start=start, end=stop)))

    def here(self, names: Sequence[str]) -> Path:
        with self._lock, _temporary_room():
            if self._copies is None:
                self._copies = tempfile.TemporaryDirectory(prefix="mmsynth-run-")
            folder = Path(self._copies.name)
            missing = [name for name in names if name not in self._copied]
            if missing:
                there, copies = [self._at(name) for name in missing], [str(folder / name) for name in missing]
                self._reading(lambda: self.system.get(there, copies))
                self._copied.update(missing)
        return folder

    def _reading(self, ask: Callable[[], T]) -> T:
        return retried(f"read from {self.shown}", ask)

    # -- writing ------------------------------------------------------------------------------------------------------

    def make(self) -> None:
        self._writing("write to", lambda: self.system.makedirs(self._path, exist_ok=True))

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        with _temporary_room(), _local_file(name) as (file, path):
            yield file
            file.flush()
            self._writing("write to", lambda: self.system.put_file(path, self._at(name)))

    @contextmanager
    def in_folder(self) -> Iterator[Path]:
        with _temporary_room(), tempfile.TemporaryDirectory(prefix="mmsynth-") as folder:
            yield Path(folder)
            for path in sorted(Path(folder).iterdir()):
                with self.writing(path.name) as file, path.open("rb") as local:
                    shutil.copyfileobj(local, file, _COPIED_AT_ONCE)

    def settle(self) -> None:
        """Does nothing: a finished upload is already durable."""

    def remove(self, name: str) -> None:
        def removed() -> None:
            with suppress(FileNotFoundError):
                self.system.rm_file(self._at(name))

        self._writing("remove from", removed)

    def clear(self, is_ours: Callable[[str], bool] | None = None) -> None:
        """Does nothing: an interrupted upload leaves no partial file."""

    def _writing(self, what: str, ask: Callable[[], object]) -> None:
        try:
            retried(f"{what} {self.shown}", ask)
        except OSError as error:
            raise OutputError(str(error)) from error

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"


@contextmanager
def _temporary_room() -> Iterator[None]:
    """Raises OutputError where this machine's temporary folder has no room: what lies at the URL is not to blame."""
    try:
        yield
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        if cause.errno not in _NO_ROOM and "No usable temporary directory" not in str(cause):
            raise
        raise OutputError(
            f"cannot write to this machine's temporary folder, {tempfile.tempdir or 'if any'}: {cause.strerror}; "
            "make room there, or set TMPDIR to a folder that has it"
        ) from error


@contextmanager
def _local_file(name: str) -> Iterator[tuple[IO[bytes], str]]:
    """A temporary file to write, and a path at which to read it.

    If the system can open files by descriptor, the file has no name, so a killed process leaves nothing behind.
    """
    if _OPEN_FILES.is_dir():
        with tempfile.TemporaryFile() as file:
            yield file, str(_OPEN_FILES / str(file.fileno()))
    else:
        with tempfile.NamedTemporaryFile(prefix="mmsynth-", suffix=f"-{name}") as named:
            yield cast(IO[bytes], named), named.name
