"""The input of the benchmarks: JPEGs cut out of real photographs, with noise, and captions; from a seed, never equal."""

import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image

from tests.benchmarks.bench_near_duplicates import NO_PHOTOGRAPHS
from tests.photos import photographs

PHOTOGRAPH = (640, 480)
TWELVE_MEGAPIXELS = (4000, 3000)
SAMPLES_A_TAR = 128
_TEXT = (
    "a the two old small white brown red man woman dog cat horse street table kitchen sits standing holding riding "
    "near on with and of in front behind window tree grass bicycle bus plate pizza umbrella sunset beach water"
)


def jpegs(n: int, size: tuple[int, int], seed: int = 5) -> Iterator[bytes]:
    """`n` JPEGs of quality 90: a crop of a photograph at least half as wide as it, scaled to `size`, with grain."""
    rng = np.random.default_rng(seed)
    whole = [PIL.Image.open(path).convert("RGB") for path in photographs() if path.stem not in NO_PHOTOGRAPHS]
    width, height = size
    for _ in range(n):
        photo = whole[rng.integers(len(whole))]
        across = min(photo.width, photo.height * width / height) * rng.uniform(0.5, 1)
        left, top = rng.uniform(0, photo.width - across), rng.uniform(0, photo.height - across * height / width)
        box = (left, top, left + across, top + across * height / width)
        pixels = np.asarray(photo.resize(size, PIL.Image.Resampling.BICUBIC, box=box), dtype=np.int16)
        grain = rng.integers(-6, 7, (height, width, 1), dtype=np.int16)
        buffer = io.BytesIO()
        PIL.Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        yield buffer.getvalue()


def captions(n: int, seed: int = 5) -> list[str]:
    """`n` captions of 6 to 20 words."""
    words = random.Random(seed)
    return [" ".join(words.choices(_TEXT.split(), k=words.randint(6, 20))) for _ in range(n)]


def write_tars(folder: Path, n: int, size: tuple[int, int]) -> list[Path]:
    """`n` pairs as WebDataset tars in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    pairs = zip(jpegs(n, size), captions(n), strict=True)
    for first in range(0, n, SAMPLES_A_TAR):
        paths.append(folder / f"{first // SAMPLES_A_TAR:05d}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            for i in range(first, min(n, first + SAMPLES_A_TAR)):
                picture, caption = next(pairs)
                for extension, data in (("jpg", picture), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{i:06d}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return paths


def pairs_in(tars: list[Path]) -> Iterator[tuple[bytes, str]]:
    for path in tars:
        with tarfile.open(path) as tar:
            members = iter(tar)
            for image, text in zip(members, members, strict=True):
                yield _bytes(tar, image), _bytes(tar, text).decode()


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()
