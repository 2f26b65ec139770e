"""Stages of the shape one on a chat model in this process: batches that depend on nothing but the samples."""

import asyncio
import threading
import time
from typing import Any

import pytest
from pydantic import PrivateAttr

import mmsynth as mm
from mmsynth.blocks import Block, Edge, Item
from mmsynth.engine.chain import run_stage as running
from mmsynth.engine.resources import resources
from mmsynth.errors import ModelError, SampleError
from mmsynth.models.chat import Reply, ask
from mmsynth.testing import run_stage
from tests.engine.chat_models import Dialogue, Shouts, request

SAMPLES = [mm.Sample(f"k{i}") for i in range(20)]


def captions(stage: mm.Stage, samples: list[mm.Sample] = SAMPLES) -> list[Any]:
    return [getattr(result, "caption", result) for results in run_stage(stage, samples) for result in results]


def test_a_dialogue_is_the_same_as_each_sample_alone() -> None:
    alone = [captions(Dialogue(), [sample])[0] for sample in SAMPLES]
    for batch_size in (1, 3, 8, 64):
        assert captions(Dialogue(batch_size=batch_size)) == alone


def test_a_round_is_one_batch_and_the_batches_are_the_same_every_time() -> None:
    def asked() -> list[list[str]]:
        model = Shouts()
        captions(Dialogue(batch_size=8).of(model))
        return model.asked

    first = asked()
    # twenty samples are three batches, and those of two follow-up turns are rounds of their own
    assert sorted(map(len, first), reverse=True)[:2] == [8, 8]
    assert sum(map(len, first)) == 20 + sum(i % 10 % 3 for i in range(20))
    for _ in range(3):
        again = asked()
        assert sorted(map(tuple, again)) == sorted(map(tuple, first))


def test_a_sample_that_raises_fails_alone_and_nobody_is_asked_twice() -> None:
    model = Shouts(refuses="k13")
    samples = [*SAMPLES[:5], mm.Sample("broken1"), *SAMPLES[5:]]
    results = captions(Dialogue(batch_size=8).of(model), samples)
    failed = {
        sample.key: result.reason
        for sample, result in zip(samples, results, strict=True)
        if not isinstance(result, str)
    }
    assert failed == {"broken1": "ValueError", "k13": "refused"}
    texts = [text for batch in model.asked for text in batch]
    assert len(texts) == len(set(texts))


def test_out_of_memory_halves_the_batch_and_keeps_the_smaller_size() -> None:
    model = Shouts(room=3)
    assert captions(Dialogue(batch_size=8).of(model)) == captions(Dialogue())
    assert [len(batch) for batch in model.asked if len(batch) > 3] == [8, 4]


class AsksThrice(Dialogue):
    """Ask three things at once."""

    async def process_one(self, sample: mm.Sample) -> mm.Sample:
        replies = await asyncio.gather(*(ask(self._model, request(f"{sample.key} {i}")) for i in range(3)))
        return sample.with_caption(" ".join(reply.text for reply in replies))


def test_what_a_sample_asks_at_once_goes_into_one_round() -> None:
    model = Shouts()
    assert captions(AsksThrice(batch_size=4).of(model))[1] == "K1 0 K1 1 K1 2"
    # as many requests together as there are samples in a batch
    assert [len(batch) for batch in model.asked] == [4] * 15
    assert model.asked[0] == ["k0 0", "k0 1", "k0 2", "k1 0"]


def test_tokens_are_counted_for_each_sample() -> None:
    [[result]] = run_stage(Dialogue(), [mm.Sample("k2")])
    assert isinstance(result, mm.Sample)
    asked = ["k2 what", "k2 turn 0 after K2 ", "k2 turn 1 after K2 "]
    assert result.record["steps"][-1]["tokens"] == {"prompt": sum(map(len, asked)), "completion": 3}


class Slow(Shouts):
    """Takes its time, and says when it was at work."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def assemble(self, requests: Any) -> list[str]:
        self.events.append("assembled")
        return super().assemble(requests)

    def answer(self, requests: Any, assembled: list[str]) -> list[Reply]:
        self.events.append("answering")
        time.sleep(0.05)
        self.events.append("answered")
        return super().answer(requests, assembled)


def test_the_next_batch_is_put_together_while_one_is_on_the_device() -> None:
    model = Slow()
    captions(Dialogue(batch_size=4).of(model), [mm.Sample(f"k{i}0") for i in range(8)])
    assert model.events[: model.events.index("answered")].count("assembled") == 2


class Stops(Shouts):
    """Raises an error that is no request's."""

    def answer(self, requests: Any, assembled: Any) -> list[Reply]:
        raise ModelError("the model is gone")


def test_an_error_that_is_no_samples_ends_the_run() -> None:
    with pytest.raises(ModelError, match="the model is gone"):
        captions(Dialogue().of(Stops()))


class Hangs(Dialogue):
    """Waits for ever for something that never comes, for the sample k3."""

    async def process_one(self, sample: mm.Sample) -> mm.Sample:
        if sample.key == "k3":
            await asyncio.Event().wait()
        return await super().process_one(sample)


def test_a_sample_that_hangs_is_given_up_and_its_batch_goes_on() -> None:
    block = Block(0, None, 6)
    flow = [Edge(block, False), *(Item(f"k{i}", mm.Sample(f"k{i}"), number=i) for i in range(6)), Edge(block, True)]
    with resources(2, 0.3, with_loop=True) as on:
        ended = [entry for entry in running(flow, Hangs(batch_size=4), on) if isinstance(entry, Item)]
    assert [item.status for item in ended] == ["kept"] * 3 + ["failed"] + ["kept"] * 2
    assert ended[3].reason == "timeout"


class TakesTurns(Dialogue):
    """Two samples at a time, by a lock that they share."""

    _turns: asyncio.Semaphore = PrivateAttr(default_factory=lambda: asyncio.Semaphore(2))

    async def process_one(self, sample: mm.Sample) -> mm.Sample:
        async with self._turns:
            return await super().process_one(sample)


def test_samples_that_wait_for_one_another_are_answered_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmsynth.engine.lockstep._QUIET_S", 0.05)
    assert captions(TakesTurns(batch_size=8)) == captions(Dialogue())


def test_nothing_of_a_run_is_left_behind() -> None:
    captions(Dialogue())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mmsynth-loop")]


def test_a_reply_that_is_an_error_can_be_caught_by_the_stage() -> None:
    class Forgives(Dialogue):
        """Takes no for an answer."""

        async def process_one(self, sample: mm.Sample) -> mm.Sample:
            try:
                return await super().process_one(sample)
            except SampleError:
                return sample.with_caption("refused")

    assert captions(Forgives().of(Shouts(refuses="k1 what")))[1] == "refused"
