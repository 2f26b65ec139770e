"""Folders of files: here, or at any place that fsspec has a name for (s3://…, gs://…, memory://…).

What a writer of files needs, and what their readers need. A file appears whole or not at all: locally by renaming,
elsewhere by uploading what was written to this machine's disk first. Knows names and bytes; does not know what is in
the files.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

from mmsynth.errors import OutputError
from mmsynth.io.files import flush_folder, remove_parts, whole_file
from mmsynth.io.locations import is_remote, local


class Storage(Protocol):
    """A folder of files with plain names. Reading raises OSError in one line, writing OutputError."""

    #: as messages name it, without passwords
    shown: str
    #: path or URL, without what only its spelling makes different
    location: str

    def __hash__(self) -> int:
        """By identity: another look at the folder is another one."""

    # -- reading ------------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Every file's name, hidden ones too; none where there is no folder."""

    def state(self, ending: str) -> Hashable:
        """Differs once a file whose name ends so has come, gone or changed."""

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The files' bytes, at once where that is faster."""

    def open(self, name: str) -> IO[bytes]:
        """A file to read, which can seek."""

    def span(self, name: str, start: int, stop: int) -> bytes:
        """A part of a file."""

    def here(self, names: Sequence[str]) -> Path:
        """A folder of this machine that has these files, and maybe others. Copies stay as long as this object."""

    # -- writing ------------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Make the folder, if it is not there."""

    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file to write and read, which is there once the block has ended well, whole."""

    def in_folder(self) -> AbstractContextManager[Path]:
        """A local folder whose new files get here by the end of the block."""

    def settle(self) -> None:
        """Make what was written last through a power cut."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def clear(self, is_ours: Callable[[str], bool] | None = None) -> None:
        """Remove what an interrupted writer left half written: of the files whose names are ours, or of all."""


def storage_at(location: str | Path) -> Storage:
    """The storage that a path or URL names. Raises OutputError for a URL of no known kind."""
    if not is_remote(location):
        return LocalStorage(location)
    from mmsynth.io.remote_storage import RemoteStorage

    return RemoteStorage(str(location))


class LocalStorage:
    """A folder of this machine, or of a file system that is mounted here."""

    def __init__(self, location: str | Path) -> None:
        self.path = local(location)
        self.shown = str(self.path)
        self.location = str(self.path.resolve())

    def names(self) -> list[str]:
        return [entry.name for entry in self.path.iterdir()] if self.path.is_dir() else []

    def state(self, ending: str) -> Hashable:
        found = {path.name: path.stat() for path in self.path.glob(f"*{ending}")}
        return tuple(sorted((name, about.st_mtime_ns, about.st_size) for name, about in found.items()))

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        return {name: (self.path / name).read_bytes() for name in names}

    def open(self, name: str) -> IO[bytes]:
        return (self.path / name).open("rb")

    def span(self, name: str, start: int, stop: int) -> bytes:
        with self.open(name) as file:
            file.seek(start)
            return file.read(stop - start)

    def here(self, names: Sequence[str]) -> Path:
        return self.path

    def make(self) -> None:
        with written_to(self.shown):
            self.path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        with written_to(self.shown), whole_file(self.path / name) as file:
            yield file

    @contextmanager
    def in_folder(self) -> Iterator[Path]:
        yield self.path

    def settle(self) -> None:
        with written_to(self.shown):
            flush_folder(self.path)

    def remove(self, name: str) -> None:
        with written_to(self.shown):
            (self.path / name).unlink(missing_ok=True)

    def clear(self, is_ours: Callable[[str], bool] | None = None) -> None:
        with written_to(self.shown):
            remove_parts(self.path, is_ours)


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


def local_path(storage: Storage) -> Path:
    """The local folder. Raises OutputError where the storage is none: for what needs one."""
    if isinstance(storage, LocalStorage):
        return storage.path
    raise OutputError(f"{storage.shown} is not a local folder, which this needs: copy it here first")


def text_of(storage: Storage, name: str) -> str:
    """A file's text. Raises OSError."""
    return storage.read_all([name])[name].decode("utf-8")
