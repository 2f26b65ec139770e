"""Files that appear whole or not at all: written under a temporary name, flushed to disk, renamed."""

import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

_PART = ".part"
#: what is written in small pieces goes to the disk in such
_BUFFERED_BYTES = 2**18


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file opened for writing and reading under a temporary name, renamed to `path` when the block ends well.

    The temporary name is hidden, so that no reader's `*.tar` takes it, and no other process has the same.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PART}")
    try:
        with part.open("w+b", buffering=_BUFFERED_BYTES) as file:
            yield file
            flush_to_disk(file)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_parts(folder: Path, is_ours: Callable[[str], bool] | None = None) -> None:
    """Remove what an interrupted writer left half written: of the files whose names are ours, or of all."""
    for part in folder.glob(f".*{_PART}"):
        name = part.name.removeprefix(".").rsplit(".", 2)[0]
        if is_ours is None or is_ours(name):
            part.unlink(missing_ok=True)


def digest_of(file: IO[bytes]) -> str:
    """sha256 of a file that is open for reading, from its start, in hex."""
    file.seek(0)
    return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()


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


def json_bytes(data: Any) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def sealed(data: dict[str, Any]) -> dict[str, Any]:
    """`data` with the sum of its own content, by which `unsealed` sees whether it is whole."""
    return {**data, "sum": _sum(data)}


def unsealed(text: bytes) -> dict[str, Any] | None:
    """The sealed JSON in `text`, or None if it is not as it was written."""
    try:
        data = json.loads(text)
    except ValueError:
        return None
    if not isinstance(data, dict) or data.get("sum") != _sum({name: data[name] for name in data if name != "sum"}):
        return None
    return data


def _sum(data: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=12).hexdigest()


def write_json(path: Path, data: Any) -> None:
    """`data` as indented JSON, whole or not at all."""
    with whole_file(path) as file:
        file.write(json_bytes(data))
    flush_folder(path.parent)
