"""Stages that raise, lose results, hang, leak, and run out of device memory: each input still ends in a row."""

from collections import Counter
from pathlib import Path
from typing import Any

from tests.engine.run_files import rows
from tests.faults.stages import INPUTS
from tests.faults.trial import EXECUTORS, Figure, count, finished, start

#: pipeline → run options, exit code, and how often each reason must stand in the rows
EXPECTED: dict[str, tuple[dict[str, Any], int, dict[str, int]]] = {
    "raises": ({}, 0, {"RuntimeError": 2}),
    "loses one": ({}, 3, {}),
    "hangs": ({"batch_timeout_s": 0.5}, 0, {"timeout": 2}),
    "hangs preparing": ({"batch_timeout_s": 0.5, "threads": 2}, 0, {"timeout": 3}),
    "no memory": ({}, 0, {"MemoryError": 1}),
}
#: what kills its process needs workers; alone, the run dies and is resumed until it is done
KILLS = "leaks"


def figures(folder: Path) -> list[Figure]:
    found = []
    for executor, options in EXECUTORS.items():
        for pipeline in EXPECTED:
            outcome = misbehaved(folder / "misbehaving" / executor.replace(" ", "-") / pipeline, pipeline, options)
            found.append(count("a stage", f"{pipeline}, {executor}", [outcome]))
        outcome = leaked(folder / "misbehaving" / executor.replace(" ", "-") / KILLS, options)
        found.append(count("a stage", f"{KILLS} until it is killed, {executor}", [outcome]))
    return found


def misbehaved(out: Path, pipeline: str, options: dict[str, Any]) -> str:
    """Run it; "" if it ends as it should, with every input in a row and the others untouched."""
    own, code, reasons = EXPECTED[pipeline]
    ended, said = finished(start(out, pipeline, {**options, **own, "samples_per_shard": 10}), 120)
    if ended != code:
        return f"ended with {ended}: {said}"
    return _rows_wrong(out, reasons) if code == 0 else ""


def leaked(out: Path, options: dict[str, Any]) -> str:
    """Run it, again after every death; "" if in the end every input has a row and is kept."""
    for _ in range(10):
        ended, said = finished(start(out, KILLS, options), 120)
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
