"""Groups: lists open them, stages of the shape group close them, and what is not in one is not mixed into another."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest
from pydantic import Field

import mmsynth as mm
from mmsynth.errors import PluginError, TooManyFailures
from tests.engine.run_files import shard_digests


class Splits(mm.Grouping):
    """Make `parts` samples of one whose caption has so many words: one word each."""

    def process(self, batch: Sequence[mm.Sample]) -> list[Any]:
        return [
            [sample.with_caption(word) for word in sample.caption.split()] if " " in (sample.caption or "") else sample
            for sample in batch
        ]


class Declared(Splits):
    """The same, declared."""

    opens_groups: ClassVar[bool] = True


class Joins(mm.Grouping):
    """Give the first member all captions; the others end."""

    def process_group(self, samples: Sequence[mm.Sample]) -> list[mm.Result]:
        joined = "+".join(sample.caption or "" for sample in samples)
        return [samples[0].with_caption(joined), *(mm.Dropped("joined", sample) for sample in samples[1:])]


def texts(*captions: str) -> mm.Pipeline:
    return mm.source("prompts", texts=list(captions))


def kept(pipeline: mm.Pipeline) -> dict[str, str | None]:
    return {result.key: result.caption for result in pipeline if isinstance(result, mm.Sample)}


def test_a_list_opens_a_group_and_members_have_keys_of_their_own() -> None:
    found = list(texts("a b c", "d").then(Splits()))
    assert [r.key for r in found if isinstance(r, mm.Sample)] == [f"{0:09d}_0", f"{0:09d}_1", f"{0:09d}_2", f"{1:09d}"]
    assert isinstance(found[1], mm.Sample)
    assert found[1].record["candidate"] == {"of": f"{0:09d}", "number": 1}


def test_a_group_stage_closes_it() -> None:
    assert list(kept(texts("a b c", "d", "e f").then(Splits()).then(Joins())).values()) == ["a+b+c", "d", "e+f"]


def test_groups_within_groups_where_only_some_results_are_lists() -> None:
    pipeline = texts("a b", "c").repeat(2).then(Declared()).then(Joins()).then(Joins())
    assert list(kept(pipeline).values()) == ["a+b+a+b", "c+c"]


def test_dead_members_keep_their_place_and_split_no_group(tmp_path: Path) -> None:
    class NoB(mm.Filter):
        """Drop b, fail x."""

        def process(self, batch: Sequence[mm.Sample]) -> list[Any]:
            return [
                mm.Dropped("is_b") if s.caption == "b" else mm.Failed("is_x", "x") if s.caption == "x" else s
                for s in batch
            ]

    pipeline = texts("a b c", "x y", "x").then(Splits()).then(NoB()).then(Joins())
    assert list(kept(pipeline).values()) == ["a+c", "y"]
    report = pipeline.write(tmp_path / "out")
    assert (report.inputs, report.candidates, report.kept) == (3, 6, 2)
    assert (report.dropped, report.failed, report.failed_inputs) == ({"is_b": 1, "joined": 1}, {"is_x": 2}, 1)
    rows = pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()
    assert [row["parent"] for row in rows] == [f"{0:09d}"] * 3 + [f"{1:09d}"] * 2 + [None]


def test_a_list_without_a_sample_is_a_drop_with_a_reason() -> None:
    class Nothing(mm.Grouping):
        """Make nothing of anything."""

        def process(self, batch: Sequence[mm.Sample]) -> list[Any]:
            return [[] for _ in batch]

    [result] = texts("a").then(Nothing())
    assert isinstance(result, mm.Dropped)
    assert result.reason == "empty_group"


def test_keys_of_candidates_and_inputs_do_not_meet_in_a_shard(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "x y", "key": "a"}\n{"prompt": "z", "key": "a_0"}\n')
    mm.prompts(tmp_path / "prompts.jsonl").then(Splits()).write(tmp_path / "out")
    keys = [row["key"] for row in pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()]
    assert keys[:2] == ["a_0", "a_1"]
    assert len(set(keys)) == 3
    assert len(list(mm.read(tmp_path / "out"))) == 3


@pytest.mark.parametrize("given", [["a text"], [mm.Sample("another")], "a text", None])
def test_what_a_stage_may_not_give_ends_the_run(given: Any) -> None:
    class Wrong(mm.Grouping):
        """Gives what is no result."""

        def process(self, batch: Sequence[mm.Sample]) -> list[Any]:
            return [given for _ in batch]

    with pytest.raises(PluginError, match="Wrong"):
        list(texts("a").then(Wrong()))


def test_pairs_are_drawn_from_the_block_and_do_not_depend_on_anything_else(tmp_path: Path) -> None:
    pipeline = texts(*"abcdefgh").pair(1, within=4).then(Joins())
    pairs = list(kept(pipeline).values())
    assert [pair[0] for pair in pairs if pair] == list("abcdefgh")
    assert all(pair and pair[2] in "abcd" and pair[2] != pair[0] for pair in pairs[:4])
    assert all(pair and pair[2] in "efgh" for pair in pairs[4:])
    one, other = tmp_path / "one", tmp_path / "other"
    pipeline.write(one, samples_per_shard=4)
    pipeline.write(other, samples_per_shard=4, workers=2)
    assert shard_digests(one) == shard_digests(other)


def test_a_last_window_that_is_short_is_joined_with_the_one_before() -> None:
    pairs = list(kept(texts(*"abcde").pair(1, within=4).then(Joins())).values())
    assert [pair[0] for pair in pairs if pair] == list("abcde")


def test_what_has_no_other_is_dropped() -> None:
    assert [r.reason for r in texts("alone").pair(1) if isinstance(r, mm.Dropped)] == ["no_other"]


class Fails(mm.Captioner):
    """Fail every candidate but the first."""

    share: float = Field(0.5)

    def process(self, batch: Sequence[mm.Sample]) -> list[Any]:
        return [s if s.key.endswith("_0") else mm.Failed("not_the_first") for s in batch]


def test_max_failures_counts_inputs_and_candidates(tmp_path: Path) -> None:
    pipeline = texts(*map(str, range(100))).repeat(4).then(Fails())
    report = pipeline.write(tmp_path / "out")
    assert (report.inputs, report.failed_inputs, report.candidates, sum(report.failed.values())) == (100, 0, 400, 300)
    with pytest.raises(TooManyFailures, match=r"of [0-9]+ candidates failed"):
        pipeline.write(tmp_path / "stopped", max_failures=0.5)
