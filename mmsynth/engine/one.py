"""What both ways of running a stage of the shape one share: a sample's coroutine, its time limit, its tokens.

`lockstep` runs those whose chat model answers in this process, `in_flight` the others.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, cast

from mmsynth.blocks import Edge, Flow, Item
from mmsynth.engine.device_errors import raise_if_lost
from mmsynth.engine.outcomes import Outcomes
from mmsynth.errors import MMSynthError, SampleError
from mmsynth.models.chat import Collector, Reply, Usage, collecting
from mmsynth.sample import Result
from mmsynth.stage import Stage

log = logging.getLogger(__name__)


class OneSample:
    """One sample under way in a stage: what becomes of it, and the tokens that it used."""

    def __init__(self, item: Item, prepared: "Future[Any] | None") -> None:
        self.item, self._prepared = item, prepared
        self.outcome: Result | BaseException | None = None
        self.usage = Usage()

    async def run(self, stage: Stage, collector: Collector, *, in_batches: bool) -> None:
        """Process it, whatever comes of it."""
        try:
            arguments = [] if self._prepared is None else [await asyncio.wrap_future(self._prepared)]
            with collecting(collector, in_batches=in_batches):
                assert self.item.sample is not None
                self.outcome = await stage.process_one(self.item.sample, *arguments)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # by the engine: it took too long, or the run ends
            self.outcome = SampleError("cancelled", "something that it awaited was cancelled")
        except BaseException as error:  # noqa: BLE001 - a counted failure of this sample alone, or raised by `ended`
            self.outcome = error

    def ended(self, stage: Stage, outcomes: Outcomes) -> Result | Exception:
        """What became of it. Raises errors that are no sample's."""
        error = self.outcome
        if not isinstance(error, BaseException):
            # None too, of a coroutine without a return: what a stage may give is checked with the rest
            return cast("Result", error)
        if isinstance(error, TimeoutError):
            log.warning("%s: gave up sample %s: %s", stage.step_name, self.item.key, error)
            return SampleError("timeout", str(error))
        if not isinstance(error, Exception) or (isinstance(error, MMSynthError) and not isinstance(error, SampleError)):
            raise error
        raise_if_lost(error)
        if not isinstance(error, SampleError):
            outcomes.log_failure(self.item.key, error)
        return error


class TimeLimit:
    """At most so long for a sample; the clock can be stopped while it waits its turn for something else."""

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s
        self._timeout: asyncio.Timeout | None = None
        #: what it waits for: several things, where a sample asks them at once
        self._waits = 0

    async def hold(self, work: Coroutine[Any, Any, None]) -> bool:
        """Await `work`; False if it took too long and was cancelled."""
        try:
            async with asyncio.timeout(self._limit_s) as self._timeout:
                await work
        except TimeoutError:
            return False
        finally:
            self._timeout = None  # what a sample asked and did not wait for may end later
        return True

    async def stopped_for(self, wait: Callable[[], Coroutine[Any, Any, Reply]]) -> Reply:
        """Await what is not the sample's own time."""
        self._waits += 1
        self._set(None)
        try:
            return await wait()
        finally:
            self._waits -= 1
            if not self._waits:
                self._set(self._limit_s)

    def _set(self, left_s: float | None) -> None:
        if self._timeout is not None and self._limit_s is not None:
            self._timeout.reschedule(None if left_s is None else asyncio.get_running_loop().time() + left_s)


def late(limit_s: float | None) -> TimeoutError:
    return TimeoutError(f"took longer than {limit_s:g} s")


def needs_running(entry: Flow) -> bool:
    return not isinstance(entry, Edge) and entry.is_live and entry.sample is not None


def takes_prepared(stage: Stage) -> bool:
    """Whether process_one wants what `prepare` gave: not if a base class prepares for its own use."""
    return stage.prepares and len(inspect.signature(stage.process_one).parameters) > 1
