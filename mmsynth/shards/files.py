"""Files that appear whole or not at all: written under a temporary name, flushed to disk, renamed."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_PART = ".part"


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file opened for writing under a temporary name, renamed to `path` when the block ends without an error."""
    part = part_name(path)
    with part.open("wb") as file:
        yield file
        flush_to_disk(file)
    part.replace(path)


def part_name(path: Path) -> Path:
    """The temporary name: hidden, so that no reader's `*.tar` takes it."""
    return path.with_name(f".{path.name}{_PART}")


def remove_parts(folder: Path) -> None:
    """Remove what an interrupted run left half written."""
    for part in folder.glob(f".*{_PART}"):
        part.unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make renames in `folder` last through a power cut, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, data: Any) -> None:
    """`data` as indented JSON, whole or not at all."""
    with whole_file(path) as file:
        file.write((json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())
    flush_folder(path.parent)
