"""What the tests of selections share."""

from pathlib import Path

import pytest

from tests.selection.runs import scored, write_run


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_run(tmp_path / "pairs", scored())
