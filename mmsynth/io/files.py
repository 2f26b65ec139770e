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
#: small writes reach the disk in pieces of this size
_BUFFERED_BYTES = 2**18


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing and reading under a temporary name. Rename it to `path` when the block succeeds.

    The temporary name is hidden, so a reader's `*.tar` does not match it, and random, so no other process uses it.
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
    """Remove the temporary files of interrupted writers: all of them, or those of files that `is_ours` accepts."""
    for part in folder.glob(f".*{_PART}"):
        name = part.name.removeprefix(".").rsplit(".", 2)[0]
        if is_ours is None or is_ours(name):
            part.unlink(missing_ok=True)


def digest_of(file: IO[bytes]) -> str:
    """The sha256 of an open file's whole content, in hex."""
    file.seek(0)
    return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()


def flush_to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Flush renames in `folder` to disk, so that they survive a power cut. Does nothing outside POSIX."""
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
    """`data` with a checksum of its own content, which `unsealed` verifies."""
    return {**data, "sum": _sum(data)}


def unsealed(text: bytes) -> dict[str, Any] | None:
    """The sealed JSON in `text`, or None if it has changed since it was written."""
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
    """Write `data` as indented JSON, whole or not at all."""
    with whole_file(path) as file:
        file.write(json_bytes(data))
    flush_folder(path.parent)
