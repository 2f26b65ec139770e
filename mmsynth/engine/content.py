"""Content: are the files of a committed block still those that it was made of?

A block's content is written down as `sizes/versions/digest`: digests of its files' sizes, of their times or ETags, and
of their bytes. The first two cost no reading. The third is taken once, after the block was read, if its files are not
too large. It tells files that were only copied or touched from files that were changed.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO

from mmsynth.blocks import Block
from mmsynth.errors import SourceError
from mmsynth.io.locations import is_remote, shown
from mmsynth.layout import numbered
from mmsynth.sources.base import Source
from mmsynth.sources.files import InputFile

#: a block's files are digested up to so many bytes: about a second
_MOST_BYTES = 2**30
_AT_ONCE = 2**20


def content_of(files: Iterable[InputFile]) -> str:
    """Sizes and versions, as a block carries them; empty where there is no file or nothing is known of one."""
    listed = list(files)
    if not listed or any(file.size < 0 and is_remote(file.location) for file in listed):
        return ""
    return "/".join(map(_short, (" ".join(f"{f.size}{f.digest}" for f in listed), " ".join(f.version for f in listed))))


def read_content(source: Source, block: Block) -> str:
    """The content of a block that was just read, with a digest where that is cheap and the files are still the same."""
    if not block.content:
        return ""
    files = list(source.files(block.payload))
    digest = _digest(files) if content_of(files) == block.content else ""
    return f"{block.content}/{digest}" if digest else block.content


def refuse_changed(source: Source, block: Block, recorded: str, run: str, ignore_times: bool) -> None:
    """Raise SourceError if the committed `block` was read from other content than its files have now."""
    if not recorded or not block.content or recorded.startswith(block.content):
        return
    files = list(source.files(block.payload))
    sizes, _, digest = (*recorded.split("/"), "")[:3]
    shard = f"shard {numbered(block.index)} of {run}"
    if block.content.split("/")[0] != sizes:
        raise SourceError(
            f"the source has changed since an earlier run wrote {shard}: {_named(files)} has another size. "
            "Write to another folder, or put the source back"
        )
    if ignore_times or (digest and _digest(files) == digest):
        return
    if digest:
        raise SourceError(
            f"the source has changed since an earlier run wrote {shard}: {_named(files)} has other bytes. "
            "Write to another folder, or put the source back"
        )
    raise SourceError(
        f"the source may have changed since an earlier run wrote {shard}: {_named(files)} has the same size and "
        "another time. If it was only copied or touched, go on with --ignore-times "
        "(run: {ignore_times: true}); else write to another folder"
    )


def _named(files: Sequence[InputFile]) -> str:
    """The file that changed, as far as can be told cheaply: the newest."""
    if len(files) == 1:
        return shown(files[0].location)
    local = [file for file in files if not is_remote(file.location) and file.version.isdigit()]
    newest = f" (the newest is {shown(max(local, key=lambda file: int(file.version)).location)})" if local else ""
    return f"one of {len(files):,} files{newest}"


def _digest(files: Sequence[InputFile]) -> str:
    """Of the bytes; empty where they are too many, at a URL, or cannot be read."""
    if sum(file.size for file in files) > _MOST_BYTES or any(is_remote(file.location) for file in files):
        return ""
    try:
        return _short(" ".join(file.digest or _digest_of(file) for file in files if file.size >= 0))
    except OSError:
        return ""


def _digest_of(file: InputFile) -> str:
    # many blocks may be read from one file; of a folder's images each is read once
    return _remembered(file) if file.size > _AT_ONCE else _hashed(file)


@lru_cache(maxsize=64)
def _remembered(file: InputFile) -> str:
    return _hashed(file)


def _hashed(file: InputFile) -> str:
    with Path(file.location).open("rb") as opened:
        opened.seek(file.start)
        return _read(opened, file.size)


def _read(opened: IO[bytes], left: int) -> str:
    digest = hashlib.blake2b(digest_size=12)
    while left > 0 and (data := opened.read(min(left, _AT_ONCE))):
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
