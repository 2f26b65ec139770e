"""Tar headers are byte for byte those of Python's tarfile."""

import random
import tarfile

import pytest

from mmsynth.io.tar import tar_header


@pytest.mark.parametrize("size", [0, 1, 511, 512, 2_200, 2**20, 8**11 - 1, 8**11, 2**40])
@pytest.mark.parametrize(
    "name", ["a.jpg", "x" * 96 + ".txt", "x" * 97 + ".txt", "x" * 300 + ".json", "k.ü", "k.\udcff"]
)
def test_the_header_is_that_of_tarfile(name: str, size: int) -> None:
    assert tar_header(name, size) == by_tarfile(name, size)


def test_any_name_and_size_give_the_header_of_tarfile() -> None:
    rng = random.Random(3)
    for _ in range(2_000):
        name = "".join(rng.choices("abcxyz0189-_./é", k=rng.randint(1, 120)))
        size = rng.randrange(2 ** rng.randint(1, 38))
        assert tar_header(name, size) == by_tarfile(name, size)


def by_tarfile(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o444
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
