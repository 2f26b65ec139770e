"""What tests of filters share."""

import pytest

from tests.models.clip_folders import clip_folder, clip_folders  # noqa: F401 - fixtures


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small lose more by sharing work among threads than they gain."""
    import torch

    torch.set_num_threads(1)
