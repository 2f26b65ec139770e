"""Sides of a comparison, run in turns, and what their repetitions come to.

Knows clocks, and how busy the machine was with other things. Does not know what is measured.
"""

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import busy_seconds, cores

#: below this the counters, which tick a hundred times a second, say nothing
_LEAST_SECONDS = 0.05


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    scratch: Path
    n: int | None = None
    rounds: int = 3
    device: str = "cpu"
    dtype: str = "auto"
    #: a repetition is left out where others used more than this share of the machine
    busy: float = 0.1
    #: models of toy sizes: whether it runs, not how fast
    tiny: bool = False
    #: name of a peer → the Python that has it
    peers: dict[str, str] = field(default_factory=dict)

    def count(self, default: int) -> int:
        return self.n or default


@dataclass(frozen=True)
class Spent:
    """What one repetition took, by the clock and of the processors."""

    n: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Side:
    """One way of doing the work. `run` gives how many it did, or what it spent where that was in another process."""

    name: str
    run: Callable[[], int | Spent]
    #: rates by the processors' seconds ("a second and core"), not by the clock's
    by_cpu: bool = False


@dataclass(frozen=True)
class Target:
    """A ratio of two sides' rates, or one side's own figure, and what it should be."""

    what: str
    side: str
    against: str | None = None
    at_least: float | None = None
    #: seconds, of a side that has no rate
    at_most_s: float | None = None


@dataclass(frozen=True)
class Row:
    """A piece of work: its sides, and what they are held against."""

    title: str
    sides: list[Side]
    targets: list[Target]
    about: dict[str, Any] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None
    #: run every side once beforehand, uncounted: where that is cheap, and what is imported then is not
    warm_up: bool = False


def measure(row: Row, options: Options) -> dict[str, Any]:
    """Every side in turns, `rounds` times; each round begins with another side, so that none always follows the same."""
    repetitions: dict[str, list[dict[str, Any]]] = {side.name: [] for side in row.sides}
    try:
        for side in row.sides if row.warm_up else ():
            side.run()
        for number in range(options.rounds):
            first = number % len(row.sides)
            for side in row.sides[first:] + row.sides[:first]:
                repetitions[side.name].append(repetition(side, options))
    finally:
        row.close()
    sides = {name: {"median": _median(these), "repetitions": these} for name, these in repetitions.items()}
    targets = [_judged(target, repetitions) for target in row.targets]
    return {"title": row.title, **row.about, "targets": targets, "sides": sides}


def repetition(side: Side, options: Options) -> dict[str, Any]:
    """One repetition: its seconds, the processors' seconds for each of them, and what others used meanwhile."""
    busy, wall, cpu = busy_seconds(), time.perf_counter(), cpu_seconds()
    done = side.run()
    if options.device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
    outer = time.perf_counter() - wall
    spent = done if isinstance(done, Spent) else Spent(done, outer, cpu_seconds() - cpu)
    after = busy_seconds()
    # of a peer in another process its own seconds are part of the machine's; both are taken off
    own = spent.cpu_s + (cpu_seconds() - cpu if isinstance(done, Spent) else 0)
    others = None if busy is None or after is None else max(0.0, after - busy - own) / (outer * cores())
    seconds = spent.cpu_s if side.by_cpu else spent.wall_s
    quiet = others is None or others <= max(options.busy, _LEAST_SECONDS / (outer * cores()))
    return {
        "n": spent.n,
        "wall_s": round(spent.wall_s, 4),
        "cpu_over_wall": round(spent.cpu_s / spent.wall_s, 2),
        "others_share": None if others is None else round(others, 3),
        "rate": round(spent.n / seconds, 4),
        "quiet": quiet,
    }


def cpu_seconds() -> float:
    """Of this process, its threads, and its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _median(repetitions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Of the quiet repetitions; None where there was none."""
    quiet = [each for each in repetitions if each["quiet"]]
    if not quiet:
        return None
    return {name: statistics.median(each[name] for each in quiet) for name in ("rate", "wall_s", "cpu_over_wall")}


def _judged(target: Target, repetitions: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The median over rounds in which both sides were undisturbed. None where there was no such round."""
    ours = repetitions[target.side]
    if target.against is not None:
        rounds = zip(ours, repetitions[target.against], strict=True)
        figures = [a["rate"] / b["rate"] for a, b in rounds if a["quiet"] and b["quiet"]]
    elif target.at_most_s is not None:
        figures = [each["wall_s"] for each in ours if each["quiet"]]
    else:
        figures = [each["rate"] for each in ours if each["quiet"]]
    found = statistics.median(figures) if figures else None
    reached = None
    if found is not None and target.at_least is not None:
        reached = found >= target.at_least
    elif found is not None and target.at_most_s is not None:
        reached = found <= target.at_most_s
    wanted = {"at_least": target.at_least, "at_most_s": target.at_most_s}
    return {
        "what": target.what,
        "found": None if found is None else round(found, 3),
        "rounds": len(figures),
        **{name: value for name, value in wanted.items() if value is not None},
        "reached": reached,
    }
