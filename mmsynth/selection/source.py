"""The source `select`: the samples of other runs that a decision keeps, shuffled and in even slices.

Reads each sample from the place that its row gives. Image bytes and other members stay unchanged. The rules are in
`decision`.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy.typing as npt
from pydantic import Field, field_validator

from mmsynth.blocks import all_made_by
from mmsynth.errors import SampleError, SourceError
from mmsynth.io import tar
from mmsynth.io.files import whole_file, write_json
from mmsynth.io.locations import is_remote
from mmsynth.io.remote_files import unreachable
from mmsynth.io.storage import Storage, storage_at
from mmsynth.layout import STATS_ENDING, tar_name
from mmsynth.sample import Sample
from mmsynth.secrets import without_secrets
from mmsynth.seeds import rng_for
from mmsynth.selection.decision import Decided, Decision
from mmsynth.selection.rows import Rows
from mmsynth.shard_arrays import alike, mapped, shards_with_arrays
from mmsynth.shards.folder import RunFolder
from mmsynth.sources.base import Slice, Source, Unreadable
from mmsynth.sources.files import InputFile
from mmsynth.sources.members import grouped, sample_of
from mmsynth.sources.unique import UniqueKeys

ORIGINS = ("synthetic", "original", "prompt")
_DECIDING = set(Decision.model_fields)


class Selection(Source, Decision):
    """Select samples of finished or unfinished runs. The decision reads their parquet files only, no images.

    `runs` are output folders of mmsynth. `caption_mix` gives the shares of samples for which training reads the
    synthetic caption, the original one or the prompt; each sample's own seed decides. A sample without a caption of
    that origin keeps the one it has, and the report and selection.json count it, as `no_original_caption` for example.
    Every sample's record says how it was selected.
    """

    runs: tuple[str, ...] = Field(min_length=1)
    caption_mix: dict[str, float] | None = Field(None, description="origin → share: {synthetic: 0.8, original: 0.2}")

    @field_validator("runs", mode="before")
    @classmethod
    def _one_or_many(cls, runs: Any) -> Any:
        return (str(runs),) if isinstance(runs, str | Path) else runs

    @field_validator("runs")
    @classmethod
    def _each_run_once(cls, runs: tuple[str, ...]) -> tuple[str, ...]:
        there: dict[str, str] = {}
        for run in runs:
            place = storage_at(run).location
            if place in there:
                raise ValueError(f"the same run is given twice: {there[place]} and {run}")
            there[place] = run
        return runs

    @field_validator("caption_mix")
    @classmethod
    def _mix_is_sound(cls, mix: dict[str, float] | None) -> dict[str, float] | None:
        if mix is not None:
            if unknown := sorted(mix.keys() - set(ORIGINS)):
                raise ValueError(f"no captions of origin {', '.join(unknown)}: there are {', '.join(ORIGINS)}")
            if not mix or min(mix.values()) < 0 or not math.isclose(sum(mix.values()), 1, abs_tol=1e-6):
                raise ValueError(f"the shares must add up to 1, got {mix}")
        return mix

    def check(self) -> None:
        self.decided()

    def decided(self) -> Decided:
        """What is kept and why the rest is dropped. Decided once, and again only if the runs change."""
        return _decided(self.runs, self.model_dump_json(include=_DECIDING), _states(self.runs))

    def count(self) -> int | None:
        return self.decided().kept

    def score_names(self) -> tuple[str, ...]:
        return tuple(self.decided().rows.scores)

    def array_names(self) -> tuple[str, ...]:
        return _alike(_opened(self.runs, _states(self.runs)))

    def made_by(self) -> dict[str, tuple[str, ...]]:
        return all_made_by(self.decided().rows.made_by)

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        """Cut into even slices, whose sizes differ by one sample at most."""
        kept = self.decided().kept
        number = math.ceil(kept / samples_per_slice)
        rows, keys = self.decided().in_order(), UniqueKeys()
        for i in range(number):
            size = kept * (i + 1) // number - kept * i // number
            picks = [next(rows) for _ in range(size)]
            renamed = keys.claim([key for _, _, key, _, _ in picks])
            yield Slice({"picks": [[*pick, renamed.get(j)] for j, pick in enumerate(picks)]}, size)

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        runs = _opened(self.runs, _states(self.runs))
        for run, shard, key, start, stop, renamed in payload["picks"]:
            found = _read_one(runs[run], tar_name(shard), start, stop, renamed or key)
            if isinstance(found, Sample):
                found = replace(self._mixed(found), arrays=_arrays_of(runs, run, shard, start, key))
            yield found

    def keys(self, one: Slice) -> Iterator[str]:
        return (renamed or key for _, _, key, _, _, renamed in one.payload["picks"])

    def files(self, payload: Any) -> Iterator[InputFile]:
        """The shards, each as its digest says."""
        digests = _digests(self.runs, _states(self.runs))
        for run, shard in dict.fromkeys((pick[0], pick[1]) for pick in payload["picks"]):
            yield InputFile(f"{self.runs[run]}/{tar_name(shard)}", 0, "", digest=digests[run].get(shard, ""))

    def _mixed(self, sample: Sample) -> Sample:
        """The sample with the caption that `caption_mix` picks for it, and the decision in its record."""
        selected = self.model_dump(mode="json", exclude_defaults=True, include=_DECIDING)
        source = {**sample.record["source"], "kind": "select"}
        if self.caption_mix is not None:
            origin = self._turn(sample.key)
            entries = sample.record.get("captions", ())
            chosen = [entry for entry in entries if entry.get("origin") == origin]
            selected["caption"] = origin if chosen else "kept"
            if chosen:
                sample = replace(sample, caption=chosen[-1]["text"])
                if "scores" in sample.record:
                    sample = sample.with_record(scores=_scores_with(chosen[-1], entries, sample.record["scores"]))
            else:
                source["repaired"] = [*source.get("repaired", ()), _missing(origin)]
        steps = [*sample.record.get("steps", ()), {"stage": "select", **selected}]
        return sample.with_record(steps=steps, source=source)

    def _turn(self, key: str) -> str:
        assert self.caption_mix is not None
        draw = rng_for(self.seed, "caption_mix", key).random()
        # in a fixed order, so that the order in which the recipe lists the shares does not matter
        shares = [(origin, self.caption_mix[origin]) for origin in ORIGINS if self.caption_mix.get(origin)]
        for origin, share in shares:
            draw -= share
            if draw < 0:
                return origin
        return shares[-1][0]

    def describe_in(self, folder: Path) -> None:
        """Write selection.json, and for deduplication duplicates.csv: each dropped sample and the one that stays."""
        decided = self.decided()
        if self.dedup or self.near_duplicates:
            text = io.StringIO()
            lines = csv.writer(text, lineterminator="\n")
            lines.writerows([("run", "key", "stays_run", "stays", "reason"), *decided.duplicates()])
            with whole_file(folder / "duplicates.csv") as file:
                file.write(text.getvalue().encode())
        about = {
            "runs": without_secrets(self.runs),
            "decision": self.model_dump(mode="json", exclude_defaults=True, exclude={"runs"}),
            "candidates": decided.candidates,
            "kept": decided.kept,
            "dropped": decided.dropped,
            "without_score": decided.without_score,
            "unscored_runs": {name: without_secrets(runs) for name, runs in decided.unscored_runs.items()},
            "without_hash": decided.without_hash,
            **({} if self.caption_mix is None else {"caption_kept": self._kept_captions(folder)}),
            "quantiles": decided.quantiles,
        }
        write_json(folder / "selection.json", about)

    def _kept_captions(self, folder: Path) -> dict[str, int]:
        """Code → how many samples kept their caption, because they had none of the origin that the mix picked."""
        counts: Counter[str] = Counter()
        for stats in RunFolder(folder).committed.values():
            for codes, number in stats.repaired.items():
                counts.update(dict.fromkeys(set(codes.split(",")) & set(map(_missing, ORIGINS)), number))
        return dict(sorted(counts.items()))


def _missing(origin: str) -> str:
    return f"no_{origin}_caption"


@lru_cache(maxsize=4)
def _decided(runs: tuple[str, ...], decision: str, _states: tuple[Hashable, ...]) -> Decided:
    return Decision.model_validate_json(decision).decide(Rows(runs))


@lru_cache(maxsize=4)
def _opened(runs: tuple[str, ...], _states: tuple[Hashable, ...]) -> tuple[Storage, ...]:
    return tuple(map(storage_at, runs))


@lru_cache(maxsize=4)
def _digests(runs: tuple[str, ...], _states: tuple[Hashable, ...]) -> tuple[dict[int, str], ...]:
    """Of each run: shard → digest of its tar."""
    return tuple(
        {i: stats.sha256.get(tar_name(i), "") for i, stats in RunFolder(run).committed.items()} for run in runs
    )


def _states(runs: tuple[str, ...]) -> tuple[Hashable, ...]:
    """Values that change when a run gains a shard or rewrites one."""
    try:
        return tuple(storage_at(run).state(STATS_ENDING) for run in runs)
    except OSError as error:
        raise SourceError(str(error)) from error


def _arrays_of(runs: tuple[Storage, ...], run: int, shard: int, start: int, key: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays beside a shard for the sample that starts at `start` in its tar."""
    return {name: one for name, one in mapped(runs[run], shard).at(start, key).items() if name in _alike(runs)}


@lru_cache(maxsize=4)
def _alike(runs: tuple[Storage, ...]) -> tuple[str, ...]:
    return alike(mapped(run, shard).kinds() for run in runs for shard in shards_with_arrays(run)[:1])


def _scores_with(chosen: dict[str, Any], entries: Sequence[dict[str, Any]], scores: dict[str, Any]) -> dict[str, Any]:
    """The sample's scores with `chosen` as its caption. Of scores that belong to captions, take the chosen one's."""
    own: dict[str, Any] = chosen.get("scores", {})
    each = {name for entry in entries for name in entry.get("scores", {})}
    return {name: value for name, value in scores.items() if name not in each} | own


def _read_one(run: Storage, name: str, start: int, stop: int, key: str) -> Sample | Unreadable:
    shown = f"{run.shown.rpartition('/')[2]}/{name}"
    try:
        part = io.BytesIO(run.span(name, start, stop))
        groups = list(grouped(tar.read(part, start, stop), shown))
    except (OSError, SampleError) as error:
        if isinstance(error, OSError) and is_remote(run.location) and not isinstance(error, FileNotFoundError):
            raise unreachable(error) from error
        return Unreadable(key, "broken_tar", str(error), shown)
    if len(groups) != 1:
        return Unreadable(key, "broken_tar", "the tar is not the one that the parquet file describes", shown)
    return sample_of(groups[0], key, shown)
