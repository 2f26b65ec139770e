"""Disks that are full, read-only, or fail at random calls; and a clock that jumps."""

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults import shim
from tests.faults.trial import EXECUTORS, Figure, Trial, count, finished

#: what a file system may say, as the C library words it
_SAID = ("No space left", "Input/output error", "quota exceeded", "Read-only file system")


def figures(folder: Path, times: int, seed: int) -> list[Figure]:
    return [*full_and_read_only(folder), *failing_calls(folder, times, seed), *jumping_clock(folder, seed)]


def full_and_read_only(folder: Path) -> list[Figure]:
    found = []
    for executor in EXECUTORS:
        place = folder / f"tmpfs-{executor.replace(' ', '-')}" / "out"
        with small_disk(place) as resize:
            if resize is None:
                why = "not tried: no tmpfs can be mounted here (it needs root and Linux)"
                return [Figure("a full disk", "a small tmpfs", 0, 0, why)]
            trial = Trial(place.parent, executor)
            outcomes = [filled(trial, resize, size) for size in ("24k", "64k", "112k")]
            found.append(count("a full disk", f"tmpfs of 24, 64 and 112 kB, {executor}", outcomes))
            found.append(count("a read-only output", executor, [read_only(trial, resize)]))
    return found


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
    if code <= 0 or "No space left" not in said:
        return f"{size}: ended with {code}: {said}"
    return trial.resumed()


def read_only(trial: Trial, resize: Callable[[str], None]) -> str:
    """Run on a disk that is read-only; "" if it is one clear error."""
    trial.clear()
    resize("ro")
    code, said = finished(trial.start())
    resize("rw")
    return "" if code == 6 and "error: cannot write to" in said else f"ended with {code}: {said}"


def failing_calls(folder: Path, times: int, seed: int) -> list[Figure]:
    library = shim.compiled(folder)
    if library is None:
        return [Figure("failing calls", "open, write, fsync, rename, unlink", 0, 0, "not tried: no C compiler here")]
    found = []
    for executor in EXECUTORS:
        trial = Trial(folder / f"calls-{executor.replace(' ', '-')}", executor)
        rng = random.Random(f"{seed} calls {executor}")
        codes: list[int] = []
        outcomes = [failed(trial, library, rng, codes) for _ in range(times)]
        note = f"{sum(code != 0 for code in codes)} runs were stopped by it"
        found.append(count("failing calls", f"2 to 50 of 1,000 calls on the output, {executor}", outcomes, note))
    return found


def failed(trial: Trial, library: Path, rng: random.Random, codes: list[int]) -> str:
    """Run over failing calls; "" if it ends by itself and says why, and resumed leaves what it should."""
    trial.clear()
    env = shim.failing(library, trial.out, rng.randrange(2**32), rng.choice((2, 10, 50)))
    code, said = finished(trial.start(env))
    codes.append(code)
    if code < 0 or (code and not any(words in said for words in _SAID)):
        return f"ended with {code}: {said}"
    return trial.resumed() if code else trial.difference()


def jumping_clock(folder: Path, seed: int, times: int = 3) -> list[Figure]:
    library = shim.compiled(folder)
    if library is None:
        return [Figure("clock jumps", "by up to a year", 0, 0, "not tried: no C compiler here")]
    found = []
    for executor in EXECUTORS:
        trial = Trial(folder / f"clock-{executor.replace(' ', '-')}", executor)
        outcomes = [jumped(trial, library, seed + i) for i in range(times)]
        found.append(count("clock jumps", f"by up to a year while it runs; files from 2100, {executor}", outcomes))
    return found


def jumped(trial: Trial, library: Path, seed: int) -> str:
    """Run half of it by a mad clock, date the files into the future, and go on; "" if that changes nothing."""
    trial.clear()
    code, said = finished(trial.start(shim.jumping(library, seed)))
    wrong = f"ended with {code}: {said}" if code else trial.difference()
    for path in sorted(trial.out.iterdir()):
        os.utime(path, (4_102_444_800, 4_102_444_800))
    for name in ("index.json", "00003_stats.json"):
        (trial.out / name).unlink(missing_ok=True)
    return wrong or trial.resumed()
