"""The files that a slice is read from, with what tells without reading whether they are still the same."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmsynth.io.locations import is_remote
from mmsynth.io.remote_files import info_of

#: what file systems at URLs call the version of a file: the first that is there counts
_VERSIONS = ("ETag", "etag", "md5Hash", "md5", "content_md5", "generation", "mtime", "LastModified", "last_modified")
_VERSIONS_ELSE = ("Last-Modified", "updated", "modified", "created")


class InputFile(NamedTuple):
    """A file, or the bytes of it from `start` to `stop`, that a slice is read from."""

    location: str
    #: in bytes, of this part; -1 where it cannot be looked at
    size: int
    #: changes whenever the file is written: its time, or its ETag at a URL
    version: str
    start: int = 0
    stop: int | None = None
    #: of its bytes, where that is known already
    digest: str = ""


def input_file(location: str | Path, start: int = 0, stop: int | None = None) -> InputFile:
    """The file as it is now; the whole of it where it is shorter than `stop`."""
    text = str(location)
    if is_remote(text):
        return remote_file(text, info_of(text), start, stop)
    try:
        status = os.stat(text)  # noqa: PTH116 - twice as fast, for 100,000 files
    except (OSError, ValueError):
        return InputFile(text, -1, "")
    return _part(text, status.st_size, str(status.st_mtime_ns), start, stop)


def remote_file(url: str, info: Mapping[str, Any], start: int = 0, stop: int | None = None) -> InputFile:
    """The file at a URL, from what its file system says of it."""
    size = info.get("size")
    version = next((str(info[name]) for name in (*_VERSIONS, *_VERSIONS_ELSE) if info.get(name)), "")
    return _part(url, -1 if size is None else int(size), version, start, stop)


def _part(location: str, size: int, version: str, start: int, stop: int | None) -> InputFile:
    if size < start or (stop is not None and size < stop):
        return InputFile(location, size, version)
    return InputFile(location, (size if stop is None else stop) - start, version, start, stop)


def files_in(folder: Path) -> Iterator[InputFile]:
    """Every file in a local folder and below, in order, without hidden ones."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield input_file(os.path.join(place, name))  # noqa: PTH118 - quick, for many files
