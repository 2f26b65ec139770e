"""The chain: items through the stages in batches, with per-sample CPU work running ahead in threads.

A block's batches are the same whenever it is run, so a block's output is too. Dead items (dropped, failed) travel with
the live ones, so order is kept and every input ends in a row.

With a timeout a batch (`run.batch_timeout_s`) the device has a thread of its own. A batch that takes longer is given
up and cut in halves, like one that raises, until the sample that hangs stands alone and fails as `timeout`. What it
cannot do: the thread that hangs is left behind until the process ends, with its batch in memory and whatever lock it
holds, and goes on beside the next batch; one hanging sample of a batch of 32 costs six timeouts; native code that
hangs without giving Python back stops the process, and so does a source that hangs: nothing here can end those.
"""

import gc
import logging
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import partial
from typing import Any

from mmsynth.candidates import BestOf, Repeat
from mmsynth.engine.candidates import best_of, repeated
from mmsynth.engine.flow import ahead
from mmsynth.engine.items import Edge, Flow, Item
from mmsynth.errors import MMSynthError, PluginError, SampleError
from mmsynth.recipe import Out
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.secrets import in_words, without_secrets
from mmsynth.seeds import seed_for
from mmsynth.stage import Stage

log = logging.getLogger(__name__)


def run_stages(
    flow: Iterable[Flow], stages: Sequence[Stage], out: Out, pool: Executor, device: Executor | None = None
) -> Iterator[Flow]:
    """The flow with every stage applied, then each image checked: what leaves here can be written.

    `device` runs the batches, one at a time; without it they run in the caller's thread.
    """
    for stage in stages:
        if isinstance(stage, Repeat):
            flow = repeated(flow, stage)
            continue
        if isinstance(stage, BestOf):
            flow = best_of(flow, stage)
            continue
        flow = StageRunner(stage, pool, device).run(flow)
        if stage.verb == "render":
            flow = _each(flow, lambda item: _encode_drawn(item, out), pool)
    return _each(flow, _check_image, pool)


class StageRunner:
    """Runs one stage over the flow. Halves its batch when the device is out of memory, and keeps the smaller size."""

    def __init__(self, stage: Stage, pool: Executor, device: Executor | None = None) -> None:
        self.stage = stage
        self.batch_size = stage.batch_size
        self._pool, self._device = pool, device
        self._step = _provenance(stage)
        self._seed_of = partial(seed_for, stage._run_seed, stage.label)  # stage.seed(), whose fields are slow to read

    def run(self, flow: Iterable[Flow]) -> Iterator[Flow]:
        waiting: list[tuple[Item, Any]] = []
        live = 0
        for entry, future in self._ahead(flow):
            if isinstance(entry, Edge):
                yield from self._run_batch(waiting)
                yield entry
                waiting, live = [], 0
                continue
            item, prepared = _settled(entry, future)
            waiting.append((item, prepared))
            live += item.is_live
            if live == self.stage.batch_size:
                yield from self._run_batch(waiting)
                waiting, live = [], 0
        yield from self._run_batch(waiting)

    def _ahead(self, flow: Iterable[Flow]) -> Iterator[tuple[Flow, "Future[Any] | None"]]:
        if not self.stage.prepares:
            return ((entry, None) for entry in flow)
        # twice the batch: while one batch is on the device, the next one is being prepared
        return ahead(self._prepare, flow, self._pool, depth=2 * self.stage.batch_size)

    def _prepare(self, entry: Flow) -> Any:
        if isinstance(entry, Edge) or not entry.is_live or entry.sample is None:
            return None
        return self.stage.prepare(entry.sample)

    def _run_batch(self, waiting: list[tuple[Item, Any]]) -> Iterator[Item]:
        samples = [item.sample for item, _ in waiting if item.is_live and item.sample is not None]
        prepared = [ready for item, ready in waiting if item.is_live]
        results = iter(self._process(samples, prepared))
        for item, _ in waiting:
            yield self._after(item, next(results)) if item.is_live else item

    def _process(self, samples: list[Sample], prepared: list[Any]) -> list[Result | Exception]:
        """One result or exception a sample. A batch that raises is cut in halves until the guilty one stands alone."""
        if not samples:
            return []
        if len(samples) > self.batch_size:
            return self._halves(samples, prepared, self.batch_size)
        try:
            return [*_checked(self.stage, samples, self._call(samples, prepared))]
        except MMSynthError as error:
            if not isinstance(error, SampleError):
                raise
            failure: Exception = error
            if error.reason == "timeout":
                log.warning("%s: gave up a batch of %d: it %s", self.stage.label, len(samples), error.detail)
        except Exception as error:  # noqa: BLE001 - the one place: it becomes a counted failure
            failure = error
            if _is_out_of_memory(error) and len(samples) > 1:
                self.batch_size = len(samples) // 2
                log.warning("%s: out of device memory, batch size is now %d", self.stage.label, self.batch_size)
        if len(samples) > 1:
            return self._halves(samples, prepared, (len(samples) + 1) // 2)
        if not isinstance(failure, SampleError):
            log.warning("%s failed on sample %s:\n%s", self.stage.label, samples[0].key, _traceback(failure))
        return [failure]

    def _halves(self, samples: list[Sample], prepared: list[Any], size: int) -> list[Result | Exception]:
        results: list[Result | Exception] = []
        for start in range(0, len(samples), size):
            results += self._process(samples[start : start + size], prepared[start : start + size])
        return results

    def _call(self, samples: list[Sample], prepared: list[Any]) -> list[Result]:
        arguments = (samples, prepared) if self.stage.prepares else (samples,)
        process = self.stage.process_prepared if self.stage.prepares else self.stage.process
        if self._device is None:
            return process(*arguments)
        return self._device.submit(process, *arguments).result()

    def _after(self, item: Item, result: Result | Exception) -> Item:
        if isinstance(result, Exception):
            return item.failed(result)
        if isinstance(result, Dropped):
            kept = self._with_step(result.sample) if result.sample else None
            return item.ended("dropped", result.reason, sample=kept)
        drawn = item.drawn or (item.sample is not None and result.image is not item.sample.image)
        return item.gone_through(self._with_step(result), drawn)

    def _with_step(self, sample: Sample) -> Sample:
        steps = [*sample.record.get("steps", ()), {**self._step, "seed": self._seed_of(sample.key)}]
        return sample.with_record(steps=steps)


def _provenance(stage: Stage) -> dict[str, Any]:
    step: dict[str, Any] = {"stage": stage.label, "version": stage.version}
    if stage.loaded:
        model = stage.loaded[0]
        step |= {"model": model.id, "revision": model.revision, "dtype": model.dtype}
    return step | {"parameters": without_secrets(stage.parameters())}


def _checked(stage: Stage, samples: list[Sample], results: list[Result]) -> list[Result]:
    if len(results) != len(samples):
        raise PluginError(f"{stage.label} gave {len(results)} results for {len(samples)} samples")
    for sample, result in zip(samples, results, strict=True):
        given = result.sample if isinstance(result, Dropped) else result
        if given is not None and (not isinstance(given, Sample) or given.key != sample.key):
            raise PluginError(f"{stage.label} must give results in the samples' order: {given!r} for {sample.key}")
    return results


def _settled(item: Item, future: "Future[Any] | None") -> tuple[Item, Any]:
    """The item with what its future gave; a failure in a thread becomes the item's."""
    if future is None:
        return item, None
    error = future.exception()
    if error is None:
        return item, future.result()
    if not isinstance(error, Exception) or (isinstance(error, MMSynthError) and not isinstance(error, SampleError)):
        raise error
    if not isinstance(error, SampleError):
        log.warning("sample %s failed:\n%s", item.key, _traceback(error))
    return item.failed(error), None


def _traceback(error: Exception) -> str:
    return in_words("".join(traceback.format_exception(error)))


def _each(flow: Iterable[Flow], function: Any, pool: Executor, depth: int = 64) -> Iterator[Flow]:
    """`function` on every live item, in threads."""

    def apply(entry: Flow) -> Flow:
        return function(entry) if isinstance(entry, Item) and entry.is_live else entry

    # eager: what is done goes to the writer at once, so a process that dies often still commits shards
    for entry, future in ahead(apply, flow, pool, depth, is_eager=True):
        if isinstance(entry, Item):
            item, changed = _settled(entry, future)
            yield changed if changed is not None else item
        else:
            yield entry


def _encode_drawn(item: Item, out: Out) -> Item:
    assert item.sample is not None
    image = item.sample.image
    if image is None:
        return item
    return replace(item, sample=item.sample.with_image(image.encoded(out.image_format, out.quality)))


def _check_image(item: Item) -> Item:
    """Decode what no stage has decoded, so that no broken image reaches a shard."""
    image = item.sample.image if item.sample else None
    if image is not None:
        image.verify()
    return item


#: what libraries say in a RuntimeError of another kind than torch's own
_NO_MEMORY = ("out of memory", "can't allocate memory", "CUDNN_STATUS_NOT_SUPPORTED", "PT_DEVMEM Allocation failed")


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # where nobody has loaded it, nothing is on a device
    if torch is None or not isinstance(error, RuntimeError):
        return False
    found = isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)
    if found:
        gc.collect()
        torch.cuda.empty_cache()
        torch.xpu.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()
    return found
