"""The sources concat and mix: several sources as one, one after another or by weight.

Each slice names the slices of the parts that it is made of, so it can be read on its own. Keys stay unique: the first
sample with a key keeps it. Later ones get a new key, and keep theirs in `record["source"]["original_key"]`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from mmsynth.blocks import all_made_by
from mmsynth.errors import RecipeError, SourceError
from mmsynth.keys import short_digest
from mmsynth.sample import Sample
from mmsynth.seeds import seed_for
from mmsynth.sources.base import Slice, Source, Unreadable
from mmsynth.sources.captions import note
from mmsynth.sources.files import InputFile
from mmsynth.sources.specs import SourceField, as_source
from mmsynth.sources.unique import UniqueKeys
from mmsynth.sources.weighted import Drawn, Rest, chosen, pieces_of
from mmsynth.validation import build, mapping

#: mix cuts its parts into slices of so many samples, and always reads one from its start
_GRAIN = 256


class _Combined(Source):
    """The methods that concat and mix share."""

    main: ClassVar[str] = "sources"

    def parts(self) -> tuple[Source, ...]:
        raise NotImplementedError

    def check(self) -> None:
        for number, part in enumerate(self.parts()):
            try:
                part.check()
            except SourceError as error:
                raise SourceError(f"{error} (sources[{number}])") from error

    def count(self) -> int | None:
        counts = [part.count() for part in self.parts()]
        return None if None in counts else sum(filter(None, counts))

    def score_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.parts() for name in part.score_names()))

    def array_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.parts() for name in part.array_names()))

    def made_by(self) -> Mapping[str, tuple[str, ...]]:
        return all_made_by(part.made_by() for part in self.parts())

    def not_read(self) -> Mapping[str, int]:
        return sum((Counter(part.not_read()) for part in self.parts()), Counter[str]())

    def describe_in(self, folder: Path) -> None:
        """Each part's own files, its number before their names; and what all of them did not read."""
        for number, part in enumerate(self.parts()):
            before = set(folder.iterdir())
            part.describe_in(folder)
            for path in set(folder.iterdir()) - before:
                path.replace(path.with_name(f"part{number}_{path.name}"))
        super().describe_in(folder)


class Concat(_Combined):
    """Read several sources, one after another. `record["source"]["part"]` is the source's number.

    `sources` are sources as a recipe writes them, or paths. No block holds samples of two sources.
    """

    sources: tuple[SourceField, ...] = Field(min_length=1)

    @field_validator("sources", mode="before")
    @classmethod
    def _built(cls, given: Any, info: ValidationInfo) -> Any:
        return [as_source(one, where) for one, where in _each(given, info, "concat")]

    def parts(self) -> tuple[Source, ...]:
        return self.sources

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        keys = UniqueKeys()
        for number, part in enumerate(self.sources):
            for one in part.slices(samples_per_slice):
                payload = {"part": number, "payload": one.payload}
                if one.size is None:
                    # the keys are unknown until they are read, so they get a suffix of this slice's own
                    yield Slice({**payload, "suffix": short_digest(f"{number} {one.payload}")}, None)
                else:
                    renamed = keys.claim(list(part.keys(one)))
                    yield Slice({**payload, "renamed": [[i, key] for i, key in renamed.items()]}, one.size)

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        renamed = dict(payload.get("renamed", ()))
        for i, read in enumerate(self.sources[payload["part"]].read(payload["payload"])):
            key = f"{read.key}-{payload['suffix']}" if "suffix" in payload else renamed.get(i, read.key)
            yield _of_part(read, payload["part"], key)

    def keys(self, one: Slice) -> Iterator[str]:
        if one.size is None:
            yield from super().keys(one)
            return
        renamed = dict(one.payload["renamed"])
        for i, key in enumerate(self.sources[one.payload["part"]].keys(Slice(one.payload["payload"], one.size))):
            yield renamed.get(i, key)

    def files(self, payload: Any) -> Iterator[InputFile]:
        yield from self.sources[payload["part"]].files(payload["payload"])


class Weighted(BaseModel):
    """A part of a mixture."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: SourceField
    weight: float = Field(1.0, gt=0, description="the share, relative to the other weights")

    @field_validator("source", mode="before")
    @classmethod
    def _built(cls, given: Any, info: ValidationInfo) -> Source:
        return as_source(given, (info.context or {}).get("where", "source mix"))


class Mix(_Combined):
    """Interleave several sources by weight. Each sample comes at most once, and each source stays in order.

    `sources` are `{source: …, weight: …}`, or a mapping of paths to weights. When a source runs out, the others go on
    with their weights (`until: last`), or the mixture ends (`until: first`). The draws depend on `seed` alone, so the
    order does not depend on the size of blocks. `record["source"]["part"]` is the source's number.
    """

    sources: tuple[Weighted, ...] = Field(min_length=1)
    seed: int = 0
    until: Literal["first", "last"] = Field("last", description="stop when the first source runs out, or the last")

    @field_validator("sources", mode="before")
    @classmethod
    def _built(cls, given: Any, info: ValidationInfo) -> Any:
        if isinstance(given, Mapping):
            given = [{"source": one, "weight": weight} for one, weight in given.items()]
        return [_weighted(one, where) for one, where in _each(given, info, "mix")]

    def parts(self) -> tuple[Source, ...]:
        return tuple(one.source for one in self.sources)

    def count(self) -> int | None:
        return super().count() if self.until == "last" else None

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        keys, draws = UniqueKeys(), self._draws(min(samples_per_slice, _GRAIN))
        while drawn := list(islice(draws, samples_per_slice)):
            renamed = keys.claim([one.key for one in drawn])
            payload = {
                "order": [one.part for one in drawn],
                "pieces": pieces_of(drawn),
                "renamed": [[i, key] for i, key in renamed.items()],
            }
            yield Slice(payload, len(drawn))

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        renamed = dict(payload["renamed"])
        reading = {part: self._reading(payload["pieces"], part) for part in set(payload["order"])}
        for i, part in enumerate(payload["order"]):
            read = next(reading[part], None)
            if read is not None:
                yield _of_part(read, part, renamed.get(i, read.key))

    def keys(self, one: Slice) -> Iterator[str]:
        renamed = dict(one.payload["renamed"])
        naming = {part: self._naming(one.payload["pieces"], part) for part in set(one.payload["order"])}
        for i, part in enumerate(one.payload["order"]):
            key = next(naming[part])
            yield renamed.get(i, key)

    def files(self, payload: Any) -> Iterator[InputFile]:
        for part, piece, *_ in payload["pieces"]:
            yield from self.sources[part].source.files(piece)

    def _draws(self, grain: int) -> Iterator[Drawn]:
        """Every sample in its turn."""
        left = {part: Rest(part, one.source, grain) for part, one in enumerate(self.sources)}
        ended = [part for part, rest in left.items() if not rest]
        number = 0
        while not (ended and self.until == "first"):
            for part in ended:
                del left[part]
            if not left:
                return
            weights = {part: self.sources[part].weight for part in left}
            part = chosen(weights, seed_for(self.seed, "mix", str(number)) / 2**63)
            number += 1
            yield left[part].take()
            ended = [] if left[part] else [part]

    def _reading(self, pieces: Sequence[Any], part: int) -> Iterator[Sample | Unreadable]:
        for of, payload, _, start, stop in pieces:
            if of == part:
                yield from islice(self.sources[part].source.read(payload), start, stop)

    def _naming(self, pieces: Sequence[Any], part: int) -> Iterator[str]:
        for of, payload, size, start, stop in pieces:
            if of == part:
                yield from islice(self.sources[part].source.keys(Slice(payload, size)), start, stop)


def _of_part(read: Sample | Unreadable, part: int, key: str) -> Sample | Unreadable:
    """`read` with the number of its part in `record["source"]`, and with `key`."""
    if isinstance(read, Unreadable):
        return replace(read, key=key)
    came = read.record.get("source", {})
    source = dict(came) if isinstance(came, Mapping) else {"path": str(came)}
    # a part may itself have parts: 1.0, 1.1, …
    source["part"] = f"{part}.{source['part']}" if "part" in source else str(part)
    if key != read.key:
        source.setdefault("original_key", read.key)
        repaired = list(source.get("repaired", ()))
        note(repaired, "duplicate_key")
        source["repaired"] = repaired
    return replace(read, key=key).with_record(source=source)


def _each(given: Any, info: ValidationInfo, kind: str) -> Iterator[tuple[Any, str]]:
    """The items of a list of sources, each with its place for error messages."""
    where = (info.context or {}).get("where", f"source {kind}")
    if isinstance(given, str | Path) or not isinstance(given, Sequence):
        raise RecipeError(f"sources must be a list of sources, got {given!r} ({where})")
    for number, one in enumerate(given):
        yield one, f"{where}, sources[{number}]"


def _weighted(given: Any, where: str) -> Weighted:
    if isinstance(given, Weighted):
        return given
    if isinstance(given, Source):
        return Weighted(source=given)
    return build(Weighted, mapping(given, where, "a part of a mixture"), where)
