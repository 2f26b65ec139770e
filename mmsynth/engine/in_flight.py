"""Runs a stage of the shape one with many samples in flight: for what waits for something outside this process.

Up to `concurrency` samples are under way, across batches and blocks, and results come in order. A straggler holds back
the output and nobody's request; what is finished and waits behind it is bounded by its bytes.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Iterator

from mmsynth.blocks import Edge, Flow, Item
from mmsynth.engine.event_loop import in_loop
from mmsynth.engine.one import OneSample, TimeLimit, late, needs_running, takes_prepared
from mmsynth.engine.outcomes import Outcomes
from mmsynth.engine.resources import Resources
from mmsynth.models.chat import Reply, Request, Usage
from mmsynth.sample import Sample
from mmsynth.stage import Stage

#: samples under way where the stage has no field `concurrency`
_CONCURRENCY = 16
#: what may be finished and wait behind a straggler
_MOST_WAITING_BYTES = 256 * 2**20
#: what a sample takes beside its pictures
_BYTES_A_SAMPLE = 4096


class InFlightRunner:
    """Keeps `concurrency` samples of one stage in flight."""

    def __init__(self, stage: Stage, on: Resources) -> None:
        assert on.loop is not None, "coroutines need an event loop"
        self.stage = stage
        self._pool, self._loop, self._timeout_s = on.pool, on.loop, on.timeout_s
        self._concurrency = int(getattr(stage, "concurrency", _CONCURRENCY))
        self._outcomes = Outcomes(stage)
        self._prepares = takes_prepared(stage)
        # made in the loop's thread, which uses it
        self._gate = asyncio.Semaphore(self._concurrency)
        self._changed = threading.Condition()
        #: samples that were handed to the loop and are not finished
        self._unfinished = 0
        self._waiting_bytes = 0

    def run(self, flow: Iterable[Flow]) -> Iterator[Flow]:
        window: deque[_InFlight | Flow] = deque()
        for entry in flow:
            window.append(self._start(entry) if isinstance(entry, Item) and needs_running(entry) else entry)
            while window and (_is_done(window[0]) or self._is_full()):
                if _is_done(window[0]):
                    yield from self._out(window.popleft())
                else:
                    self._wait(window[0])
        while window:
            while not _is_done(window[0]):
                self._wait(window[0])
            yield from self._out(window.popleft())

    def _start(self, item: Item) -> "_InFlight":
        assert item.sample is not None
        prepared = self._pool.submit(self.stage.prepare, item.sample) if self._prepares else None
        sample = _InFlight(item, OneSample(item, prepared))
        with self._changed:
            self._unfinished += 1
        in_loop(self._loop, self._launch, sample)
        return sample

    def _launch(self, sample: "_InFlight") -> None:
        sample.task = self._loop.create_task(self._do(sample))

    async def _do(self, sample: "_InFlight") -> None:
        async with self._gate:
            limit = TimeLimit(self._timeout_s)
            if not await limit.hold(sample.one.run(self.stage, sample, in_batches=False)):
                sample.one.outcome = late(self._timeout_s)
        with self._changed:
            sample.bytes = _size(sample.one.outcome)
            self._unfinished -= 1
            self._waiting_bytes += sample.bytes
            sample.is_done = True
            self._changed.notify()

    def _is_full(self) -> bool:
        """Whether to wait before more samples are taken from upstream.

        The limit is twice the concurrency, so that the loop always has the next sample at hand.
        """
        return self._unfinished >= 2 * self._concurrency or self._waiting_bytes >= _MOST_WAITING_BYTES

    def _wait(self, head: "_InFlight | Flow") -> None:
        with self._changed:
            self._changed.wait_for(lambda: _is_done(head) or not self._is_full())

    def _out(self, entry: "_InFlight | Flow") -> Iterator[Flow]:
        if not isinstance(entry, _InFlight):
            yield entry
            return
        with self._changed:
            self._waiting_bytes -= entry.bytes
        yield from self._outcomes.of(entry.item, entry.one.ended(self.stage, self._outcomes), entry.one.usage)


class _InFlight:
    """A sample in flight; a Collector that only counts."""

    def __init__(self, item: Item, one: OneSample) -> None:
        self.item, self.one = item, one
        self.is_done = False
        self.bytes = 0
        #: held here, or the loop might let go of it
        self.task: asyncio.Task[None] | None = None

    async def ask(self, request: Request) -> Reply:
        raise AssertionError("only models in this process are asked through a collector")

    def count(self, usage: Usage) -> None:
        self.one.usage = self.one.usage + usage


def _is_done(entry: "_InFlight | Flow") -> bool:
    return entry.is_done if isinstance(entry, _InFlight) else isinstance(entry, Edge | Item)


def _size(outcome: object) -> int:
    """What a result holds in memory, in bytes, more or less."""
    samples = outcome if isinstance(outcome, list) else [getattr(outcome, "sample", None) or outcome]
    pictures = [
        image
        for sample in samples
        if isinstance(sample, Sample)
        for image in (sample.image, *sample.images.values())
        if image is not None
    ]
    return _BYTES_A_SAMPLE * len(samples) + sum(image.bytes_held for image in pictures)
