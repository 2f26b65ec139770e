"""A bit flipped in a committed file: `verify` finds it, and repairing makes the file again as it was."""

import random
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mmsynth.engine.run import repair
from mmsynth.errors import MMSynthError
from mmsynth.recipe import RunOptions
from mmsynth.shards.folder import RunFolder
from mmsynth.shards.verify import damages
from tests.faults.trial import Figure, Trial
from tests.faults.tries import Tries

KINDS = ("tar", "parquet", "npy", "_stats.json", "index.json", "sizes.json")


def figures(folder: Path, flips: int, tries: Tries) -> Iterator[Figure]:
    trial = Trial(folder / "bits")
    for kind in KINDS:
        what = f"in a {kind.lstrip('_')} file: found and repaired"
        yield tries.figure("a flipped bit", what, flips, partial(flipped, trial, kind))


def flipped(trial: Trial, kind: str, rng: random.Random, told: Counter[str] | None = None) -> str:
    """Flip one bit of a file of this kind; "" if it is found and repaired."""
    name = rng.choice(sorted(name for name in trial.expected if name.endswith(kind)))
    path = trial.out / name
    whole = path.read_bytes()
    data = bytearray(whole)
    at = rng.randrange(len(data) * 8)
    data[at // 8] ^= 1 << at % 8
    path.write_bytes(data)
    try:
        found = list(damages(RunFolder(trial.out)))
        if not found:
            return f"bit {at} of {name} was not found"
        repair(trial.out, RunOptions(device="cpu"))
        return trial.difference()
    except MMSynthError as error:
        return f"bit {at} of {name}: {error}"
    finally:
        path.write_bytes(whole)
