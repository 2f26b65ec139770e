"""Fixtures that several test files share."""

import os

import pytest

# nothing in the tests may wait for a hub: models are built locally
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# models this small lose more by waiting for each other's threads than they win, above all on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Terminal output is compared as text."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
