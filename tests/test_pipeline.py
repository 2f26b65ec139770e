"""Pipelines: iterated in memory, shown, and made of fluent calls."""

import asyncio
import copy
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

import mmsynth as mm
from mmsynth.errors import RecipeError
from mmsynth.pipeline import Pipeline
from mmsynth.sample import Result, Sample
from mmsynth.sources.base import Slice, Source, Unreadable
from mmsynth.testing import EchoCaptioner, KeyFilter, photo_samples


class Given(Source):
    """Samples that go on for ever, every seventh of which cannot be read; tells of its end in a file."""

    log: str

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        for start in range(0, 10**9, samples_per_slice):
            yield Slice([start, start + samples_per_slice], samples_per_slice)

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        (photo,) = photo_samples(1, size=16)
        try:
            for i in range(*payload):
                if i % 7 == 6:
                    yield Unreadable(f"s{i}", "image_missing", "no such file")
                else:
                    yield Sample(f"{'drop' if i % 7 == 5 else 's'}{i}", photo.image)
        finally:
            Path(self.log).write_text("closed")


class Asks(mm.Captioner):
    """Waits a while for each sample but the first hundred, as for a server."""

    concurrency: int = 8
    seconds: float = 0.001

    async def process_one(self, sample: Sample) -> Result:
        await asyncio.sleep(0 if int(sample.key.strip("sdrop")) < 100 else self.seconds)
        return sample.with_caption("answered")


class Prepares(mm.Captioner):
    """Decodes ahead in threads, and puts its batches together there."""

    batch_size: int = 4

    def prepare(self, sample: Sample) -> Any:
        assert sample.image is not None
        return sample.image.array()

    def assemble(self, batch: Sequence[Sample], prepared: Sequence[Any]) -> Any:
        return list(prepared)

    def process_prepared(self, batch: Sequence[Sample], prepared: Any) -> list[Result]:
        return [sample.with_caption(str(array.shape)) for sample, array in zip(batch, prepared, strict=True)]


class SaysHowMany(mm.Grouping):
    """Captions each candidate with the number of all."""

    opens_groups: ClassVar[bool] = False

    def process_group(self, samples: Sequence[Sample]) -> list[Result]:
        return [sample.with_caption(str(len(samples))) for sample in samples]


_there_before: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads_of_other_tests() -> None:
    """Some tests leave threads behind that hang, on purpose."""
    _there_before.clear()
    _there_before.update(threading.enumerate())


def ours() -> list[str]:
    """Names of threads that mmsynth has started in this test and that still live."""
    new = set(threading.enumerate()) - _there_before
    return [thread.name for thread in new if thread.name.startswith("mmsynth")]


@pytest.fixture
def given(tmp_path: Path) -> Pipeline:
    return mm.source(Given(log=str(tmp_path / "log")))


# -- iterating --------------------------------------------------------------------------------------------------------


def test_iterating_gives_every_result_in_order_and_writes_nothing(
    given: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    found = []
    for result in given.filter(KeyFilter()):
        found.append(result)
        if len(found) == 21:
            break
    assert [type(result).__name__ for result in found] == [*["Sample"] * 5, "Dropped", "Failed"] * 3
    assert not list((tmp_path / "here").iterdir())
    kept, dropped, failed = found[0], found[5], found[6]
    assert isinstance(kept, mm.Sample)
    assert kept.record["scores"] == {"length": 2}
    assert isinstance(dropped, mm.Dropped)
    assert (dropped.reason, dropped.sample.key if dropped.sample else None) == ("key_contains_text", "drop5")
    assert isinstance(failed, mm.Failed)
    assert (failed.reason, failed.detail) == ("image_missing", "no such file")
    assert failed.sample is not None
    assert failed.sample.key == "s6"


@pytest.mark.parametrize(
    "stages",
    [
        [],
        [EchoCaptioner()],
        [Prepares()],
        [Asks()],
        [Asks(seconds=60)],
        [Prepares(), Asks(), KeyFilter(), Asks()],
    ],
)  # fmt: skip
@pytest.mark.parametrize("batch_timeout_s", [None, 60.0])
def test_leaving_the_loop_early_stops_all_that_runs(
    stages: list[mm.Stage], batch_timeout_s: float | None, given: Pipeline, tmp_path: Path
) -> None:
    pipeline = given
    for stage in stages:
        pipeline = pipeline.then(stage)
    if batch_timeout_s:
        pipeline = pipeline.into("nowhere", batch_timeout_s=batch_timeout_s)
    started = time.monotonic()
    for _ in pipeline:
        break
    assert ours() == []
    assert time.monotonic() - started < 20
    assert (tmp_path / "log").read_text() == "closed"


def test_groups_are_left_early_too(given: Pipeline) -> None:
    for result in given.repeat(3).then(SaysHowMany()):
        assert isinstance(result, mm.Sample)
        assert result.caption == "3"
        break
    assert ours() == []


def test_an_error_in_the_loop_and_one_of_a_stage_stop_it_as_well(given: Pipeline) -> None:
    def broken() -> None:
        for _ in given.caption(EchoCaptioner()):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert ours() == []

    class Undeclared(mm.Filter):
        """Gives a score that it does not declare."""

        def process(self, batch: Sequence[Sample]) -> list[Result]:
            return [sample.with_scores(surprise=1.0) for sample in batch]

    with pytest.raises(mm.MMSynthError, match="surprise"):
        list(given.filter(Undeclared()))
    assert ours() == []


def test_an_iterator_can_be_closed_by_hand(given: Pipeline) -> None:
    results = iter(given.caption(Asks()))
    assert isinstance(next(results), mm.Sample)
    assert ours()
    results.close()
    assert ours() == []


def test_each_loop_begins_anew() -> None:
    pipeline = mm.scenes(4).caption("facts")
    assert [one.key for one in pipeline if isinstance(one, Sample)] == [
        one.key for one in pipeline if isinstance(one, Sample)
    ]


def test_a_loop_heeds_the_recipes_limit() -> None:
    assert len(list(mm.scenes(40).into("nowhere", limit=7))) == 7


def test_take_gives_the_first_results_whatever_became_of_them(given: Pipeline) -> None:
    found = given.filter(KeyFilter()).take(7)
    assert [type(result).__name__ for result in found] == [*["Sample"] * 5, "Dropped", "Failed"]
    assert ours() == []


def test_taking_none_runs_none(given: Pipeline, tmp_path: Path) -> None:
    assert given.take(0) == []
    assert not (tmp_path / "log").exists()


def test_candidates_come_one_by_one() -> None:
    keys = [result.key for result in mm.scenes(2).repeat(2).render("scenes") if isinstance(result, Sample)]
    assert keys == ["000000000_0", "000000000_1", "000000001_0", "000000001_1"]


# -- showing ----------------------------------------------------------------------------------------------------------


class Talks(mm.Captioner):
    """Writes a conversation, questions and a caption with brackets in it."""

    tags: str = "[a/b] :fire:"

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        picture = {"type": "image", "image": ""}
        said = [{"role": "user", "content": [picture, {"type": "text", "text": "What is it?"}]}]
        return [
            sample.with_caption("a [/bold] thing").with_qa([{"question": "Red?", "answer": "No"}] * 6).with_messages(said)
            for sample in batch
        ]  # fmt: skip


def test_show_prints_the_pipeline_and_its_first_results(given: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert given.caption(Talks(tags="[x]")).filter(KeyFilter()).seeded(5).show(7) is None  # type: ignore[func-returns-value]
    told = capsys.readouterr().out
    for part in (
        *("Given", "Talks", "tags: [x]", "seed", "5"),
        *("s0", "16×16 PNG", "a [/bold] thing", "Q: Red?  A: No", "and 2 more questions"),
        *("user: [image ] What is it?", "length 2", "dropped: key_contains_text", "failed: image_missing no such file"),
    ):
        assert part in told, part
    assert ours() == []


def test_show_names_models_and_defaults_to_three(capsys: pytest.CaptureFixture[str]) -> None:
    mm.scenes(9).render("scenes", size=40).filter("clip", min=0.1).show()
    told = capsys.readouterr().out
    assert "model: nano" in told
    assert "min: 0.1" in told
    assert "40×40 JPEG" in told
    assert "filter:clip by nano at files-" in told
    assert "000000002" in told
    assert "000000003" not in told


def test_show_of_nothing_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mm.prompts(str(tmp_path / "not-there.txt")).render("diffusion").show(n=0)
    assert "not-there.txt" in "".join(capsys.readouterr().out.split())


def test_show_tells_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    mm.source("folder", "https://me:hunter2@host/photos/").show(n=0)
    assert "hunter2" not in capsys.readouterr().out


# -- fluent calls -----------------------------------------------------------------------------------------------------


def test_groupings_are_methods() -> None:
    stages = mm.scenes(3).repeat(4).filter(KeyFilter()).best_of("length").pair(1, within=8).recipe.to_dict()["stages"]
    assert stages == [
        {"repeat": 4},
        {"filter": "mmsynth.testing:KeyFilter"},
        {"best_of": "length"},
        {"pair": 1, "within": 8},
    ]
    assert {"repeat", "best_of", "pair", "caption", "write"} <= set(dir(mm.scenes(3)))
    assert mm.scenes(3).repeat(times=2) == mm.scenes(3).repeat(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.repeat(1), r"times must be at least 2, got 1 \(\.repeat\(\), repeat\)"),
        (lambda p: p.repeat(), r"times is required"),
        (lambda p: p.repeat(2, times=3), "times is the value beside the name, and cannot be given twice"),
        (lambda p: p.pair(1, witin=3), r"no field 'witin'. Did you mean 'within'\?"),
        (lambda p: p.write("x", samples_per_shards=3), r"no option 'samples_per_shards'. Did you mean 'samples_per_shard'"),
        (lambda p: p.caption("vlm").filter(EchoCaptioner()), r"a stage for \.caption\(\), not \.filter\(\)"),
    ],
)  # fmt: skip
def test_wrong_calls_teach(call: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        call(mm.scenes(3))


def test_an_unknown_method_is_an_attribute_error_that_teaches() -> None:
    with pytest.raises(AttributeError, match=r"a Pipeline has no 'best_off'. Did you mean 'best_of'\?"):
        mm.scenes(3).best_off("clip")
    assert not hasattr(mm.scenes(3), "_repr_mimebundle_")


def test_then_adds_any_stage() -> None:
    (stage,) = mm.scenes(3).then(SaysHowMany()).recipe.stages
    assert stage == SaysHowMany()


def test_pipelines_can_be_copied_and_pickled() -> None:
    pipeline = mm.scenes(3).repeat(2).caption("facts")
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline
    assert copy.deepcopy(pipeline) == pipeline


def test_into_says_where_and_runs_nothing(tmp_path: Path) -> None:
    there = mm.scenes(3).render("scenes").into(tmp_path / "out", samples_per_shard=2, limit=1)
    assert there.recipe.out.path == str(tmp_path / "out")
    assert (there.recipe.out.samples_per_shard, there.recipe.run.limit) == (2, 1)
    assert not (tmp_path / "out").exists()
    assert there.run().inputs == 1


# -- sources by name --------------------------------------------------------------------------------------------------


def test_any_registered_source_is_a_function_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a red star\n")
    by_name = mm.prompts(tmp_path / "p.txt")
    assert by_name == mm.source("prompts", tmp_path / "p.txt") == mm.source("prompts", path=str(tmp_path / "p.txt"))
    assert by_name == mm.read(tmp_path / "p.txt")
    assert mm.scenes(4, seed=2) == mm.source("scenes", 4, seed=2) == mm.source("scenes", n=4, seed=2)
    assert mm.prompts(texts=["a star"]).take(1)[0].caption == "a star"  # type: ignore[union-attr]
