"""Tiny checkpoints, each built once a session, and pictures of many sizes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from mmsynth.image import Image
from mmsynth.sample import Sample
from tests.captioners import checkpoints

# models this small lose more by waiting for each other's threads than they win
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Gives the folder of a tiny checkpoint by its name in `checkpoints`."""
    built: dict[str, Path] = {}

    def folder(name: str) -> str:
        if name not in built:
            built[name] = getattr(checkpoints, name)(tmp_path_factory.mktemp(name))
        return str(built[name])

    return folder


@pytest.fixture(scope="session")
def pictures() -> list[Sample]:
    """16 samples with pictures that all differ, in content and in size."""
    random = np.random.default_rng(0)
    samples = []
    for i in range(16):
        width, height = (int(side) for side in random.integers(20, 90, 2))
        patches = PIL.Image.fromarray(random.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        image = Image.from_pixels(patches.resize((width, height))).encoded("png")
        samples.append(Sample(f"picture-{i:02d}", image=image))
    return samples
