"""Contact sheets: everything given is on the sheet, and nothing that a caption or an image holds breaks it."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mmsynth.image import Image
from mmsynth.sample import Sample
from mmsynth.shards.contact_sheet import write_contact_sheet
from mmsynth.testing import photo_samples, plain_image

RED, BLUE = 0xFF0000, 0x0000FF


def drawn(samples: list[Sample], path: Path, **options: int) -> PIL.Image.Image:
    write_contact_sheet(samples, path, **options)
    with PIL.Image.open(path) as sheet:
        assert sheet.format == "PNG"
        return sheet.convert("RGB")


def pixels_of(sheet: PIL.Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(sheet) == colour).all(axis=-1).sum())


def test_the_grid_has_as_many_columns_and_rows_as_it_needs(tmp_path: Path) -> None:
    one, six, seven = (drawn(photo_samples(n), tmp_path / f"{n}.png") for n in (1, 6, 7))
    assert six.width - one.width == 5 * (160 + 16)
    assert seven.width == six.width
    assert seven.height > six.height + 160


def test_no_more_samples_are_taken_than_are_shown(tmp_path: Path) -> None:
    def endless() -> Iterator[Sample]:
        for i in count():
            assert i < 4, "one more was taken than is shown"
            yield Sample(f"k{i}", image=plain_image(RED))

    write_contact_sheet(endless(), tmp_path / "sheet.png", max_samples=4)


def test_small_images_are_enlarged_in_whole_multiples(tmp_path: Path) -> None:
    # 7 pixels fit 14 times into a cell of 100, and every one is a square of 14
    sheet = drawn([Sample("k", image=plain_image(RED, size=7))], tmp_path / "sheet.png", cell_px=100)
    assert pixels_of(sheet, (255, 0, 0)) == (7 * 14) ** 2


def test_large_images_are_fitted_with_their_proportions(tmp_path: Path) -> None:
    wide = Image.from_pixels(PIL.Image.new("RGB", (400, 100), (0, 0, 255)))
    sheet = drawn([Sample("k", image=wide)], tmp_path / "sheet.png", cell_px=100)
    assert pixels_of(sheet, (0, 0, 255)) == 100 * 25


def test_samples_are_in_reading_order(tmp_path: Path) -> None:
    samples = [Sample("red", image=plain_image(RED)), Sample("blue", image=plain_image(BLUE))]
    sheet = drawn(samples, tmp_path / "sheet.png", columns=1, cell_px=32)
    assert sheet.getpixel((32, 32)) == (255, 0, 0)
    assert sheet.getpixel((32, sheet.height - 32)) == (0, 0, 255)


def test_captions_and_scores_stand_beneath_and_stay_within_their_cell(tmp_path: Path) -> None:
    bare = Sample("k", image=plain_image(RED))
    words = drawn([bare.with_caption("word " * 200)], tmp_path / "words.png")
    unbroken = drawn([bare.with_caption("w" * 1000)], tmp_path / "unbroken.png")
    scored = drawn([bare.with_scores(clip=0.31)], tmp_path / "scored.png")
    empty = drawn([bare], tmp_path / "empty.png")
    assert words.height == unbroken.height == empty.height + 3 * 15
    assert scored.height == empty.height + 15
    for sheet in (words, unbroken):
        beneath, margin = np.asarray(sheet)[16 + 161 :, 16:176], np.asarray(sheet)[16 + 161 :, 177:]
        assert len(np.unique(beneath)) > 10
        assert len(np.unique(margin.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize(
    "caption",
    [
        "猫が二匹、青いマットの上に座っている。" * 5,
        "كلب أحمر",
        "🐕‍🦺 🇩🇪",
        "Übergröße\nfür zwei",
        "a\x00b\ud800c",
        " \t\n",
        "",
    ],
)
def test_any_caption_can_be_drawn(tmp_path: Path, caption: str) -> None:
    drawn([Sample("k", image=plain_image(RED), caption=caption)], tmp_path / "sheet.png")


@pytest.mark.parametrize("cell_px", [1, 5])
def test_any_cell_can_be_drawn(tmp_path: Path, cell_px: int) -> None:
    drawn(photo_samples(2), tmp_path / "sheet.png", cell_px=cell_px)


def test_missing_and_broken_images_leave_the_others_where_they_are(tmp_path: Path) -> None:
    samples = [Sample("none"), Sample("broken", image=Image(b"junk")), Sample("red", image=plain_image(RED))]
    sheet = drawn(samples, tmp_path / "sheet.png", cell_px=100)
    assert sheet.getpixel((2 * 116 + 66, 66)) == (255, 0, 0)
    assert sheet.width == 16 + 3 * 116


def test_no_samples_give_an_empty_sheet(tmp_path: Path) -> None:
    assert pixels_of(drawn([], tmp_path / "sheet.png"), (0, 0, 0)) == 0


def test_numbers_that_make_no_grid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        write_contact_sheet([], tmp_path / "sheet.png", columns=0)
