"""Folders of files, local or at any URL that fsspec knows (s3://…, gs://…, memory://…).

Offers what writers and readers of files need. A file appears whole or not at all: a local file is renamed into place, a
remote one is written to the local disk first and then uploaded. Knows names and bytes; does not know what is in the
files.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

from mmsynth.errors import OutputError
from mmsynth.io.files import flush_folder, remove_parts, whole_file
from mmsynth.io.locations import is_remote, local


class Storage(Protocol):
    """A folder of files with plain names. Reading raises one-line OSErrors, writing raises OutputError."""

    #: the folder's name in messages, with credentials redacted
    shown: str
    #: path or URL in one normal form, so that two spellings of one folder compare equal
    location: str

    def __hash__(self) -> int:
        """By identity: two objects for the same folder are different keys."""

    # -- reading ------------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Every file's name, hidden ones too. Empty if the folder does not exist."""

    def state(self, ending: str) -> Hashable:
        """A value that changes whenever a file with this ending is added, removed or changed."""

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The bytes of several files, read concurrently where that is faster."""

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading, with seek."""

    def span(self, name: str, start: int, stop: int) -> bytes:
        """The bytes of a file from `start` to `stop`."""

    def here(self, names: Sequence[str]) -> Path:
        """A local folder that has these files, and maybe others. Copies live as long as this object."""

    # -- writing ------------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Create the folder if it does not exist."""

    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file for writing and reading. It appears, whole, when the block succeeds."""

    def in_folder(self) -> AbstractContextManager[Path]:
        """A local folder whose new files are stored here by the end of the block."""

    def settle(self) -> None:
        """Flush everything written so far, so that it survives a power cut."""

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""

    def clear(self, is_ours: Callable[[str], bool] | None = None) -> None:
        """Remove the partial files of interrupted writers: all of them, or those of files that `is_ours` accepts."""


def storage_at(location: str | Path) -> Storage:
    """The storage at a path or URL. Raises OutputError for an unknown protocol."""
    if not is_remote(location):
        return LocalStorage(location)
    from mmsynth.io.remote_storage import RemoteStorage

    return RemoteStorage(str(location))


class LocalStorage:
    """A folder on this machine or on a mounted file system."""

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
    """Turn OSErrors raised while writing into OutputError. InterruptedError passes through: it is our own."""
    try:
        yield
    except InterruptedError:
        raise
    except OSError as error:
        said = f"cannot write to {shown}: {error.strerror or error}"
        raise OutputError(f"{said}; what is committed is kept, and the same command goes on from there") from error


def local_path(storage: Storage) -> Path:
    """The path of a local storage. Raises OutputError for a remote one."""
    if isinstance(storage, LocalStorage):
        return storage.path
    raise OutputError(f"{storage.shown} is not a local folder, which this needs: copy it here first")


def text_of(storage: Storage, name: str) -> str:
    """The text of a file. Raises OSError."""
    return storage.read_all([name])[name].decode("utf-8")
