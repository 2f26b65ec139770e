"""Carries out `repeat` and `best_of` in the flow. Candidates of one input stand side by side, in one block."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from mmsynth.candidates import BestOf, Repeat
from mmsynth.engine.items import Edge, Flow, Item


def repeated(flow: Iterable[Flow], step: Repeat) -> Iterator[Flow]:
    """Every live item `step.times` times, under keys of their own. A dead one stays one."""
    for entry in flow:
        if isinstance(entry, Edge):
            yield entry
            continue
        group = (*entry.groups, entry.key)
        if not entry.is_live or entry.sample is None:
            yield replace(entry, groups=group)
            continue
        for number in range(step.times):
            key = f"{entry.key}_{number}"
            candidate = {"of": entry.key, "number": number}
            sample = replace(entry.sample, key=key).with_record(candidate=candidate)
            yield replace(entry, key=key, sample=sample, groups=group)


def best_of(flow: Iterable[Flow], step: BestOf) -> Iterator[Flow]:
    """Of each group's live items the one with the highest score goes on; the others end as `not_best`."""
    waiting: list[Item] = []
    for entry in flow:
        if waiting and (isinstance(entry, Edge) or entry.groups != waiting[0].groups):
            yield from _chosen(waiting, step.score)
            waiting = []
        if isinstance(entry, Edge):
            yield entry
        else:
            waiting.append(entry)


def _chosen(group: list[Item], score: str) -> Iterator[Item]:
    best = max((item for item in group if item.is_live), key=lambda item: _score(item, score), default=None)
    for item in group:
        ended = item if item is best or not item.is_live else item.ended("dropped", "not_best")
        yield replace(ended, groups=item.groups[:-1])


def _score(item: Item, name: str) -> float:
    """A missing score, or one that is not a number, is worse than any."""
    scores = item.sample.record.get("scores") if item.sample else None
    score = scores.get(name) if isinstance(scores, dict) else None
    return float(score) if isinstance(score, int | float) and not math.isnan(score) else -math.inf
