"""Runs stages of the shape batch: one batch at a time on the device, per-sample work ahead in threads.

A block's batches are the same whenever it is run, so a block's output is too.
"""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from mmsynth.blocks import Edge, Flow, Item
from mmsynth.engine.device_errors import free_device_memory, is_out_of_memory, raise_if_lost
from mmsynth.engine.outcomes import Outcomes, settled
from mmsynth.engine.resources import Resources, on_device
from mmsynth.engine.threads import ahead
from mmsynth.errors import MMSynthError, SampleError
from mmsynth.sample import Result, Sample
from mmsynth.stage import Stage

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    """Items in order, dead ones too, each with what `prepare` gave for it; and what `assemble` makes of all that."""

    items: list[Item]
    prepared: list[Any]
    assembled: "Future[Any] | None" = None

    def live(self) -> tuple[list[Sample], list[Any]]:
        pairs = zip(self.items, self.prepared, strict=True)
        both = [(item.sample, ready) for item, ready in pairs if item.is_live and item.sample is not None]
        return [sample for sample, _ in both], [ready for _, ready in both]


class BatchRunner:
    """Runs one stage over the flow. Halves its batch when the device is out of memory, and keeps the smaller size."""

    def __init__(self, stage: Stage, on: Resources) -> None:
        self.stage = stage
        self.batch_size = stage.batch_size
        self._pool, self._device = on.pool, on.device
        self._outcomes = Outcomes(stage)

    def run(self, flow: Iterable[Flow]) -> Iterator[Flow]:
        # with `assemble`, one batch waits while the next is put together
        held: _Batch | None = None
        for entry in self._batches(flow):
            if isinstance(entry, Edge):
                yield from self._run_batch(held)
                held = None
                yield entry
            elif self.stage.assembles:
                entry.assembled = self._pool.submit(self._assemble, *entry.live())
                yield from self._run_batch(held)
                held = entry
            else:
                yield from self._run_batch(entry)
        yield from self._run_batch(held)

    def _batches(self, flow: Iterable[Flow]) -> Iterator[_Batch | Edge]:
        batch, live = _Batch([], []), 0
        for entry, future in self._ahead(flow):
            if isinstance(entry, Edge):
                if batch.items:
                    yield batch
                yield entry
                batch, live = _Batch([], []), 0
                continue
            item, prepared = settled(entry, future)
            batch.items.append(item)
            batch.prepared.append(prepared)
            live += item.is_live
            if live == self.stage.batch_size:
                yield batch
                batch, live = _Batch([], []), 0
        if batch.items:
            yield batch

    def _ahead(self, flow: Iterable[Flow]) -> Iterator[tuple[Flow, "Future[Any] | None"]]:
        if not self.stage.prepares:
            return ((entry, None) for entry in flow)
        # while one batch is on the device, the next one is being prepared, and maybe another put together
        batches = 3 if self.stage.assembles else 2
        return ahead(self._prepare, flow, self._pool, depth=batches * self.stage.batch_size)

    def _prepare(self, entry: Flow) -> Any:
        if isinstance(entry, Edge) or not entry.is_live or entry.sample is None:
            return None
        return self.stage.prepare(entry.sample)

    def _assemble(self, samples: list[Sample], prepared: list[Any]) -> Any:
        return self.stage.assemble(samples, prepared) if samples else None

    def _run_batch(self, batch: _Batch | None) -> Iterator[Item]:
        if batch is None:
            return
        assembled, batch.assembled = batch.assembled, None
        results = iter(self._process(*batch.live(), assembled))
        for item in batch.items:
            if item.is_live:
                yield from self._outcomes.of(item, next(results))
            else:
                yield item

    def _process(
        self, samples: list[Sample], prepared: list[Any], assembled: "Future[Any] | None" = None
    ) -> list[Result | Exception]:
        """One result or exception a sample. A batch that raises is cut in halves until the guilty one stands alone."""
        if not samples:
            return []
        if len(samples) > self.batch_size:
            return self._halves(samples, prepared, self.batch_size)
        found = self._try(samples, prepared, assembled)
        del assembled
        if not isinstance(found, Exception):
            return [*found]
        is_full = is_out_of_memory(found)
        if is_full:
            found.__traceback__ = None  # its frames hold the tensors of the failed try
            free_device_memory()
        if len(samples) > 1:
            if is_full:
                self.batch_size = len(samples) // 2
                log.warning("%s: out of device memory, batch size is now %d", self.stage.step_name, self.batch_size)
                return self._halves(samples, prepared, self.batch_size)
            return self._halves(samples, prepared, (len(samples) + 1) // 2)
        if not isinstance(found, SampleError):
            self._outcomes.log_failure(samples[0].key, found)
        return [found]

    def _try(
        self, samples: list[Sample], prepared: list[Any], assembled: "Future[Any] | None"
    ) -> list[Result] | Exception:
        """The results, or what was raised instead. Raises errors that are no sample's."""
        try:
            return self._outcomes.one_each(samples, self._call(samples, prepared, assembled))
        except MMSynthError as error:
            if not isinstance(error, SampleError):
                raise
            if error.reason == "timeout":
                log.warning("%s: gave up a batch of %d: it %s", self.stage.step_name, len(samples), error.detail)
            return error
        except Exception as error:  # noqa: BLE001 - it becomes a counted failure
            raise_if_lost(error)
            return error

    def _halves(self, samples: list[Sample], prepared: list[Any], size: int) -> list[Result | Exception]:
        results: list[Result | Exception] = []
        for start in range(0, len(samples), size):
            results += self._process(samples[start : start + size], prepared[start : start + size])
        return results

    def _call(self, samples: list[Sample], prepared: list[Any], assembled: "Future[Any] | None") -> Any:
        if not self.stage.prepares and not self.stage.assembles:
            return on_device(self._device, self.stage.process, samples)
        ready = self._assemble(samples, prepared) if assembled is None else assembled.result()
        return on_device(self._device, self.stage.process_prepared, samples, ready)
