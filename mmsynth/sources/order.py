"""Tars whose members of one key do not stand together, as `tar` packs a folder that it lists by kind or in no order.

Where a tar can be scanned, its samples are gathered from the places where their members lie. Where it is read straight
through, the second part of a sample is told in a row.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mmsynth.sources.members import Group

_HOW = "pack the files again in order of their names (tar --sort=name), or unpack the tar and give the folder"


@dataclass(slots=True)
class Gathered:
    """A sample, or what is none, and where its members lie: from, to; None: to the end of the tar."""

    group: Group
    spans: list[list[int | None]] = field(default_factory=list)


def is_scattered(groups: Iterable[Group]) -> bool:
    """Whether members of one key stand apart that would make one sample."""
    seen: dict[str, set[str]] = {}
    return any(_is_another_part(group, seen) for group in groups)


def gathered(groups: Iterable[Group]) -> list[Gathered]:
    """The samples of a scanned tar, each where its first member is."""
    whole: list[Gathered] = []
    latest: dict[str, Gathered] = {}
    for group in groups:
        span = [group.start, group.end or None]
        there = latest.get(group.name) if group.is_sample else None
        if there is not None and not _lowered(there.group) & _lowered(group):
            there.group.members |= group.members
            there.spans.append(span)
        else:
            whole.append(Gathered(group, [span]))
            if group.is_sample:
                latest[group.name] = whole[-1]
    return whole


def told(groups: Iterable[Group]) -> Iterator[Group]:
    """The samples of a tar that is read straight through; of one that stands apart, the later parts fail and say so."""
    seen: dict[str, set[str]] = {}
    for group in groups:
        if _is_another_part(group, seen) and not group.reason:
            suffixes = ", ".join(f".{suffix}" for suffix in group.members)
            group.reason = "members_not_adjacent"
            group.detail = f"{suffixes} of {group.name} stand apart from its other members in the tar: {_HOW}"
        yield group


def _is_another_part(group: Group, seen: dict[str, set[str]]) -> bool:
    """Whether earlier members of its key lack all that it has: those of a second sample of that key would repeat."""
    if not group.is_sample:
        return False
    suffixes = _lowered(group)
    known = seen.get(group.name)
    if known is None or known & suffixes:
        seen[group.name] = suffixes
        return False
    known |= suffixes
    return True


def _lowered(group: Group) -> set[str]:
    return {suffix.lower() for suffix in group.members}
