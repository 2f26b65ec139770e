"""The webdataset source: samples in tars, such as img2dataset's, open_clip's and our own."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pydantic import Field

from mmsynth.errors import SampleError, SourceError, Unreachable
from mmsynth.frames import MOST_FRAMES
from mmsynth.io import tar
from mmsynth.io.locations import filesystem, is_remote, local, shown
from mmsynth.io.remote_files import is_at
from mmsynth.io.retry import one_line
from mmsynth.layout import SIZES
from mmsynth.sample import Sample
from mmsynth.secrets import without_secrets
from mmsynth.sources.base import Slice, Source, Unreadable, in_groups
from mmsynth.sources.beside import others_below
from mmsynth.sources.earlier_runs import arrays_beside, arrays_of, made_by_of, scores_of
from mmsynth.sources.files import InputFile, input_file
from mmsynth.sources.frames import framed
from mmsynth.sources.members import Group, grouped, sample_of
from mmsynth.sources.order import Gathered, gathered, is_scattered, told
from mmsynth.sources.streams import Streams
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

    def made_by(self) -> Mapping[str, tuple[str, ...]]:
        return made_by_of(self._tars())

    def not_read(self) -> Mapping[str, int]:
        tars = self._tars()
        folders = [one for one in self._patterns if (one.endswith("/") if is_remote(one) else local(one).is_dir())]
        others = (others_below(one if is_remote(one) else local(one), tars, companions=True) for one in folders)
        return sum(others, Counter[str]())

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
        for group, key in self._keyed(payload):
            read = sample_of(group, key, name)
            if beside is not None and isinstance(read, Sample):
                read = replace(read, arrays=beside.at(group.start, group.name))
            yield read

    def keys(self, one: Slice) -> Iterator[str]:
        location, renamed = one.payload["tar"], dict(one.payload.get("renamed", ()))
        if "start" not in one.payload:
            yield from (key for _, key in self._keyed(one.payload))
            return
        with Path(location).open("rb") as file:
            members = tar.scan(file, one.payload["start"], one.payload["stop"])
            for position, group in enumerate(grouped(members, shown(location))):
                yield renamed.get(position, group.key)

    def files(self, payload: Any) -> Iterator[InputFile]:
        yield input_file(payload["tar"], payload.get("start", 0), payload.get("stop"))

    def _keyed(self, payload: dict[str, Any]) -> Iterator[tuple[Group, str]]:
        """What a slice holds, with keys that are unique."""
        if "start" in payload:
            renamed = dict(payload["renamed"])
            for position, group in enumerate(_part(payload["tar"], payload["start"], payload["stop"])):
                yield group, renamed.get(position, group.key)
        elif "gathered" in payload:
            renamed = dict(payload["renamed"])
            for position, group in enumerate(_gathered(payload["tar"], payload["gathered"])):
                yield group, renamed.get(position, group.key)
        else:
            keys, streams = UniqueKeys(), Streams(self._tars())
            for group in told(_whole(payload["tar"])):
                key = streams.key(payload["tar"], group.key)
                yield group, keys.claim([key]).get(0, key)

    @property
    def _patterns(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    def _tars(self) -> list[str]:
        return list(expand(self._patterns))


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
    if is_scattered(groups):
        yield from _cut_scattered(location, gathered(groups), samples_per_slice, keys)
        return
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


def _cut_scattered(
    location: str, samples: Sequence[Gathered], samples_per_slice: int, keys: UniqueKeys
) -> Iterator[Slice]:
    """The slices of a local tar in which members of one key stand apart."""
    for some in in_groups(samples, samples_per_slice):
        renamed = keys.claim([one.group.key for one in some])
        payload = {
            "tar": location,
            "gathered": [one.spans for one in some],
            "renamed": [[position, key] for position, key in renamed.items()],
        }
        yield Slice(payload, len(some))


def _gathered(location: str, samples: Iterable[Sequence[tuple[int, int | None]]]) -> Iterator[Group]:
    try:
        with Path(location).open("rb", buffering=_BUFFERED_BYTES) as file:
            for spans in samples:
                # what lies between its members has places of its own
                yield from islice(grouped(_members(file, spans), shown(location)), 1)
    except OSError as error:
        yield _unopened(location, error)


def _members(file: IO[bytes], spans: Iterable[tuple[int, int | None]]) -> Iterator[tuple[tar.Member, bytes | None]]:
    for start, stop in spans:
        file.seek(start)
        yield from tar.read(file, start, stop)


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
    except Unreachable:
        raise
    except (OSError, SampleError, SourceError) as error:
        yield _unopened(location, error)


def _unopened(location: str, error: Exception) -> Group:
    detail = "no such file" if isinstance(error, FileNotFoundError) else one_line(error)
    return Group(shown(location), 0, reason="broken_tar", detail=detail, is_sample=False)
