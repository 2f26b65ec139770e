"""Further pictures: what is written is read as it was, whatever the members are called."""

import io
import tarfile
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import mmsynth as mm
from mmsynth.errors import PluginError
from mmsynth.image import Image
from mmsynth.pictures import as_members, pictures_among
from mmsynth.sample import Sample
from mmsynth.shards.folder import RunFolder
from mmsynth.shards.verify import damages
from mmsynth.testing import EchoCaptioner, plain_image
from tests.sources.source_files import write_tar


def encoded(seed: int, format: str = "PNG", size: int = 16) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (size, size), (seed * 40 % 256, 7, 200)).save(buffer, format)
    return buffer.getvalue()


BROKEN = b"no picture at all"
CUT = encoded(9)[:-30]

#: members that came → main picture, further ones, plain ones
FORMS: dict[str, dict[str, bytes]] = {
    "plain": {"jpg": encoded(1, "JPEG"), "cls": b"7"},
    "a mask beside": {"jpg": encoded(1, "JPEG"), "png": encoded(2)},
    "a WebP called jpg and a mask": {"jpg": encoded(1, "WEBP"), "png": encoded(2)},
    "a PNG called jpg and another PNG": {"jpg": encoded(1), "png": encoded(2)},
    "a GIF called PNG beside a gif": {"PNG": encoded(1, "GIF"), "GIF": encoded(2, "GIF"), "tiff": encoded(3, "TIFF")},
    "every extension, contents turned round": {
        extension: encoded(i, format)
        for i, (extension, format) in enumerate(
            [("jpg", "TIFF"), ("jpeg", "GIF"), ("png", "BMP"), ("webp", "PNG"), ("gif", "JPEG"), ("bmp", "AVIF")]
        )
    },
    "named ones": {"jpg": encoded(1, "JPEG"), "before.jpg": encoded(2, "JPEG"), "seg.png": encoded(3)},
    "one name twice": {"png": encoded(1), "before.jpg": encoded(2, "PNG"), "before.png": encoded(3)},
    "names in two cases": {"png": encoded(1), "Seg.jpg": encoded(2, "PNG"), "seg.png": encoded(3)},
    "a broken one before a whole one": {"png": encoded(1), "x.jpg": BROKEN, "x.png": encoded(2, "JPEG")},
    "dots and digits": {"png": encoded(1), "a.b.png": encoded(2), "1.png": encoded(3), "png.txt": b"t"},
    "no main picture": {"before.png": encoded(1), "cls": b"7"},
}


def read(members: dict[str, bytes]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    pictures, rest = pictures_among(members)
    return {name: image.data for name, image in pictures.items()}, rest


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_as_it_was(form: str, tmp_path: Path) -> None:
    """Through a tar, a run, a run on that run, and a selection of it; every shard passes verify."""
    pictures, rest = read(FORMS[form])
    assert sorted([*pictures.values(), *rest.values()]) == sorted(FORMS[form].values()), "nothing is lost"
    tar = write_tar(tmp_path / "in.tar", [(f"k.{name}", data) for name, data in FORMS[form].items()])
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    mm.read(tar).caption(EchoCaptioner()).write(first)
    mm.read(first).caption(EchoCaptioner()).write(second)
    mm.select(second).write(third)
    for out in (first, second, third):
        assert list(damages(RunFolder(out))) == []
        written = {name: data for name, data in members_of(out).items() if name not in {"txt", "json"}}
        assert read(written) == (pictures, rest)
        (sample,) = mm.read(out).take(1)
        assert isinstance(sample, Sample)
        assert {name: image.data for name, image in sample.images.items()} == {n: d for n, d in pictures.items() if n}
    assert members_of(second).keys() == members_of(first).keys()


def members_of(out: Path) -> dict[str, bytes]:
    with tarfile.open(out / "00000.tar") as tar:
        return {m.name.partition(".")[2]: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def test_extensions_are_those_of_the_content(tmp_path: Path) -> None:
    sample = Sample("k", Image(encoded(1, "WEBP")), images={"before": Image(encoded(2, "JPEG"))}, members={"cls": b"1"})
    assert sorted(as_members(sample)) == ["before.jpg", "cls", "webp"]


def test_a_further_picture_that_cannot_be_decoded_stays_as_bytes(tmp_path: Path) -> None:
    members = [("k.png", encoded(1)), ("k.seg.png", CUT), ("l.png", encoded(2)), ("l.seg.png", BROKEN)]
    out = tmp_path / "out"
    report = mm.read(write_tar(tmp_path / "in.tar", members)).caption(EchoCaptioner()).write(out)
    assert report.kept == 2
    with tarfile.open(out / "00000.tar") as tar:
        found = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    assert (found["k.seg.png"], found["l.seg.png"]) == (CUT, BROKEN)
    assert report.repaired == {"picture_unreadable": 1}
    assert b'"repaired":["picture_unreadable"]' in found["k.json"]


class Edits(mm.Renderer):
    """Keeps what it started from as `before`."""

    def process(self, batch: Any) -> list[Any]:
        edited = [sample.with_image(sample.image, "before") for sample in batch]
        return [sample.with_image(plain_image(self.seed_of(sample))) for sample in edited]


def test_an_edit_that_keeps_the_original(tmp_path: Path) -> None:
    original = encoded(1, "JPEG")
    tar = write_tar(tmp_path / "in.tar", [("k.jpg", original), ("k.png", encoded(2)), ("k.page2.png", encoded(3))])
    mm.read(tar).render(Edits()).write(tmp_path / "out", image_format="webp")
    assert members_of(tmp_path / "out")["before.jpg"] == original
    assert members_of(tmp_path / "out")["png"] == encoded(2)
    (sample,) = mm.read(tmp_path / "out").take(1)
    assert isinstance(sample, Sample)
    assert sample.image is not None
    assert sample.image.format == "WEBP"  # called jpg: as webp it would come after the png, which is no picture
    assert sorted(sample.images) == ["before", "page2"]
    assert sample.record["synthetic"] == {"image": True, "caption": False, "images": []}


class PutsAMemberInTheWay(mm.Captioner):
    """Calls a member as the main picture is called."""

    def process(self, batch: Any) -> list[Any]:
        return [Sample(s.key, s.image, s.caption, s.record, {"jpg": encoded(1)}) for s in batch]


def test_a_member_that_would_be_read_as_the_picture_is_refused(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "in.tar", [("k.png", encoded(1))])
    with pytest.raises(PluginError, match=r"'jpg' among the members of k.*with_image"):
        mm.read(tar).caption(PutsAMemberInTheWay()).write(tmp_path / "out")


def test_names_that_could_not_be_read_back_are_refused() -> None:
    sample = Sample("k").with_image(plain_image(1), "before")
    for name in ("2nd", "a.b", "a b", "Before"):
        with pytest.raises(ValueError, match="name"):
            sample.with_image(plain_image(2), name)
