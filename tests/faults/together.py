"""Two runs started at once on one output: one does it, the other is refused and told by whom."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.faults.trial import Figure, Trial, finished
from tests.faults.tries import Tries


def figures(folder: Path, times: int, tries: Tries) -> Iterator[Figure]:
    trial = Trial(folder / "together")
    yield tries.figure("two runs at once", "the second is refused by name", times, partial(both, trial))


def both(trial: Trial, rng: random.Random, told: Counter[str]) -> str:
    """Start two; "" if one is refused with the other's process id and the other's output is whole."""
    trial.clear()
    processes = [trial.start(), trial.start()]
    ends = [finished(process) for process in processes]
    codes = sorted(code for code, _ in ends)
    told["times one was refused"] += codes == [0, 6]
    if codes == [0, 0]:
        return trial.difference()  # the second came when the first had done: it had nothing left to do
    if codes != [0, 6]:
        return f"ended with {ends}"
    refused = next(i for i, (code, _) in enumerate(ends) if code == 6)
    said, other = ends[refused][1], processes[1 - refused].pid
    # between taking the lock and writing its name into it the first is nameless for a moment
    named = re.search(r"\(process (\d+) on \S+, since [^)]+\)", said)
    if not named or int(named[1]) != other:
        return f"the refused run was told: {said}; the other is process {other}"
    return trial.difference()
