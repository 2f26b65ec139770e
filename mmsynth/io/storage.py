"""Where a run's files lie: a local folder, or any place that fsspec has a name for (s3://…, gs://…, memory://…).

Either way a file appears whole or not at all: locally by renaming, elsewhere by uploading what was written to this
machine's disk first. Knows names and bytes; does not know what a run is.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, cast

from mmsynth.errors import OutputError, SourceError
from mmsynth.io.files import flush_folder, remove_parts, whole_file
from mmsynth.io.places import filesystem, is_remote, one_line, shown

_COPIED_AT_ONCE = 1 << 20
#: on Linux, this process's open files by their numbers
_OPEN_FILES = Path("/proc/self/fd")


class Storage(Protocol):
    """A folder of files with plain names."""

    #: as messages name it, without passwords
    shown: str

    def names(self) -> list[str]:
        """Every file's name, hidden ones too; none where there is no folder."""

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The files' bytes, at once where that is faster. Raises OSError."""

    def open(self, name: str) -> IO[bytes]:
        """A file to read, which can seek. Raises OSError."""

    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file to write and read, which is there once the block has ended well, whole."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def make(self) -> None:
        """Make the folder, if it is not there."""

    def clear(self, share: tuple[int, int] | None = None) -> None:
        """Remove what an interrupted run left half written; with `share` (number, of how many) only of those shards."""

    def settle(self) -> None:
        """Make what was written last through a power cut."""

    def in_folder(self) -> AbstractContextManager[Path]:
        """A local folder whose new files get here by the end of the block."""


def storage_at(place: str | Path) -> Storage:
    """The storage that a path or URL names."""
    text = str(place)
    return RemoteStorage(text) if is_remote(text) and not text.startswith("file://") else LocalStorage(place)


class LocalStorage:
    """A folder of this machine, or of a file system that is mounted here."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(str(path).removeprefix("file://"))
        self.shown = str(self.path)

    def names(self) -> list[str]:
        return [entry.name for entry in self.path.iterdir()] if self.path.is_dir() else []

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        return {name: (self.path / name).read_bytes() for name in names}

    def open(self, name: str) -> IO[bytes]:
        return (self.path / name).open("rb")

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        with written_to(self.shown), whole_file(self.path / name) as file:
            yield file

    def remove(self, name: str) -> None:
        with written_to(self.shown):
            (self.path / name).unlink(missing_ok=True)

    def make(self) -> None:
        with written_to(self.shown):
            self.path.mkdir(parents=True, exist_ok=True)

    def clear(self, share: tuple[int, int] | None = None) -> None:
        with written_to(self.shown):
            remove_parts(self.path, share)

    def settle(self) -> None:
        with written_to(self.shown):
            flush_folder(self.path)

    @contextmanager
    def in_folder(self) -> Iterator[Path]:
        yield self.path


class RemoteStorage:
    """A folder that fsspec reaches. Files are uploaded when they are complete: an upload cut short leaves none."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.shown = shown(self.url)
        try:
            self.system, path = filesystem(self.url)
        except SourceError as error:
            raise OutputError(str(error)) from error
        self._path = path.rstrip("/")

    def names(self) -> list[str]:
        with self._errors("list"):
            self.system.invalidate_cache()  # what others have written since
            with suppress(FileNotFoundError):
                return [path.rpartition("/")[2] for path in self.system.ls(self._path, detail=False)]
        return []

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        paths = {self._at(name): name for name in names}
        if not paths:
            return {}
        with self._errors("read from"):
            found: dict[str, bytes] = self.system.cat(list(paths))
            return {paths[self.system._strip_protocol(path)]: data for path, data in found.items()}

    def open(self, name: str) -> IO[bytes]:
        return cast(IO[bytes], self.system.open(self._at(name), "rb"))

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        with _local_file(name) as (file, path):
            yield file
            file.flush()
            with self._errors("write to"):
                self.system.put_file(path, self._at(name))

    def remove(self, name: str) -> None:
        with self._errors("remove from"), suppress(FileNotFoundError):
            self.system.rm_file(self._at(name))

    def make(self) -> None:
        with self._errors("write to"):
            self.system.makedirs(self._path, exist_ok=True)

    def clear(self, share: tuple[int, int] | None = None) -> None:
        """Nothing: there are no halves."""

    def settle(self) -> None:
        """Nothing: an upload that has ended stays."""

    @contextmanager
    def in_folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="mmsynth-") as folder:
            yield Path(folder)
            for path in sorted(Path(folder).iterdir()):
                with self.writing(path.name) as file, path.open("rb") as local:
                    shutil.copyfileobj(local, file, _COPIED_AT_ONCE)

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Every protocol has its own errors; a file that is not there and our own pass through."""
        try:
            yield
        except (FileNotFoundError, OutputError):
            raise
        except Exception as error:
            raise OutputError(f"cannot {what} {self.shown}: {one_line(error)}") from error


@contextmanager
def written_to(shown: str) -> Iterator[None]:
    """What the system says while something is written there, as OutputError; our own interruption passes through."""
    try:
        yield
    except InterruptedError:
        raise
    except OSError as error:
        said = f"cannot write to {shown}: {error.strerror or error}"
        raise OutputError(f"{said}; what is committed is kept, and the same command goes on from there") from error


@contextmanager
def _local_file(name: str) -> Iterator[tuple[IO[bytes], str]]:
    """A file to write, and where to read it meanwhile. Without a name where the system can open it by its number: so
    none is left of a process that is killed."""
    if _OPEN_FILES.is_dir():
        with tempfile.TemporaryFile() as file:
            yield file, str(_OPEN_FILES / str(file.fileno()))
    else:
        with tempfile.NamedTemporaryFile(prefix="mmsynth-", suffix=f"-{name}") as named:
            yield cast(IO[bytes], named), named.name


def local_path(place: Storage) -> Path:
    """The local folder. Raises OutputError where the storage is none: for what needs one."""
    if isinstance(place, LocalStorage):
        return place.path
    raise OutputError(f"{place.shown} is not a local folder, which this needs: copy it here first")


def text_of(storage: Storage, name: str) -> Any:
    """A file's text. Raises OSError."""
    return storage.read_all([name])[name].decode("utf-8")
