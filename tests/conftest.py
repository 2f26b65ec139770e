"""Fixtures that several test files share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mmsynth.image import Image
from mmsynth.sample import Sample

# nothing in the tests may wait for a hub: models are built locally
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# models this small lose more by waiting for each other's threads than they win, above all on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Terminal output is compared as text."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Gives the folder of a tiny chat model or captioner by its name in `checkpoints`, each built once a session."""
    import torch

    from tests.captioners import checkpoints

    torch.set_num_threads(1)
    built: dict[str, Path] = {}

    def folder(name: str) -> str:
        if name not in built:
            built[name] = getattr(checkpoints, name)(tmp_path_factory.mktemp(name))
        return str(built[name])

    return folder


@pytest.fixture(scope="session")
def pictures() -> list[Sample]:
    """16 samples with pictures that all differ, in content and in size."""
    import numpy as np
    import PIL.Image

    random = np.random.default_rng(0)
    samples = []
    for i in range(16):
        width, height = (int(side) for side in random.integers(20, 90, 2))
        patches = PIL.Image.fromarray(random.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        image = Image.from_pixels(patches.resize((width, height))).encoded("png")
        samples.append(Sample(f"picture-{i:02d}", image=image))
    return samples
