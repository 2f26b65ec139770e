"""The chain: items through the stages, each by the runner of its shape; what leaves here can be written.

Dead items (dropped, failed) travel with the live ones, so order is kept and every input ends in a row.

With a timeout (`run.batch_timeout_s`) the device has a thread of its own. A batch that takes longer is given up and cut
in halves, like one that raises, until the sample that hangs stands alone and fails as `timeout`. What it cannot do: the
thread that hangs is left behind until the process ends, with its batch in memory and whatever lock it holds, and goes
on beside the next batch; one hanging sample of a batch of 32 costs six timeouts; native code that hangs without giving
Python back stops the process, and so does a source that hangs: nothing here can end those.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import chain

from mmsynth.blocks import Edge, Flow, Item
from mmsynth.engine.batch import BatchRunner
from mmsynth.engine.group import GroupRunner
from mmsynth.engine.in_flight import InFlightRunner
from mmsynth.engine.lockstep import LockstepRunner
from mmsynth.engine.outcomes import settled
from mmsynth.engine.resources import Resources
from mmsynth.engine.threads import ahead
from mmsynth.errors import ImageError
from mmsynth.pictures import set_aside
from mmsynth.recipe import Out
from mmsynth.stage import Stage

_AHEAD = 64


def run_stages(flow: Iterable[Flow], stages: Sequence[Stage], out: Out, on: Resources) -> Iterator[Flow]:
    """The flow with every stage applied, then each picture checked."""
    for stage in stages:
        flow = run_stage(flow, stage, on)
        # at once, so that every later stage judges the picture that is written
        flow = _encoding(flow, out, on.pool)
    return _each(flow, _check_pictures, on.pool, needs=_has_picture)


def run_stage(flow: Iterable[Flow], stage: Stage, on: Resources) -> Iterator[Flow]:
    """The flow with one stage applied, by the runner of its shape."""
    if stage.shape == "batch":
        return BatchRunner(stage, on).run(flow)
    if stage.shape == "group":
        return GroupRunner(stage, on).run(flow)
    if model := stage.batch_model():
        return LockstepRunner(stage, model, on).run(flow)
    return InFlightRunner(stage, on).run(flow)


def _encoding(flow: Iterable[Flow], out: Out, pool: Executor) -> Iterator[Flow]:
    """The flow with drawn pictures encoded, in threads from the first one on: most stages draw nothing."""
    entries = iter(flow)
    for entry in entries:
        if isinstance(entry, Item) and entry.made and _has_drawing(entry):
            yield from _each(chain([entry], entries), lambda item: _encoded(item, out), pool, needs=_has_drawing)
            return
        yield entry


def _each(
    flow: Iterable[Flow], function: Callable[[Item], Item], pool: Executor, needs: Callable[[Item], bool]
) -> Iterator[Flow]:
    """`function` on every live item that needs it, in threads."""

    def apply(entry: Flow) -> Flow:
        assert isinstance(entry, Item)
        return function(entry)

    def applies(entry: Flow) -> bool:
        return isinstance(entry, Item) and needs(entry) and entry.is_live

    # eager: what is done goes on to the writer, so a process that dies often still commits shards
    for entry, future in ahead(apply, flow, pool, _AHEAD, is_eager=True, needs=applies):
        if isinstance(entry, Edge):
            yield entry
        else:
            item, changed = settled(entry, future)
            yield changed if changed is not None else item


def _has_drawing(item: Item) -> bool:
    sample = item.sample
    if not item.made or sample is None:
        return False
    return (sample.image is not None and sample.image.is_drawn) or any(i.is_drawn for i in sample.images.values())


def _encoded(item: Item, out: Out) -> Item:
    assert item.sample is not None
    image = item.sample.image
    images = {name: one.encoded(out.image_format, out.quality) for name, one in item.sample.images.items()}
    encoded = image.encoded(out.image_format, out.quality) if image is not None else None
    return replace(item, sample=replace(item.sample, image=encoded, images=images))


def _has_picture(item: Item) -> bool:
    return item.sample is not None and (item.sample.image is not None or bool(item.sample.images))


def _check_pictures(item: Item) -> Item:
    """Decode what no stage has decoded, so that no broken picture reaches a shard as one.

    A further picture that came broken does not take the sample along: it becomes a plain member.
    """
    sample = item.sample
    assert sample is not None
    if sample.image is not None:
        sample.image.verify()
    broken = []
    for name, image in sample.images.items():
        try:
            image.verify()
        except ImageError:
            if name in item.made:
                raise
            broken.append(name)
    if not broken:
        return item
    sample = set_aside(sample, broken)
    return replace(item, sample=sample, reason=",".join(sample.record["source"]["repaired"]))
