"""kill -9 of the main process and of workers, at random moments; each run resumed by the same command."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from tests.faults.trial import EXECUTORS, Executors, Figure, Trial, family, finished, on_ray, wait_for
from tests.faults.tries import Tries

_ATTEMPTS = 8


def figures(folder: Path, kills: int, tries: Tries) -> Iterator[Figure]:
    """The kills shared out over the executors, and those of each over its victims."""
    on_cluster = kills // 5  # each takes several times as long as another
    alone = (kills - on_cluster) // 2
    yield from _of(folder, "in-process", EXECUTORS, alone, tries)
    yield from _of(folder, "2 workers", EXECUTORS, kills - on_cluster - alone, tries)
    with on_ray() as executors:
        if "Ray" in executors:
            yield from _of(folder, "Ray", executors, on_cluster, tries)


def _of(folder: Path, executor: str, executors: Executors, kills: int, tries: Tries) -> Iterator[Figure]:
    trial = Trial(folder / f"kill-{executor.replace(' ', '-')}", executor, executors=executors)
    victims = ["the main process", "a worker"] if executors[executor] else ["the main process"]
    for number, victim in enumerate(victims):
        times = kills // len(victims) + (number < kills % len(victims))
        yield tries.figure("kill -9", f"{victim}, {executor}", times, partial(killed, trial, victim))


def killed(trial: Trial, victim: str, rng: random.Random, told: Counter[str] | None = None) -> str:
    """Kill at a random moment; "" if what is there after the resumed run is what an undisturbed one leaves.

    A run whose worker is killed goes on by itself, to its end. A run that was done by then was not killed: another is
    begun, a few times at most.
    """
    told = Counter() if told is None else told
    for _ in range(_ATTEMPTS):
        wrong = _killed_once(trial, victim, rng, told)
        if wrong or told["killed before it was done"]:
            return wrong
    return ""


def _killed_once(trial: Trial, victim: str, rng: random.Random, told: Counter[str]) -> str:
    trial.clear()
    process = trial.start()
    trial.random_moment(process, rng)
    all_of_it = family(process.pid)
    chosen = all_of_it[:1] if victim == "the main process" else all_of_it[1:]
    if chosen:
        with suppress(psutil.NoSuchProcess):
            rng.choice(chosen).kill()
            told["killed before it was done"] += not (trial.out / "index.json").exists()
    code, said = finished(process)
    if victim == "a worker" and code:
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
