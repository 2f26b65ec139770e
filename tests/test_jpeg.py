"""With simplejpeg and without it JPEGs have the same pixels, and what is wrong with one has the same name."""

import io
import random
from collections.abc import Iterator

import numpy as np
import PIL.Image
import pytest

from mmsynth import jpeg
from mmsynth.errors import ImageError
from mmsynth.image import Image
from tests.faults.hostile_images import MUTATIONS
from tests.photos import photographs

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")

EXIF_ORIENTATION = 0x0112


@pytest.mark.parametrize("at_least", [None, 1, 60, 224])
def test_pixels_are_those_of_pil(monkeypatch: pytest.MonkeyPatch, at_least: int | None) -> None:
    files = list(jpegs())
    fast = [outcome(data, at_least) for data in files]
    by_simplejpeg = [jpeg._simplejpeg() is not None and is_taken(data) for data in files]
    assert sum(by_simplejpeg) > len(files) / 2, "most are to be decoded by simplejpeg, or this compares PIL with PIL"
    monkeypatch.setattr(jpeg, "_simplejpeg", lambda: None)
    for data, found in zip(files, fast, strict=True):
        expected = outcome(data, at_least)
        assert type(found) is type(expected)
        assert np.array_equal(found, expected)


def test_broken_files_end_as_with_pil(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    good = list(jpegs())
    files = [rng.choice(MUTATIONS)(rng, rng.choice(good)) for _ in range(300)]
    fast = [outcome(data, at_least=100) for data in files]
    monkeypatch.setattr(jpeg, "_simplejpeg", lambda: None)
    reasons = set()
    for data, found in zip(files, fast, strict=True):
        expected = outcome(data, at_least=100)
        if isinstance(expected, str):
            assert found == expected
            reasons.add(expected)
        else:
            assert np.array_equal(found, expected)
    assert {"image_truncated", "image_unreadable"} <= reasons


def test_a_size_that_pil_did_not_see_is_not_allocated() -> None:
    data = saved(PIL.Image.new("RGB", (64, 48), (9, 99, 9)))
    opened = Image(data).opened()
    assert jpeg.decoded(data, opened, (64, 48)) is not None
    at = data.index(b"\xff\xc0") + 5
    enormous = data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]
    assert jpeg.decoded(enormous, opened, (64, 48)) is None


def jpegs() -> Iterator[bytes]:
    """Every kind of JPEG: subsampled in each way, progressive, grey, CMYK, RGB, turned, with restart markers."""
    exif = PIL.Image.Exif()
    for number, path in enumerate(photographs(6)):
        picture = PIL.Image.open(path).convert("RGB")
        picture.thumbnail((321, 263))
        for mode in ("RGB", "L", "CMYK"):
            yield saved(picture.convert(mode), quality=40 + 9 * number)
            yield saved(picture.convert(mode), progressive=True)
        for subsampling in (0, 1, 2):
            yield saved(picture.crop((0, 0, picture.width - number, 33)), subsampling=subsampling)
        yield saved(picture, keep_rgb=True)
        yield saved(picture, restart_marker_blocks=5)
        exif[EXIF_ORIENTATION] = number + 3
        yield saved(picture, exif=exif)


def saved(picture: PIL.Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def is_taken(data: bytes) -> bool:
    opened = Image(data).opened()
    return jpeg.decoded(data, opened, opened.size) is not None


def outcome(data: bytes, at_least: int | None) -> "np.ndarray | str":  # type: ignore[type-arg]
    """The pixels by both ways of asking for them, which must agree, or the reason why there are none."""
    try:
        pixels = np.asarray(Image(data).pixels(at_least))
    except ImageError as error:
        with pytest.raises(ImageError, match=error.reason):
            Image(data).array(at_least)
        if at_least == 1:
            with pytest.raises(ImageError, match=error.reason):
                Image(data).verify()
        return error.reason
    assert np.array_equal(Image(data).array(at_least), pixels)
    return pixels
