"""A bit flipped in a committed file: `verify` finds it, and repairing makes the file again as it was."""

import random
from pathlib import Path

from mmsynth.engine.run import repair
from mmsynth.errors import MMSynthError
from mmsynth.recipe import RunOptions
from mmsynth.shards.folder import RunFolder
from mmsynth.shards.verify import damages
from tests.faults.trial import Figure, Trial, count

KINDS = ("tar", "parquet", "npy", "_stats.json")


def figures(folder: Path, flips: int, seed: int) -> list[Figure]:
    trial = Trial(folder / "bits")
    rng = random.Random(f"{seed} bits")
    found = []
    for kind in KINDS:
        names = sorted(name for name in trial.expected if name.endswith(kind))
        outcomes = [flipped(trial, rng.choice(names), rng) for _ in range(flips)]
        found.append(count("a flipped bit", f"in a {kind.lstrip('_')} file: found and mended", outcomes))
    return found


def flipped(trial: Trial, name: str, rng: random.Random) -> str:
    """Flip one bit of the file; "" if it is found and mended."""
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
