"""SIGTERM and SIGINT while a run loads, plans, reads, prepares, processes, writes and finishes."""

import signal
from collections.abc import Iterator
from pathlib import Path

from tests.faults.stages import PLACES
from tests.faults.trial import Figure, Trial, count, finished, on_ray, wait_for

#: the other places are in actors, which Ray starts, and which get no signals
_OF_THE_DRIVER = ("plan", "write", "finish")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: what SIGTERM ends a run with: by the signal, as a shell says that, or by Ray's own handler
_TERMINATED = (-signal.SIGTERM, 128 + signal.SIGTERM, signal.SIGTERM)


def figures(folder: Path) -> Iterator[Figure]:
    with on_ray() as executors:
        for executor in executors:
            trial = Trial(folder / f"signal-{executor.replace(' ', '-')}", executor, executors=executors)
            places = _OF_THE_DRIVER if executor == "Ray" else PLACES
            for number in SIGNALS:
                outcomes = [stopped(trial, place, number) for place in places]
                yield count("signals", f"{number.name} at {', '.join(places)}, {executor}", outcomes)


def stopped(trial: Trial, place: str, number: signal.Signals) -> str:
    """Send the signal while the run is at `place`; "" if it ends soon, and resumed leaves what it should."""
    trial.clear()
    mark = trial.out.parent / "mark"
    mark.unlink(missing_ok=True)
    process = trial.start({"FAULT_WAIT_AT": place, "FAULT_MARK": str(mark)})
    if not wait_for(lambda: mark.exists() or process.poll() is not None) or process.poll() is not None:
        return f"{place}: it never came there: {finished(process)}"
    process.send_signal(number)
    code, said = finished(process, 60)
    if code not in ((130, -signal.SIGINT) if number is signal.SIGINT else _TERMINATED):
        return f"{place}: ended with {code}: {said}"
    left = [path.name for path in trial.out.iterdir() if path.name.endswith(".part")] if trial.out.is_dir() else []
    if number is signal.SIGINT and left:
        return f"{place}: Ctrl-C left {', '.join(left)}"
    wrong = trial.resumed()
    return f"{place}: {wrong}" if wrong else ""
