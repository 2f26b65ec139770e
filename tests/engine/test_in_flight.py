"""Stages of the shape one that wait for something outside: many samples in flight, results in order."""

import asyncio
import time
from typing import Any, ClassVar

import pytest
from pydantic import Field, PrivateAttr

import mmsynth as mm
from mmsynth.errors import PluginError, RecipeError, SampleError
from mmsynth.testing import run_stage


class Waits(mm.Captioner):
    """Wait, and count how many wait at once."""

    concurrency: int = Field(8, ge=1)
    seconds: float = 0.01
    #: these take thirty times as long
    stragglers: tuple[str, ...] = ()

    #: how many waited at once, whenever one began to; of all copies
    waiting: ClassVar[list[int]] = []

    _now: int = PrivateAttr(default=0)
    _most: int = PrivateAttr(default=0)
    _asked: list[str] = PrivateAttr(default_factory=list)

    async def process_one(self, sample: mm.Sample) -> mm.Result:
        self._asked.append(sample.key)
        self._now += 1
        self._most = max(self._most, self._now)
        self.waiting.append(self._now)
        try:
            await asyncio.sleep(self.seconds * (30 if sample.key in self.stragglers else 1))
        finally:
            self._now -= 1
        if sample.key == "bad":
            raise SampleError("refused", "the server says no")
        if sample.key == "odd":
            return mm.Failed("odd", "cannot be done")
        return sample.with_caption(sample.key)


def keyed(n: int) -> list[mm.Sample]:
    return [mm.Sample(f"k{i:03d}") for i in range(n)]


def outcomes(stage: mm.Stage, samples: list[mm.Sample]) -> list[Any]:
    return [getattr(r, "caption", getattr(r, "reason", None)) for results in run_stage(stage, samples) for r in results]


def test_so_many_are_in_flight_and_results_come_in_order() -> None:
    stage = Waits(concurrency=8)
    samples = keyed(100)
    started = time.perf_counter()
    assert outcomes(stage, samples) == [sample.key for sample in samples]
    assert stage._most == 8
    assert time.perf_counter() - started < 100 * 0.01 / 2


def test_one_that_fails_fails_alone_and_nobody_is_asked_twice() -> None:
    stage = Waits()
    samples = [*keyed(10), mm.Sample("bad"), mm.Sample("odd"), *(mm.Sample(f"z{i}") for i in range(10))]
    found = outcomes(stage, samples)
    assert found[10:12] == ["refused", "odd"]
    assert sorted(stage._asked) == sorted(sample.key for sample in samples)


def test_a_straggler_holds_back_the_output_and_nobodys_request() -> None:
    stage = Waits(concurrency=4, stragglers=("k000",))
    samples = keyed(60)
    started = time.perf_counter()
    assert outcomes(stage, samples) == [sample.key for sample in samples]
    # the other 59 take 0.2 s on three places, while the straggler takes 0.3 s
    assert time.perf_counter() - started < 0.45


def test_they_are_in_flight_across_blocks(tmp_path: Any) -> None:
    (tmp_path / "prompts.txt").write_text("\n".join(f"number {i}" for i in range(40)))
    Waits.waiting.clear()
    report = (
        mm.prompts(tmp_path / "prompts.txt")
        .then(Waits(concurrency=40, seconds=0.2))
        .write(tmp_path / "out", samples_per_shard=2)
    )
    assert (report.kept, report.shards) == (40, 20)
    assert max(Waits.waiting) > 2, "more than a block has"


def test_an_error_that_is_no_samples_ends_the_run() -> None:
    class Stops(mm.Captioner):
        """Finds that it cannot work at all."""

        async def process_one(self, sample: mm.Sample) -> mm.Result:
            raise RecipeError("there is no such server")

    with pytest.raises(RecipeError, match="no such server"):
        outcomes(Stops(), keyed(5))


class Cancels(mm.Captioner):
    """Await a task that is cancelled, for every other sample."""

    async def process_one(self, sample: mm.Sample) -> mm.Result:
        task = asyncio.create_task(asyncio.sleep(0 if sample.key.endswith("0") else 10))
        await asyncio.sleep(0)
        if not sample.key.endswith("0"):
            task.cancel()
        await task
        return sample.with_caption("slept")


def test_something_cancelled_fails_its_sample_and_hangs_nothing() -> None:
    assert outcomes(Cancels(), keyed(2)) == ["slept", "cancelled"]


class Exits(mm.Captioner):
    """Ends the process, or means to."""

    async def process_one(self, sample: mm.Sample) -> mm.Result:
        raise SystemExit(3)


def test_an_exit_ends_the_run() -> None:
    with pytest.raises(SystemExit):
        outcomes(Exits(), keyed(5))


class Forgets(mm.Captioner):
    """Forget to return the sample."""

    async def process_one(self, sample: mm.Sample) -> mm.Result:  # type: ignore[return]
        sample.with_caption("lost")


def test_a_stage_that_gives_nothing_is_told_so() -> None:
    with pytest.raises(PluginError, match="Forgets must give a Sample, Dropped, Failed or a list of samples, got None"):
        outcomes(Forgets(), keyed(2))


class Prepared(mm.Captioner):
    """Use what threads made ahead."""

    async def process_one(self, sample: mm.Sample, prepared: Any = None) -> mm.Result:
        await asyncio.sleep(0)
        return sample.with_caption(f"{sample.key} {prepared}")

    def prepare(self, sample: mm.Sample) -> int:
        if sample.key == "k002":
            raise SampleError("unreadable")
        return len(sample.key)


def test_prepare_runs_ahead_for_this_shape_too() -> None:
    assert outcomes(Prepared(), keyed(4)) == ["k000 4", "k001 4", "unreadable", "k003 4"]
