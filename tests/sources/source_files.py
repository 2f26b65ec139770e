"""What the sources' tests read: small images, real photographs, tars; and a reader that checks what slices promise."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import skimage
import sklearn.datasets

from mmsynth.errors import ImageError
from mmsynth.sample import Sample
from mmsynth.sources.base import Source, Unreadable

_SKIMAGE = Path(skimage.__file__).parent / "data"
_SKLEARN = Path(sklearn.datasets.__file__).parent / "images"
PHOTOGRAPHS = {
    path.name: path.read_bytes()
    for path in (
        _SKIMAGE / "astronaut.png",
        _SKIMAGE / "chelsea.png",
        _SKIMAGE / "coffee.png",
        _SKIMAGE / "rocket.jpg",
        _SKLEARN / "china.jpg",
        _SKLEARN / "flower.jpg",
    )
}


def picture(seed: int = 0, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (4, 4), (seed * 37 % 256, seed % 256, 9)).save(buffer, format)
    return buffer.getvalue()


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], **options: Any) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pairs(*keys: str) -> list[tuple[str, bytes]]:
    """A png and a txt for each key."""
    return [
        member for i, key in enumerate(keys) for member in ((f"{key}.png", picture(i)), (f"{key}.txt", key.encode()))
    ]


def everything(source: Source, samples_per_slice: int = 3) -> list[Sample | Unreadable]:
    """All that a source gives. Each slice goes through JSON, is read twice, and has the size and keys that it said."""
    found: list[Sample | Unreadable] = []
    for piece in source.slices(samples_per_slice):
        payload = json.loads(json.dumps(piece.payload))
        read = list(source.read(payload))
        assert piece.size in {None, len(read)}
        assert list(source.keys(piece)) == [one.key for one in read]
        assert seen(read) == seen(list(source.read(payload)))
        found.extend(read)
    # a record must be JSON that any reader takes
    for item in samples(found):
        json.dumps(dict(item.record), allow_nan=False, ensure_ascii=False).encode()
    keys = [item.key for item in found]
    assert len(set(keys)) == len(keys), "keys are unique in a run"
    return found


def seen(items: Sequence[Sample | Unreadable]) -> list[Any]:
    return [
        repr(item) if isinstance(item, Unreadable) else (item.key, item.caption, dict(item.record)) for item in items
    ]


def samples(items: Sequence[Sample | Unreadable]) -> list[Sample]:
    return [item for item in items if isinstance(item, Sample)]


def reasons(items: Sequence[Sample | Unreadable]) -> dict[str, str]:
    """Key → reason: of what could not be read, and of what turns out to be no image."""
    found = {}
    for item in items:
        if isinstance(item, Unreadable):
            found[item.key] = item.reason
        elif item.image is not None:
            try:
                item.image.pixels()
            except ImageError as error:
                found[item.key] = error.reason
    return found


def source_of(sample: Sample) -> dict[str, Any]:
    about = sample.record["source"]
    assert isinstance(about, dict)
    return about
