"""Outcomes: from what a stage gave for a sample to the items that go on, with their provenance, keys and groups.

Holds every stage to its word: the order of its results, their keys, the scores and arrays that it declares.
"""

import logging
import traceback
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

from mmsynth.blocks import Item
from mmsynth.engine.device_errors import raise_if_lost
from mmsynth.engine.stale import without_stale
from mmsynth.errors import MMSynthError, PluginError, SampleError
from mmsynth.models.chat import Usage
from mmsynth.sample import Dropped, Failed, Result, Sample
from mmsynth.secrets import in_words, without_secrets
from mmsynth.seeds import seed_for
from mmsynth.stage import Filter, Stage

log = logging.getLogger(__name__)


class Outcomes:
    """What becomes of the items of one stage."""

    def __init__(self, stage: Stage) -> None:
        self._name, self._opens_groups = stage.step_name, stage.opens_groups
        self._step = _provenance(stage)
        self._scores, self._arrays = frozenset(stage.score_names()), frozenset(stage.array_names())
        self._logged: set[type[Exception]] = set()
        self._seed_of = partial(seed_for, stage.run_seed, stage.step_name)  # stage.seed_of(), whose fields are slow

    def log_failure(self, key: str, error: Exception) -> None:
        """Log why a sample failed: with its traceback where it is the first of its kind, the others are counted."""
        if type(error) in self._logged:
            log.debug("%s failed on sample %s: %s", self._name, key, error)
            return
        self._logged.add(type(error))
        log.warning("%s failed on sample %s:\n%s", self._name, key, traceback_of(error))

    def one_each(self, samples: Sequence[Sample], results: Any) -> list[Result]:
        """The results, one for each sample. Raises PluginError."""
        given = list(results)
        if len(given) != len(samples):
            raise PluginError(f"{self._name} gave {len(given)} results for {len(samples)} samples")
        return given

    def of(
        self, item: Item, result: Result | Exception, usage: Usage | None = None, among: Sequence[Item] = ()
    ) -> list[Item]:
        """The items that take the place of `item`. `among` are those that the stage saw together with it.

        Raises PluginError for what a stage may not give.
        """
        seen = among or (item,)
        if isinstance(result, Sample):
            kept = self._gone_through(item, result, usage, seen)
            return [replace(kept, groups=(*item.groups, item.key)) if self._opens_groups else kept]
        if isinstance(result, list | tuple):
            return self._group(item, result, usage, seen)
        if isinstance(result, Dropped | Failed):
            last = self._with_step(item, result.sample, usage, seen) if result.sample else None
            if isinstance(result, Dropped):
                return [item.ended("dropped", result.reason, sample=last)]
            return [item.ended("failed", result.reason, result.detail, sample=last)]
        if isinstance(result, Exception):
            return [item.failed(result)]
        raise PluginError(f"{self._name} must give a Sample, Dropped, Failed or a list of samples, got {result!r}")

    def _group(self, item: Item, members: Iterable[Any], usage: Usage | None, seen: Sequence[Item]) -> list[Item]:
        """Members of a group that this opens, under keys of their own."""
        made, groups, parent = [], (*item.groups, item.key), item.parent or item.key
        for number, member in enumerate(members):
            if not isinstance(member, Sample):
                raise PluginError(f"{self._name}: a list holds samples, got {member!r} for {item.key}")
            one = self._gone_through(item, member, usage, seen)
            assert one.sample is not None
            key = f"{item.key}_{number}"
            sample = replace(one.sample, key=key).with_record(candidate={"of": item.key, "number": number})
            made.append(replace(one, key=key, sample=sample, groups=groups, parent=parent))
            usage = None  # counted once
        return made or [item.ended("dropped", "empty_group")]

    def _gone_through(self, item: Item, sample: Sample, usage: Usage | None, seen: Sequence[Item]) -> Item:
        return item.gone_through(self._with_step(item, sample, usage, seen), _made(item, sample, seen))

    def _with_step(self, item: Item, result: Any, usage: Usage | None, seen: Sequence[Item]) -> Sample:
        if not isinstance(result, Sample) or result.key != item.key:
            raise PluginError(f"{self._name} must give results in the samples' order: {result!r} for {item.key}")
        sample, before = result, item.sample
        if sample is not before and before is not None:
            self._check_declared(before, sample, seen)
            if sample.caption != before.caption or sample.image is not before.image:
                sample = without_stale(sample, before, _samples(seen), self._scores | self._arrays)
        step = {**self._step, "seed": self._seed_of(sample.key)}
        if usage is not None and (usage.prompt or usage.completion):
            step["tokens"] = {"prompt": usage.prompt, "completion": usage.completion}
        return sample.with_record(steps=[*sample.record.get("steps", ()), step])

    def _check_declared(self, before: Sample, sample: Sample, seen: Sequence[Item]) -> None:
        """Raise PluginError for a score or an array that would get no column and no file."""
        scores = sample.record.get("scores")
        if scores is not before.record.get("scores"):
            self._refuse_undeclared("score", scores, self._scores, [s.record.get("scores") for s in _samples(seen)])
        if sample.arrays is not before.arrays:
            self._refuse_undeclared("array", sample.arrays, self._arrays, [s.arrays for s in _samples(seen)])

    def _refuse_undeclared(self, what: str, given: Any, declared: Collection[str], before: Sequence[Any]) -> None:
        new = set(given or ()).difference(declared, *(known or () for known in before))
        if new:
            raise PluginError(
                f"{self._name} gives the {what} '{min(new)}', which {what}_names() does not name: it would be lost"
            )


def _samples(items: Sequence[Item]) -> list[Sample]:
    return [item.sample for item in items if item.sample is not None]


def _made(item: Item, sample: Sample, seen: Sequence[Item]) -> frozenset[str]:
    """Names of the sample's pictures that stages have made, this one or earlier ones."""
    before = item.sample
    assert before is not None
    if sample.image is before.image and sample.images is before.images:
        return item.made
    came = {
        id(image)
        for one in seen
        if one.sample is not None
        for name, image in [("", one.sample.image), *one.sample.images.items()]
        if name not in one.made
    }
    pictures = [("", sample.image), *sample.images.items()]
    return frozenset(name for name, image in pictures if image is not None and id(image) not in came)


def _provenance(stage: Stage) -> dict[str, Any]:
    models = [{"id": model.id, "revision": model.revision, "dtype": model.dtype} for model in stage.models]
    step: dict[str, Any] = {"stage": stage.step_name, "version": stage.version}
    return (
        step
        | ({"models": models} if models else {})
        | _judged(stage)
        | {"parameters": without_secrets(stage.parameters())}
    )


def _judged(stage: Stage) -> dict[str, Any]:
    """What a filter's numbers are about, so that they go when that changes: in this run, or in a later one."""
    if not isinstance(stage, Filter) or not stage.judges:
        return {}
    given = {"scores": list(stage.score_names()), "arrays": list(stage.array_names())}
    return {"judges": sorted(stage.judges), **{what: names for what, names in given.items() if names}}


def settled(item: Item, future: "Future[Any] | None") -> tuple[Item, Any]:
    """The item with what its future gave; a failure in a thread becomes the item's."""
    if future is None:
        return item, None
    error = future.exception()
    if error is None:
        return item, future.result()
    if not isinstance(error, Exception) or (isinstance(error, MMSynthError) and not isinstance(error, SampleError)):
        raise error
    raise_if_lost(error)
    if not isinstance(error, SampleError):
        log.warning("sample %s failed:\n%s", item.key, traceback_of(error))
    return item.failed(error), None


def traceback_of(error: Exception) -> str:
    """For the log, without secrets."""
    return in_words("".join(traceback.format_exception(error)))
