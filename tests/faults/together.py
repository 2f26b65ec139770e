"""Two runs started at once on one output: one does it, the other is refused and told by whom."""

import re
from pathlib import Path

from tests.faults.trial import Figure, Trial, count, finished


def figures(folder: Path, times: int = 10) -> list[Figure]:
    trial = Trial(folder / "together")
    return [count("two runs at once", "the second is refused by name", [both(trial) for _ in range(times)])]


def both(trial: Trial) -> str:
    """Start two; "" if one is refused with the other's process id and the other's output is whole."""
    trial.clear()
    processes = [trial.start(), trial.start()]
    ends = [finished(process) for process in processes]
    codes = sorted(code for code, _ in ends)
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
