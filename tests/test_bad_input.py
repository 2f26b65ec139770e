"""Everything that can be wrong with input, in one folder and one run: each gets its row, its neighbours are untouched."""

import io
import tarfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import mmsynth as mm
from mmsynth.testing import photo_samples
from tests.engine.run_files import members, records, rows


def encoded(picture: PIL.Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def photo(i: int = 0) -> bytes:
    image = photo_samples(i + 1)[i].image
    assert image is not None
    return image.data


GOOD: dict[str, bytes] = {
    "plain.png": photo(),
    "neighbour.png": photo(1),
    "wrong_extension.jpg": photo(2),
    "cmyk.jpg": encoded(PIL.Image.new("CMYK", (40, 30), (10, 200, 30, 0)), "JPEG"),
    "deep.png": encoded(PIL.Image.fromarray(np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16)), "PNG"),
    "palette.png": encoded(PIL.Image.new("P", (20, 20), 3), "PNG", transparency=3),
    "animated.gif": encoded(
        PIL.Image.new("P", (20, 20), 1), "GIF", save_all=True, append_images=[PIL.Image.new("P", (20, 20), 2)]
    ),
    "dot.bmp": encoded(PIL.Image.new("RGB", (1, 1), "red"), "BMP"),
    "photo.tiff": encoded(PIL.Image.new("RGB", (20, 20), "red"), "TIFF"),
    "photo.webp": encoded(PIL.Image.new("RGB", (20, 20), "red"), "WEBP"),
    "a.b.c.png": photo(3),
    "x..sneaky..png": photo(4),
    "sub/plain.png": photo(5),
}
BAD: dict[str, tuple[bytes, str]] = {
    "truncated.png": (photo()[:100], "image_truncated"),
    "truncated.jpg": (encoded(PIL.Image.effect_noise((64, 64), 80).convert("RGB"), "JPEG")[:900], "image_truncated"),
    "zero.jpg": (b"", "image_empty"),
    "words.jpg": (b"these are words, and no image", "image_unreadable"),
    "notes.pdf": (b"%PDF-1.4", "not_an_image_file"),
}
CAPTIONS = {
    "plain.txt": "ordinary words",
    "neighbour.txt": "",
    "cmyk.txt": "long " * 2000,
    "deep.txt": "кошка 猫 قطة बिल्ली 🐈",
    "palette.txt": "nul\0 in the middle",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    rotated = PIL.Image.new("RGB", (30, 10), "blue")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for name, data in GOOD.items():
        (root / name).write_bytes(data)
    for name, (data, _) in BAD.items():
        (root / name).write_bytes(data)
    (root / "rotated.jpg").write_bytes(encoded(rotated, "JPEG", exif=exif))
    (root / "bomb.png").write_bytes(encoded(PIL.Image.new("1", (20_000, 9_000)), "PNG"))
    for name, text in CAPTIONS.items():
        (root / name).write_bytes(text.encode())
    return root


def test_a_folder_with_everything_wrong_in_it(folder: Path, tmp_path: Path) -> None:
    report = mm.read(folder).write(tmp_path / "out", samples_per_shard=4)
    found = {row["source"]: row for row in rows(tmp_path / "out")}
    assert report.inputs == len(found) == len(GOOD) + len(BAD) + 2
    for name, (_, reason) in BAD.items():
        status = "dropped" if reason == "not_an_image_file" else "failed"
        assert (found[name]["status"], found[name]["reason"]) == (status, reason), name
    assert found["bomb.png"]["reason"] == "image_too_large"
    written = members(tmp_path / "out")
    for name, data in GOOD.items():
        assert found[name]["status"] == "success", (name, found[name])
        assert data in written[found[name]["key"]].values(), f"{name} must come back as it was"
    assert (found["rotated.jpg"]["width"], found["rotated.jpg"]["height"]) == (10, 30)
    assert "png" in written[found["wrong_extension.jpg"]["key"]], "named by what it is"


def test_captions_of_every_sort_survive(folder: Path, tmp_path: Path) -> None:
    mm.read(folder).write(tmp_path / "out")
    written = members(tmp_path / "out")
    assert written["plain"]["txt"] == b"ordinary words"
    assert "txt" not in written["neighbour"]
    assert written["cmyk"]["txt"].decode().split() == ["long"] * 2000
    assert written["deep"]["txt"].decode() == CAPTIONS["deep.txt"]
    assert b"\0" not in written["palette"]["txt"]
    repaired = {
        row["key"]: row["reason"] for row in rows(tmp_path / "out") if row["status"] == "success" and row["reason"]
    }
    assert "nul_removed" in repaired["palette"]


def test_keys_are_clean_and_distinct_and_say_what_they_were(folder: Path, tmp_path: Path) -> None:
    mm.read(folder).write(tmp_path / "out")
    keys = [row["key"] for row in rows(tmp_path / "out")]
    assert len(keys) == len(set(keys))
    assert all(key.replace("-", "").replace("_", "").isalnum() for key in keys)
    told = records(tmp_path / "out")
    dotted = next(row["key"] for row in rows(tmp_path / "out") if row["source"] == "a.b.c.png")
    assert "a.b.c" in str(told[dotted]["source"])


def make_tar(path: Path, samples: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in samples.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_a_broken_tar_in_the_middle_costs_only_what_is_behind_the_break(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for i in range(3):
        make_tar(
            shards / f"{i}.tar",
            {
                f"{i}{j}.{ext}": photo(j) if ext == "png" else b"words"
                for j in range(4)
                for ext in ("png", "txt", "cls")
            },
        )
    broken = (shards / "1.tar").read_bytes()
    (shards / "1.tar").write_bytes(broken[:7000])
    report = mm.read(shards).write(tmp_path / "out")
    found = rows(tmp_path / "out")
    kept = [row["key"] for row in found if row["status"] == "success"]
    assert [key for key in kept if key[0] != "1"] == ["00", "01", "02", "03", "20", "21", "22", "23"]
    assert 1 <= len([key for key in kept if key[0] == "1"]) < 4
    assert report.failed == {"broken_tar": 1}
    assert members(tmp_path / "out")["00"]["cls"] == b"words"


def test_a_stage_that_needs_an_image_fails_the_bad_ones_alone(folder: Path, tmp_path: Path) -> None:
    report = mm.read(folder).filter("image_size", min_side=2).write(tmp_path / "out")
    assert report.dropped == {"short_side_below_min": 1, "not_an_image_file": 1}
    assert report.inputs == len(GOOD) + len(BAD) + 2


def test_files_that_are_no_images_are_no_failures(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(photo(1))
    for i in range(120):
        (tmp_path / "in" / f"{i}.md").write_bytes(b"x")
    pipeline = mm.read(tmp_path / "in").into(tmp_path / "out", max_failures=0.0)
    report = pipeline.run()
    assert (report.kept, report.failed, report.dropped) == (1, {}, {"not_an_image_file": 120})
    assert len([one for one in pipeline if isinstance(one, mm.Dropped)]) == 120
