"""kill -9 of the main process and of workers, at random moments; each run resumed by the same command."""

import random
from contextlib import suppress
from pathlib import Path

import psutil

from tests.faults.trial import Figure, Trial, count, family, finished, on_ray, wait_for


def figures(folder: Path, kills: int, seed: int) -> list[Figure]:
    """The kills shared out over executors and victims."""
    with on_ray() as executors:
        kinds = [(executor, "the main process") for executor in executors]
        kinds += [(executor, "a worker") for executor, options in executors.items() if options]
        trials = {
            executor: Trial(folder / f"kill-{executor.replace(' ', '-')}", executor, executors=executors)
            for executor in executors
        }
        found = []
        for number, (executor, victim) in enumerate(kinds):
            rng = random.Random(f"{seed} kill {number}")
            times = kills // len(kinds) + (number < kills % len(kinds))
            outcomes = [killed(trials[executor], victim, rng) for _ in range(times)]
            found.append(count("kill -9", f"{victim}, {executor}", outcomes))
        return found


def killed(trial: Trial, victim: str, rng: random.Random) -> str:
    """Kill at a random moment; "" if what is there after the resumed run is what an undisturbed one leaves.

    A run whose worker is killed goes on by itself; one whose worker dies while it loads says so, and is resumed too.
    """
    trial.clear()
    process = trial.start()
    trial.random_moment(process, rng)
    all_of_it = family(process.pid)
    chosen = all_of_it[:1] if victim == "the main process" else all_of_it[1:]
    if chosen:
        with suppress(psutil.NoSuchProcess):
            rng.choice(chosen).kill()
    code, said = finished(process)
    if victim == "a worker" and code not in (0, 8):
        return f"without one worker it ended with {code}: {said}"
    wrong = trial.resumed()
    if not wait_for(lambda: not any(_lives(one) for one in all_of_it), 30):
        wrong = wrong or "a process of the killed run still lives"
    return wrong or trial.difference()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
