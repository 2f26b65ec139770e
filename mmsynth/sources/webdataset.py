"""The webdataset source: samples in tars, such as img2dataset's, open_clip's and our own."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from mmsynth.errors import SampleError, SourceError
from mmsynth.frames import MOST_FRAMES
from mmsynth.io import tar
from mmsynth.io.locations import filesystem, is_remote, shown
from mmsynth.io.remote_files import is_at
from mmsynth.io.retry import one_line
from mmsynth.layout import SIZES
from mmsynth.sample import Sample
from mmsynth.secrets import without_secrets
from mmsynth.sources.base import Slice, Source, Unreadable
from mmsynth.sources.earlier_runs import arrays_beside, arrays_of, scores_of
from mmsynth.sources.frames import framed
from mmsynth.sources.members import Group, grouped, sample_of
from mmsynth.sources.tars import expand, is_plain_file, opened
from mmsynth.sources.unique import UniqueKeys

#: one system call reads many small members; larger members bypass the buffer
_BUFFERED_BYTES = 2**18


class WebDataset(Source):
    """Read the samples of tars: one tar, a folder, a glob, a brace pattern `{000..099}.tar`, an fsspec URL, or a list.

    Members with one key make one sample: its image (`key.jpg`), further pictures by name (`key.before.jpg` is the
    picture `before`), its `.txt` as the caption, its `.json` as the record, which mmsynth continues, and every other
    member unchanged. With `frames: 8`, a video member or an animation gives the pictures `frame00` … `frame07`.

    A local tar is cut into slices by its headers. A remote or gzipped tar is a single slice, read from start to end. If
    a tar is broken, the samples before the break survive. Tars of an mmsynth run bring their scores and arrays along.
    """

    path: str | tuple[str, ...]
    frames: int | None = Field(None, ge=1, le=MOST_FRAMES, description="frames per video or animation, as pictures")

    def check(self) -> None:
        tars = self._tars()
        patterns = without_secrets(", ".join(self._patterns))
        if not tars:
            raise SourceError(f"no tars at {patterns}: no file there ends in .tar, .tar.gz or .tgz")
        missing = [location for location in tars if not is_remote(location) and not Path(location).is_file()]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise SourceError(f"no such tar: {missing[0]}{more}")
        remote = [location for location in tars if is_remote(location)]
        if remote:
            filesystem(remote[0])  # raises if a package is missing, and names it
            if len(remote) == 1 and not is_at(remote[0]):
                raise SourceError(f"no such tar: {shown(remote[0])}")
        arrays_of(tars)  # raises if the stats or arrays beside the tars cannot be read

    def count(self) -> int | None:
        """The number of samples, from `sizes.json` in the tars' folders (open_clip's shards and ours have it)."""
        known: dict[Path, dict[str, int]] = {}
        total = 0
        for location in self._tars():
            folder = Path(location).parent
            if is_remote(location):
                return None
            if folder not in known:
                known[folder] = _sizes(folder)
            size = known[folder].get(Path(location).name)
            if not isinstance(size, int):
                return None
            total += size
        return total

    def score_names(self) -> tuple[str, ...]:
        return scores_of(self._tars())

    def array_names(self) -> tuple[str, ...]:
        return arrays_of(self._tars())

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        keys = UniqueKeys()
        for location in self._tars():
            try:
                can_be_cut = is_plain_file(location)
            except OSError:
                can_be_cut = False  # reading reports the problem, as a failed row
            if can_be_cut:
                yield from _cut(location, samples_per_slice, keys)
            else:
                yield Slice({"tar": location}, None)

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        yield from framed(self._read(payload), self.frames)

    def _read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        location = payload["tar"]
        name = shown(location)
        beside = arrays_beside(location, self.array_names())
        for group, key in _keyed(payload):
            read = sample_of(group, key, name)
            if beside is not None and isinstance(read, Sample):
                read = replace(read, arrays=beside.at(group.start, group.name))
            yield read

    def keys(self, one: Slice) -> Iterator[str]:
        location, renamed = one.payload["tar"], dict(one.payload.get("renamed", ()))
        if "start" not in one.payload:
            yield from super().keys(one)
            return
        with Path(location).open("rb") as file:
            members = tar.scan(file, one.payload["start"], one.payload["stop"])
            for position, group in enumerate(grouped(members, shown(location))):
                yield renamed.get(position, group.key)

    @property
    def _patterns(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    def _tars(self) -> list[str]:
        return list(expand(self._patterns))


def _keyed(payload: dict[str, Any]) -> Iterator[tuple[Group, str]]:
    """The groups of a slice, each with a unique key."""
    if "start" in payload:
        renamed = dict(payload["renamed"])
        for position, group in enumerate(_part(payload["tar"], payload["start"], payload["stop"])):
            yield group, renamed.get(position, group.key)
    else:
        keys = UniqueKeys()
        for group in _whole(payload["tar"]):
            yield group, keys.claim([group.key]).get(0, group.key)


def _sizes(folder: Path) -> dict[str, int]:
    try:
        sizes = json.loads((folder / SIZES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return sizes if isinstance(sizes, dict) else {}


def _cut(location: str, samples_per_slice: int, keys: UniqueKeys) -> Iterator[Slice]:
    """The slices of a local tar, from its headers alone. Each slice starts at a sample."""
    with Path(location).open("rb") as file:
        groups = list(grouped(tar.scan(file), shown(location)))
    renamed = keys.claim([group.key for group in groups])
    if not groups:
        return
    begins = [0]
    for position, group in enumerate(groups):
        if group.is_sample and position - begins[-1] >= samples_per_slice:
            begins.append(position)
    for begin, end in zip(begins, [*begins[1:], len(groups)], strict=True):
        payload = {
            "tar": location,
            # loose members may come before the first sample
            "start": 0 if begin == 0 else groups[begin].start,
            "stop": groups[end].start if end < len(groups) else None,
            "renamed": [[position - begin, renamed[position]] for position in range(begin, end) if position in renamed],
        }
        yield Slice(payload, end - begin)


def _part(location: str, start: int, stop: int | None) -> Iterable[Group]:
    try:
        with Path(location).open("rb", buffering=_BUFFERED_BYTES) as file:
            file.seek(start)
            yield from grouped(tar.read(file, start, stop), shown(location))
    except OSError as error:
        yield _unopened(location, error)


def _whole(location: str) -> Iterable[Group]:
    try:
        with opened(location) as stream:
            yield from grouped(tar.read(stream), shown(location))
    except (OSError, SampleError, SourceError) as error:
        yield _unopened(location, error)


def _unopened(location: str, error: Exception) -> Group:
    detail = "no such file" if isinstance(error, FileNotFoundError) else one_line(error)
    return Group(shown(location), 0, reason="broken_tar", detail=detail, is_sample=False)
