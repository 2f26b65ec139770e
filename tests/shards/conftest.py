"""What the tests of output folders share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def data_0_1(tmp_path: Path) -> Path:
    """A copy of a run that version 0.1 wrote: twelve scenes drawn, captioned and filtered, in three shards."""
    return Path(shutil.copytree(Path(__file__).parents[1] / "data" / "run_0_1", tmp_path / "run_0_1"))
