"""Runs a stage of the shape one whose chat model answers in this process: in lockstep, a batch of samples at a time.

The coroutines of a batch run until each waits for a reply. Their requests, in the order of the samples, are one batch
on the device; then the next round. So a dialogue of several turns is batched as well as a caption, and a block's
batches are the same whenever it is run. Two batches of samples are under way: while one is on the device, the
coroutines of the next run to their first requests, whose inputs are prepared.
"""

import asyncio
import logging
import queue
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from mmsynth.blocks import Edge, Flow, Item
from mmsynth.engine.device_errors import free_device_memory, is_out_of_memory, raise_if_lost
from mmsynth.engine.event_loop import in_loop
from mmsynth.engine.one import OneSample, TimeLimit, late, needs_running, takes_prepared
from mmsynth.engine.outcomes import Outcomes
from mmsynth.engine.resources import Resources, on_device
from mmsynth.engine.threads import ahead
from mmsynth.errors import MMSynthError, PluginError, SampleError
from mmsynth.models.chat import BatchChatModel, Reply, Request, Usage
from mmsynth.stage import Stage

log = logging.getLogger(__name__)
#: a batch in which nothing happens for so long is answered although not all of its samples ask
_QUIET_S = 1.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, by whom, and where the reply is awaited."""

    batch: "_Batch"
    place: int
    request: Request
    reply: "asyncio.Future[Reply]"


@dataclass(slots=True)
class _Round:
    """Requests for the device, with their inputs, which a thread is making."""

    asked: list[_Asked]
    assembled: "Future[Any] | None"


class LockstepRunner:
    """Answers the requests of a stage's samples in batches. Halves them when the device is out of memory."""

    def __init__(
        self,
        stage: Stage,
        model: BatchChatModel,
        on: Resources,
    ) -> None:
        assert on.loop is not None, "coroutines need an event loop"
        self.stage, self.model = stage, model
        self.batch_size = stage.batch_size
        self.timeout_s = on.timeout_s
        self._pool, self._loop, self._device = on.pool, on.loop, on.device
        self._outcomes = Outcomes(stage)
        self._prepares = takes_prepared(stage)
        #: what the thread that owns the device has to do: rounds, and None where a batch of samples has ended
        self._jobs: queue.SimpleQueue[_Round | None] = queue.SimpleQueue()

    def run(self, flow: Iterable[Flow]) -> Iterator[Flow]:
        under_way: deque[_Batch] = deque()
        for entry in self._batches(flow):
            if isinstance(entry, _Batch):
                in_loop(self._loop, entry.start)
                under_way.append(entry)
            while under_way and (len(under_way) == 2 or not isinstance(entry, _Batch)):
                yield from self._finish(under_way.popleft())
            if not isinstance(entry, _Batch):
                yield entry
        while under_way:
            yield from self._finish(under_way.popleft())

    def _batches(self, flow: Iterable[Flow]) -> Iterator["_Batch | Edge"]:
        batch = _Batch(self)
        # the sample waits in its coroutine for what prepare gives: nothing here does
        for entry, future in ahead(self._prepare, flow, self._pool, self.stage.batch_size, needs=self._needs_preparing):
            if isinstance(entry, Edge):
                if batch.entries:
                    yield batch
                yield entry
                batch = _Batch(self)
                continue
            batch.entries.append(OneSample(entry, future) if needs_running(entry) else entry)
            batch.size += needs_running(entry)
            if batch.size == self.stage.batch_size:
                yield batch
                batch = _Batch(self)
        if batch.entries:
            yield batch

    def _needs_preparing(self, entry: Flow) -> bool:
        return self._prepares and needs_running(entry)

    def _prepare(self, entry: Flow) -> Any:
        assert isinstance(entry, Item)
        assert entry.sample is not None
        return self.stage.prepare(entry.sample)

    def _finish(self, batch: "_Batch") -> Iterator[Flow]:
        """Answer what is asked, by this batch and the next one, until this one's samples have all ended."""
        while not batch.is_done:
            job = self._jobs.get()
            if job is not None:
                self._answer(job.asked, job.assembled)
        for entry in batch.entries:
            if isinstance(entry, OneSample):
                yield from self._outcomes.of(entry.item, entry.ended(self.stage, self._outcomes), entry.usage)
            else:
                yield entry

    # -- in the loop's thread ----------------------------------------------------------------------------------------

    def flush(self, asked: Sequence[_Asked]) -> None:
        """Hand requests over to the device, as many together as a batch has samples."""
        for start in range(0, len(asked), self.batch_size):
            part = list(asked[start : start + self.batch_size])
            self._jobs.put(_Round(part, self._pool.submit(self.model.assemble, [one.request for one in part])))

    def ended(self) -> None:
        """All samples of a batch have ended."""
        self._jobs.put(None)

    # -- in the thread that owns the device --------------------------------------------------------------------------

    def _answer(self, asked: list[_Asked], assembled: "Future[Any] | None") -> None:
        """Answer these requests. Those that raise are cut in halves until the guilty one stands alone."""
        if len(asked) > self.batch_size:
            self._answer_halves(asked, self.batch_size)
            return
        found = self._try([one.request for one in asked], assembled)
        del assembled
        if not isinstance(found, Exception):
            in_loop(self._loop, _resolve, asked, found)
            return
        is_full = is_out_of_memory(found)
        if is_full:
            found.__traceback__ = None  # its frames hold the tensors of the failed try
            free_device_memory()
        if len(asked) == 1:
            in_loop(self._loop, _resolve, asked, [found])
            return
        if is_full:
            self.batch_size = len(asked) // 2
            log.warning("%s: out of device memory, batch size is now %d", self.stage.step_name, self.batch_size)
        self._answer_halves(asked, self.batch_size if is_full else (len(asked) + 1) // 2)

    def _answer_halves(self, asked: list[_Asked], size: int) -> None:
        for start in range(0, len(asked), size):
            self._answer(asked[start : start + size], None)

    def _try(
        self, requests: list[Request], assembled: "Future[Any] | None"
    ) -> "Sequence[Reply | Exception] | Exception":
        """The replies, or what was raised instead. Raises errors that are no request's."""
        try:
            # in a thread of the pool, whose patience ends when `timeout_s` does
            inputs = (assembled or self._pool.submit(self.model.assemble, requests)).result()
            replies = on_device(self._device, self.model.answer, requests, inputs)
        except MMSynthError as error:
            if not isinstance(error, SampleError):
                raise
            return error
        except Exception as error:  # noqa: BLE001 - it becomes a counted failure
            raise_if_lost(error)
            return error
        if len(replies) != len(requests):
            raise PluginError(f"{type(self.model).__name__} gave {len(replies)} replies to {len(requests)} requests")
        return list(replies)


@dataclass(slots=True)
class _Batch:
    """The samples of one batch, and what they wait for. All but `entries` is the loop thread's."""

    runner: LockstepRunner
    #: dead items too, in order
    entries: list[OneSample | Item] = field(default_factory=list)
    #: those that are not
    size: int = 0
    is_done: bool = False
    _waiting: list[_Asked] = field(default_factory=list)
    #: requests that the device has and has not answered
    _outstanding: int = 0
    _unfinished: set[int] = field(default_factory=set)
    #: how often something happened: a request, a reply, an end
    _events: int = 0
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def start(self) -> None:
        samples = [entry for entry in self.entries if isinstance(entry, OneSample)]
        self._unfinished = set(range(len(samples)))
        self._tasks = [asyncio.ensure_future(self._run(place, one)) for place, one in enumerate(samples)]
        if not samples:
            self._end()

    async def _run(self, place: int, one: OneSample) -> None:
        limit = TimeLimit(self.runner.timeout_s)
        collector = _Place(self, place, one, limit)
        if not await limit.hold(one.run(self.runner.stage, collector, in_batches=True)):
            one.outcome = late(self.runner.timeout_s)
        self._unfinished.discard(place)
        if not self._unfinished:
            self._end()
        self._flush_soon()

    def _end(self) -> None:
        self.is_done = True
        self.runner.ended()

    async def ask(self, place: int, request: Request) -> Reply:
        asked = _Asked(self, place, request, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._flush_soon()
        return await asked.reply

    def _flush_soon(self) -> None:
        """Once everything that can run now has run: a sample may ask several things at once."""
        self._events += 1
        if self._waiting and not self._outstanding:
            asyncio.get_running_loop().call_later(_QUIET_S, self._flush_if_quiet, self._events)
        if self._all_wait():
            loop = asyncio.get_running_loop()
            # one hop for what is scheduled now, such as the other parts of a gather, and one for what that schedules
            loop.call_soon(loop.call_soon, self._flush)

    def _flush(self) -> None:
        if self._all_wait():
            self._send()

    def _flush_if_quiet(self, events: int) -> None:
        """Answer those that ask, although others do not: they may wait for one another, for a lock or a shared task."""
        if events == self._events and self._waiting and not self._outstanding:
            self._send()

    def _send(self) -> None:
        # in the order of the samples, not of the asking
        asked, self._waiting = sorted(self._waiting, key=lambda one: one.place), []
        self._outstanding = len(asked)
        self.runner.flush(asked)

    def _all_wait(self) -> bool:
        if not self._waiting or self._outstanding:
            return False
        return self._unfinished <= {one.place for one in self._waiting}

    def answered(self) -> None:
        """One of its requests has its reply."""
        self._outstanding -= 1
        self._flush_soon()


class _Place:
    """The Collector of one sample of a batch."""

    def __init__(self, batch: _Batch, place: int, one: OneSample, limit: TimeLimit) -> None:
        self._batch, self._place, self._one, self._limit = batch, place, one, limit

    async def ask(self, request: Request) -> Reply:
        return await self._limit.stopped_for(lambda: self._batch.ask(self._place, request))

    def count(self, usage: Usage) -> None:
        self._one.usage = self._one.usage + usage


def _resolve(asked: Sequence[_Asked], replies: Sequence[Reply | Exception]) -> None:
    for one, reply in zip(asked, replies, strict=True):
        if not one.reply.done():  # else the sample was given up meanwhile
            if isinstance(reply, Exception):
                one.reply.set_exception(reply)
            else:
                one.reply.set_result(reply)
        one.batch.answered()
