"""Disks that are full, read-only, or fail at random calls; and a clock that jumps."""

import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.faults import shim
from tests.faults.trial import EXECUTORS, Figure, Trial, count, finished
from tests.faults.tries import Tries

#: disks on which the output has no room
SIZES_KB = (16, 24, 32, 48, 64, 80, 96, 112)
#: what a file system may say, as the C library words it
_SAID = ("No space left", "Input/output error", "quota exceeded", "Read-only file system")


def full_and_read_only(folder: Path) -> Iterator[Figure]:
    for executor in EXECUTORS:
        place = folder / f"tmpfs-{executor.replace(' ', '-')}" / "out"
        with small_disk(place) as resize:
            if resize is None:
                why = "not tried: no tmpfs can be mounted here (it needs root and Linux)"
                yield Figure("a full disk", "a small tmpfs", 0, 0, why)
                return
            trial = Trial(place.parent, executor)
            outcomes = [filled(trial, resize, f"{size}k") for size in SIZES_KB]
            told = f"tmpfs of {', '.join(map(str, SIZES_KB))} kB, {executor}"
            yield count("a full disk", told, outcomes)
            yield count("a read-only output", executor, [read_only(trial, resize)])


@contextmanager
def small_disk(place: Path) -> Iterator[Callable[[str], None] | None]:
    """A tmpfs at `place`, and what sets its mount options; None where none can be mounted."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True, capture_output=True)

    try:
        yield remount if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)


def filled(trial: Trial, resize: Callable[[str], None], size: str) -> str:
    """Run on a disk too small; "" if it says so, and the same command with more room leaves what it should."""
    resize("size=16m")
    trial.clear()
    resize(f"size={size}")
    code, said = finished(trial.start())
    resize("size=16m")
    if code != 6 or "error: cannot write to" not in said or "No space left" not in said:
        return f"{size}: ended with {code}: {said}"
    return trial.resumed()


def read_only(trial: Trial, resize: Callable[[str], None]) -> str:
    """Run on a disk that is read-only; "" if it is one clear error."""
    trial.clear()
    resize("ro")
    code, said = finished(trial.start())
    resize("rw")
    return "" if code == 6 and "error: cannot write to" in said else f"ended with {code}: {said}"


def failing_calls(folder: Path, times: int, tries: Tries) -> Iterator[Figure]:
    library = shim.compiled(folder)
    if library is None:
        yield Figure("failing calls", "open, write, fsync, rename, unlink", 0, 0, "not tried: no C compiler here")
        return
    for executor in EXECUTORS:
        trial = Trial(folder / f"calls-{executor.replace(' ', '-')}", executor)
        what = f"2 to 50 of 1,000 calls on the output, {executor}"
        yield tries.figure("failing calls", what, times, partial(failed, trial, library))


def failed(trial: Trial, library: Path, rng: random.Random, told: Counter[str]) -> str:
    """Run over failing calls; "" if it ends by itself and says why, and resumed leaves what it should."""
    trial.clear()
    env = shim.failing(library, trial.out, rng.randrange(2**32), rng.choice((2, 10, 50)))
    code, said = finished(trial.start(env))
    told["runs were stopped by it"] += code != 0
    if code < 0 or (code and not any(words in said for words in _SAID)):
        return f"ended with {code}: {said}"
    return trial.resumed() if code else trial.difference()


def jumping_clock(folder: Path, times: int, tries: Tries) -> Iterator[Figure]:
    library = shim.compiled(folder)
    if library is None:
        yield Figure("clock jumps", "by up to a year", 0, 0, "not tried: no C compiler here")
        return
    for executor in EXECUTORS:
        trial = Trial(folder / f"clock-{executor.replace(' ', '-')}", executor)
        what = f"by up to a year while it runs; files from 2100, {executor}"
        yield tries.figure("clock jumps", what, times, partial(jumped, trial, library))


def jumped(trial: Trial, library: Path, rng: random.Random, told: Counter[str]) -> str:
    """Run half of it by a mad clock, date the files into the future, and go on; "" if that changes nothing."""
    trial.clear()
    code, said = finished(trial.start(shim.jumping(library, rng.randrange(2**32))))
    wrong = f"ended with {code}: {said}" if code else trial.difference()
    for path in sorted(trial.out.iterdir()):
        os.utime(path, (4_102_444_800, 4_102_444_800))
    for name in ("index.json", "00003_stats.json"):
        (trial.out / name).unlink(missing_ok=True)
    return wrong or trial.resumed()
