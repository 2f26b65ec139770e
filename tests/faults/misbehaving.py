"""Stages that raise, lose results, hang, leak, and run out of device memory: each input still ends in a row."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.engine.run_files import rows
from tests.faults.stages import INPUTS, PER_SHARD
from tests.faults.trial import EXECUTORS, Figure, count, everything_in, finished, start

#: pipeline → run options, exit code, and how often each reason must stand in the rows
EXPECTED: dict[str, tuple[dict[str, Any], int, dict[str, int]]] = {
    "raises": ({}, 0, {"RuntimeError": 2}),
    "loses one": ({}, 3, {}),
    "adds one": ({}, 3, {}),
    "gives nothing": ({}, 0, {"TypeError": INPUTS}),
    "hangs": ({"batch_timeout_s": 0.5}, 0, {"timeout": 2}),
    "hangs preparing": ({"batch_timeout_s": 0.5, "threads": 2}, 0, {"timeout": 3}),
    "no memory": ({}, 0, {"MemoryError": 1}),
}
#: the block of the sample that kills, and of how many
_DEADLY, _BLOCKS = 20 // PER_SHARD, INPUTS // PER_SHARD


def figures(folder: Path) -> Iterator[Figure]:
    for executor, options in EXECUTORS.items():
        place = folder / "misbehaving" / executor.replace(" ", "-")
        for pipeline in EXPECTED:
            yield count("a stage", f"{pipeline}, {executor}", [misbehaved(place / pipeline, pipeline, options)])
        yield count("a stage", f"leaks until it is killed, {executor}", [leaked(place / "leaks", options)])
    alone = folder / "misbehaving" / "alone"
    yield count(
        "a stage",
        "kills its process at one block: in-process nothing committed is lost, and the same command with workers sets "
        "that block aside and does the rest",
        [killed_by_one_block(alone)],
    )


def misbehaved(out: Path, pipeline: str, options: dict[str, Any]) -> str:
    """Run it; "" if it ends as it should, with every input in a row and the others untouched."""
    own, code, reasons = EXPECTED[pipeline]
    ended, said = finished(start(out, pipeline, {**options, **own, "samples_per_shard": 10}), 120)
    if ended != code:
        return f"ended with {ended}: {said}"
    return _rows_wrong(out, reasons) if code == 0 else ""


def killed_by_one_block(out: Path) -> str:
    """Run it in this process twice, then with workers: "" if all but the deadly block are there and it is named."""
    before: dict[str, str] = {}
    for _ in range(2):
        ended, said = finished(start(out, "kills", {}), 120)
        if ended != -9:
            return f"in-process it ended with {ended}: {said}"
        there = {name: digest for name, digest in everything_in(out).items() if name.endswith("_stats.json")}
        if len(there) < _DEADLY - 1 or any(there.get(name) != digest for name, digest in before.items()):
            return f"in-process {len(there)} shards are there after a death, {len(before)} before it"
        before = there
    ended, said = finished(start(out, "kills", {"workers": 2}), 120)
    if ended != 8 or f"shards {_DEADLY:05d};" not in said:
        return f"with workers it ended with {ended}: {said}"
    names = everything_in(out)
    missing = {i for i in range(_BLOCKS) if f"{i:05d}_stats.json" not in names}
    left = [name for name in names if name.endswith(".part")]
    return "" if missing == {_DEADLY} and not left else f"without the shards {sorted(missing)}, with {left}"


def leaked(out: Path, options: dict[str, Any]) -> str:
    """Run it, again after every death; "" if in the end every input has a row and is kept."""
    for _ in range(10):
        ended, said = finished(start(out, "leaks", options), 120)
        if ended == 0:
            return _rows_wrong(out, {})
        if ended not in (-9, 8):
            return f"ended with {ended}: {said}"
    return "ten deaths, and not done"


def _rows_wrong(out: Path, reasons: dict[str, int]) -> str:
    found = rows(out)
    if len({row["key"] for row in found}) != INPUTS or len(found) != INPUTS:
        return f"{len(found)} rows for {INPUTS} inputs"
    told = dict(Counter(row["reason"] for row in found if row["status"] == "failed"))
    return "" if told == reasons else f"failed for {told}, not {reasons}"
