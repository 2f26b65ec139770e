"""Seeds: every random draw comes from blake2b(run seed, stage, key), never from a global generator.

So a sample's draws depend only on the recipe and its own key, not on its batch, worker or position.
"""

import hashlib
import random


def seed_for(run_seed: int, stage: str, key: str) -> int:
    """A seed in [0, 2**63) for one sample in one stage. Fits numpy, torch and `random`."""
    message = f"{run_seed}\0{stage}\0{key}".encode()
    return int.from_bytes(hashlib.blake2b(message, digest_size=8).digest(), "big") >> 1


def rng_for(run_seed: int, stage: str, key: str) -> random.Random:
    """A `random.Random` for one sample in one stage."""
    return random.Random(seed_for(run_seed, stage, key))  # noqa: S311 - reproducible on purpose
