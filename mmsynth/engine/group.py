"""Runs stages of the shape group: all that one earlier stage made of one sample, or the samples of a block, together.

Members of a group stand side by side in the flow. Dead ones keep their place, and no stage sees them.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from mmsynth.blocks import Edge, Flow, Item
from mmsynth.engine.device_errors import raise_if_lost
from mmsynth.engine.outcomes import Outcomes, settled, traceback_of
from mmsynth.engine.resources import Resources, on_device
from mmsynth.engine.threads import ahead
from mmsynth.errors import MMSynthError, SampleError
from mmsynth.sample import Result
from mmsynth.stage import Stage

log = logging.getLogger(__name__)
_AHEAD = 64


class GroupRunner:
    """Gathers groups and gives each to the stage; afterwards they are closed."""

    def __init__(self, stage: Stage, on: Resources) -> None:
        self.stage = stage
        self._pool, self._device = on.pool, on.device
        self._outcomes = Outcomes(stage)
        self._of_samples, self._most = stage.group_of == "sample", stage.window()

    def run(self, flow: Iterable[Flow]) -> Iterator[Flow]:
        group: list[tuple[Item, Any]] = []
        # of a block, the last window is joined with the one before it: a sample left over would have no other
        held: list[tuple[Item, Any]] = []
        for entry, future in ahead(self._prepare, flow, self._pool, _AHEAD, needs=self._needs_preparing):
            if isinstance(entry, Edge):
                yield from self._run_last(held, group)
                yield entry
                held, group = [], []
                continue
            item, prepared = settled(entry, future)
            if item.is_live and self._begins_another(item, [member for member, _ in group if member.is_live]):
                yield from self._run_group(group if self._of_samples else held)
                held, group = group, []
                if self._of_samples:
                    held = []
            group.append((item, prepared))
        yield from self._run_last(held, group)

    def _run_last(self, held: list[tuple[Item, Any]], group: list[tuple[Item, Any]]) -> Iterator[Item]:
        is_short = self._most is not None and sum(item.is_live for item, _ in group) < self._most
        for part in [[*held, *group]] if is_short else [held, group]:
            yield from self._run_group(part)

    def _begins_another(self, item: Item, live: list[Item]) -> bool:
        if not live:
            return False
        if self._of_samples:
            return not item.groups or item.groups != live[0].groups
        return len(live) == self._most

    def _needs_preparing(self, entry: Flow) -> bool:
        return self.stage.prepares and isinstance(entry, Item) and entry.is_live

    def _prepare(self, entry: Flow) -> Any:
        assert isinstance(entry, Item)
        assert entry.sample is not None
        return self.stage.prepare(entry.sample)

    def _run_group(self, group: list[tuple[Item, Any]]) -> Iterator[Item]:
        live = [item for item, _ in group if item.is_live]
        results = iter(self._process(live, [ready for item, ready in group if item.is_live]))
        depth = len(live[0].groups) - 1 if live and self._of_samples else None
        for item, _ in group:
            # closed first: what the stage itself opens is another group
            outer = item if depth is None else replace(item, groups=item.groups[: max(depth, 0)])
            if item.is_live:
                yield from self._outcomes.of(outer, next(results), among=live)
            else:
                yield outer

    def _process(self, live: list[Item], prepared: list[Any]) -> list[Result | Exception]:
        if not live:
            return []
        samples = [item.sample for item in live if item.sample is not None]
        arguments = (samples, prepared) if self.stage.prepares else (samples,)
        try:
            return [*self._outcomes.one_each(samples, on_device(self._device, self.stage.process_group, *arguments))]
        except SampleError as error:
            failure: Exception = error
        except MMSynthError:
            raise
        except Exception as error:  # noqa: BLE001 - it becomes counted failures
            raise_if_lost(error)
            log.warning("%s failed on the group of %s:\n%s", self.stage.step_name, samples[0].key, traceback_of(error))
            failure = error
        return [failure] * len(samples)
