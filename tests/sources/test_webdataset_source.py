"""The webdataset source: members survive, tars break without taking others along, keys are unique."""

import gzip
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
import webdataset

from mmsynth.errors import SourceError
from mmsynth.sample import Sample
from mmsynth.sources.base import Unreadable
from mmsynth.sources.webdataset import WebDataset
from tests.sources.source_files import (
    PHOTOGRAPHS,
    everything,
    pairs,
    picture,
    reasons,
    samples,
    source_of,
    write_tar,
)


def read(*paths: Path | str, samples_per_slice: int = 3) -> list[Sample | Unreadable]:
    source = WebDataset(path=tuple(str(path) for path in paths))
    source.check()
    return everything(source, samples_per_slice)


def test_photographs_and_every_other_member_survive(tmp_path: Path) -> None:
    members = [
        ("cat.jpg", PHOTOGRAPHS["rocket.jpg"]), ("cat.txt", b"a rocket\n"), ("cat.json", b'{"url": "u"}'),
        ("cat.seg.png", picture(3)), ("cat.cls", b"7"), ("cat.npy", bytes(range(256))),
        ("dog.png", PHOTOGRAPHS["chelsea.png"]), ("dog.caption", b"a cat"),
    ]  # fmt: skip
    cat, dog = samples(read(write_tar(tmp_path / "a.tar", members)))
    assert (cat.key, cat.caption, dog.key, dog.caption) == ("cat", "a rocket", "dog", "a cat")
    assert cat.image is not None
    assert dog.image is not None
    assert (cat.image.data, dog.image.data) == (PHOTOGRAPHS["rocket.jpg"], PHOTOGRAPHS["chelsea.png"])
    assert {name: image.data for name, image in cat.images.items()} == {"seg": picture(3)}
    assert dict(cat.members) == {"cls": b"7", "npy": bytes(range(256))}
    assert cat.record["url"] == "u"
    assert source_of(cat) == {"kind": "webdataset", "path": "a.tar", "member": "cat"}


def test_samples_are_those_that_webdataset_reads(tmp_path: Path) -> None:
    draw = random.Random(1)
    members = []
    for i in range(40):
        key = draw.choice(["", "deep/er/", "d.o.t/"]) + f"{i:03d}"
        extensions = draw.sample(["jpg", "TXT", "json", "cls", "a.b.c", "seg.png"], draw.randint(1, 5))
        members += [(f"{key}.{extension}", b"{}") for extension in extensions]
    members[5:5] = [("__meta__.json", b"{}"), ("folderless", b"")]
    tar = write_tar(tmp_path / "a.tar", members)
    theirs = list(webdataset.WebDataset(str(tar), shardshuffle=False))
    ours = [item for item in read(tar, samples_per_slice=7) if isinstance(item, Sample)]
    assert [source_of(sample)["member"] for sample in ours] == [sample["__key__"] for sample in theirs]
    for mine, sample in zip(ours, theirs, strict=True):
        assert {k.lower() for k in mine.members} == {
            k for k in sample if not k.startswith("__") and k not in {"jpg", "txt", "json"}
        }
    assert [i.reason for i in read(tar) if isinstance(i, Unreadable)] == ["member_without_key"]


def test_a_record_that_mmsynth_wrote_goes_on(tmp_path: Path) -> None:
    record = {
        "captions": [
            {"text": "a dog", "origin": "original"},
            {"text": "a red dog", "origin": "synthetic"},
        ],
        "qa": [{"question": "q", "answer": "a", "kind": "k"}],
        "scores": {"clip": 0.3},
        "facts": {"background": "white", "objects": []},
        "source": {"kind": "folder", "path": "dog.jpg"},
        "steps": [{"stage": "caption:vlm"}],
    }
    members = [("a.png", picture()), ("a.txt", b"a red dog"), ("a.json", json.dumps(record).encode())]
    (sample,) = samples(read(write_tar(tmp_path / "a.tar", members)))
    assert sample.caption == "a red dog"
    assert {name: sample.record[name] for name in record if name != "source"} == {
        name: value for name, value in record.items() if name != "source"
    }
    assert source_of(sample)["origin"] == record["source"]


def test_foreign_fields_with_our_names_are_kept_apart(tmp_path: Path) -> None:
    theirs: dict[str, Any] = {
        "captions": ["just", "texts"], "qa": "no", "scores": {"clip": "high"}, "facts": [1], "source": "flickr",
        "steps": 5, "synthetic": True, "width": 640, "caption": "in json",
    }  # fmt: skip
    (sample,) = samples(
        read(write_tar(tmp_path / "a.tar", [("a.png", picture()), ("a.json", json.dumps(theirs).encode())]))
    )
    kept = {"width": 640, "caption": "in json"}
    assert source_of(sample)["json_conflicts"] == {k: v for k, v in theirs.items() if k not in kept}
    assert {name: sample.record[name] for name in kept} == kept
    assert sample.caption == "in json"
    assert sample.record["captions"] == [{"text": "in json", "origin": "original"}]


@pytest.mark.parametrize("raw", [b"{broken", b"[1]", b"\xff\xfe", b"", b"null"])
def test_json_that_is_no_object_is_kept_as_text(tmp_path: Path, raw: bytes) -> None:
    (sample,) = samples(read(write_tar(tmp_path / "a.tar", [("a.png", picture()), ("a.json", raw)])))
    assert source_of(sample)["json_text"] == raw.decode("utf-8", "replace")


def test_samples_without_an_image_or_caption_are_samples(tmp_path: Path) -> None:
    found = samples(
        read(write_tar(tmp_path / "a.tar", [("a.txt", b"only text"), ("b.png", picture()), ("c.cls", b"1")]))
    )
    assert [(sample.key, sample.image is None, sample.caption) for sample in found] == [
        ("a", True, "only text"),
        ("b", False, None),
        ("c", True, None),
    ]


def test_of_several_images_one_is_the_image_and_the_others_stay(tmp_path: Path) -> None:
    members = [("a.png", picture(1)), ("a.JPG", picture(2, "JPEG")), ("a.gif", picture(3, "GIF"))]
    (sample,) = samples(read(write_tar(tmp_path / "a.tar", members)))
    assert sample.image is not None
    assert sample.image.data == picture(2, "JPEG")
    assert dict(sample.members) == {"png": picture(1), "gif": picture(3, "GIF")}


def test_slices_read_only_their_own_part(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", pairs(*(f"{i:04d}" for i in range(10))))
    source = WebDataset(path=str(tar))
    pieces = list(source.slices(4))
    assert [piece.size for piece in pieces] == [4, 4, 2]
    # break everything before and after the middle slice: it must not matter to it
    payload = pieces[1].payload
    data = bytearray(tar.read_bytes())
    data[: payload["start"]] = b"x" * payload["start"]
    data[payload["stop"] :] = b"x" * (len(data) - payload["stop"])
    tar.write_bytes(data)
    assert [item.key for item in source.read(payload)] == ["0004", "0005", "0006", "0007"]


def test_slices_never_span_tars(tmp_path: Path) -> None:
    for name in "abc":
        write_tar(tmp_path / f"{name}.tar", pairs(f"{name}1", f"{name}2"))
    assert [piece.size for piece in WebDataset(path=str(tmp_path)).slices(100)] == [2, 2, 2]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_any_tar_format(tmp_path: Path, format: int) -> None:
    name = "folder/" * 20 + "名前" if format != tarfile.USTAR_FORMAT else "folder/" * 20 + "name"
    found = samples(read(write_tar(tmp_path / "a.tar", pairs("a", name, "b"), format=format), samples_per_slice=1))
    assert [source_of(sample)["member"] for sample in found] == ["a", name, "b"]
    assert found[1].caption == name


def test_keys_with_dots_slashes_and_parent_folders_are_safe(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "/abs/olute", "a/b", "./plain", "..", "ключ", "sp ace"]
    found = read(write_tar(tmp_path / "a.tar", pairs(*names)))
    by_member = {source_of(sample)["member"]: sample for sample in samples(found)}
    for name in ("../../etc/passwd", "/abs/olute", "a/b", "ключ", "sp ace"):
        assert by_member[name].caption == name
        assert source_of(by_member[name])["original_key"] == name
        assert source_of(by_member[name])["repaired"] == ["key_cleaned"]
    assert by_member["./plain"].key == "plain"
    # a name that begins with a dot has no key for webdataset
    assert [item.reason for item in found if isinstance(item, Unreadable)] == ["member_without_key"] * 2


def test_duplicate_keys_in_one_tar_and_across_tars_are_told_apart(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", pairs("x", "y", "x", "x"))
    write_tar(tmp_path / "b.tar", pairs("y", "x", "z"))
    found = samples(read(tmp_path, samples_per_slice=2))
    assert [source_of(sample)["member"] for sample in found] == ["x", "y", "x", "x", "y", "x", "z"]
    assert [sample.key for sample in found[:2]] == ["x", "y"]
    for sample in found[2:6]:
        assert source_of(sample)["repaired"] == ["duplicate_key"]
        assert source_of(sample)["original_key"] == source_of(sample)["member"]


def test_a_repeated_member_begins_another_sample(tmp_path: Path) -> None:
    members = [("x.png", picture(1)), ("x.txt", b"one"), ("x.png", picture(2)), ("x.TXT", b"two")]
    found = samples(read(write_tar(tmp_path / "a.tar", members)))
    assert [sample.caption for sample in found] == ["one", "two"]


def broken_in_the_middle(tmp_path: Path, damage: bytes) -> list[Sample | Unreadable]:
    """Three tars of four samples; the second is damaged."""
    for name in "abc":
        write_tar(tmp_path / f"{name}.tar", pairs(*(f"{name}{i}" for i in range(4))))
    (tmp_path / "b.tar").write_bytes(damage)
    return read(tmp_path)


def middle_tar(tmp_path: Path) -> bytes:
    return write_tar(tmp_path / "whole", pairs(*(f"b{i}" for i in range(4)))).read_bytes()


@pytest.mark.parametrize("length", [0, 100, 512, 700, 1024, 2048, 4096, 5000, 7000])
def test_a_tar_cut_short_gives_what_is_before_the_break_and_a_row(tmp_path: Path, length: int) -> None:
    found = broken_in_the_middle(tmp_path, middle_tar(tmp_path)[:length])
    assert list(reasons(found).values()) == ["broken_tar"]
    whole = [sample.key for sample in samples(found)]
    assert whole[:4] == ["a0", "a1", "a2", "a3"]
    assert whole[-4:] == ["c0", "c1", "c2", "c3"]
    # a sample is 2048 bytes here: header, png, header, txt; it lives when its png is whole
    complete = [f"b{i}" for i in range(4) if i * 2048 + 512 + len(picture(i)) <= length]
    assert [key for key in whole if key.startswith("b")] == complete


@pytest.mark.parametrize("position", [512, 1024, 2048, 4096, 6144])
def test_garbage_in_a_tar_is_not_taken_for_its_end(tmp_path: Path, position: int) -> None:
    data = bytearray(middle_tar(tmp_path))
    data[position : position + 512] = b"\x07garbage" * 64
    found = broken_in_the_middle(tmp_path, bytes(data))
    keys = [sample.key for sample in samples(found)]
    assert keys[:4] == ["a0", "a1", "a2", "a3"]
    assert keys[-4:] == ["c0", "c1", "c2", "c3"]
    if position == 512:  # inside a picture: the tar is whole, the picture is not
        assert reasons(found) == {"b0": "image_unreadable"}
    else:
        assert list(reasons(found).values()) == ["broken_tar"]
        before = [sample for sample in samples(found) if sample.key.startswith("b")]
        assert len(before) == -(-position // 2048)
        assert source_of(before[-1])["repaired"] == ["tar_broken_after"]


def test_what_is_no_tar_at_all_is_a_row(tmp_path: Path) -> None:
    found = broken_in_the_middle(tmp_path, b"<html>404</html>" * 1000)
    assert list(reasons(found).values()) == ["broken_tar"]
    assert len(samples(found)) == 8


def test_a_sample_cut_inside_a_member_has_its_own_row(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", [*pairs("a"), ("b.jpg", PHOTOGRAPHS["china.jpg"])])
    tar.write_bytes(tar.read_bytes()[:9000])
    found = read(tar)
    assert [sample.key for sample in samples(found)] == ["a"]
    assert reasons(found) == {"b": "broken_tar"}


def test_random_damage_never_raises_and_never_hangs(tmp_path: Path) -> None:
    draw = random.Random(5)
    whole = middle_tar(tmp_path)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        (tmp_path / "x.tar").write_bytes(data)
        read(tmp_path / "x.tar", samples_per_slice=2)


def test_links_and_loose_members_have_rows(tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    with tarfile.open(tar, "w") as file:
        for name, data in [*pairs("a"), ("README", b"hello"), *pairs("b")]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("c.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a.png"
        file.addfile(link)
        folder = tarfile.TarInfo("folder.d")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
    found = read(tar, samples_per_slice=1)
    assert [sample.key for sample in samples(found)] == ["a", "b"]
    assert sorted(item.reason for item in found if isinstance(item, Unreadable)) == [
        "member_not_a_file",
        "member_without_key",
    ]


def test_an_empty_tar_has_no_samples(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [])
    assert read(tmp_path) == []


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "wrong_name.tar"])
def test_gzipped_tars_are_read(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / name, pairs("a", "b", "a"), format=tarfile.GNU_FORMAT)
    (tmp_path / name).write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    found = samples(read(tmp_path))
    assert [source_of(sample)["member"] for sample in found] == ["a", "b", "a"]
    assert source_of(found[2])["repaired"] == ["duplicate_key"]


def test_a_gzipped_tar_cut_short_gives_what_is_before_the_break(tmp_path: Path) -> None:
    members = [member for i in range(20) for member in [(f"{i}.png", random.Random(i).randbytes(5000))]]
    data = gzip.compress(write_tar(tmp_path / "whole", members).read_bytes())
    (tmp_path / "a.tar.gz").write_bytes(data[: len(data) // 2])
    found = read(tmp_path)
    assert 5 < len(samples(found)) < 15
    assert [item.reason for item in found if isinstance(item, Unreadable)] == ["broken_tar"]


def test_paths_may_be_patterns_lists_and_folders(tmp_path: Path) -> None:
    for name in ("00000", "00001", "00002", "00010"):
        write_tar(tmp_path / f"{name}.tar", pairs(name))
    (tmp_path / "00000.parquet").write_bytes(b"")
    (tmp_path / ".00003.tar.part").write_bytes(b"")

    def keys(*paths: Path | str) -> list[str]:
        return [item.key for item in read(*paths)]

    assert keys(tmp_path) == ["00000", "00001", "00002", "00010"]
    assert keys(tmp_path / "{00000..00002}.tar") == ["00000", "00001", "00002"]
    assert keys(tmp_path / "0000?.tar") == ["00000", "00001", "00002"]
    assert keys(tmp_path / "00010.tar", tmp_path / "00001.tar") == ["00010", "00001"]
    assert keys(f"file://{tmp_path}/00010.tar") == ["00010"]


def test_remote_tars_are_streamed_and_one_that_is_missing_has_a_row(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a", "c"):
        memory.pipe(
            f"/bucket/{name}.tar", write_tar(tmp_path / f"{name}.tar", pairs(f"{name}1", f"{name}2")).read_bytes()
        )
    try:
        found = read("memory://bucket/{a,b,c}.tar")
        assert [sample.key for sample in samples(found)] == ["a1", "a2", "c1", "c2"]
        assert [(i.reason, i.detail) for i in found if isinstance(i, Unreadable)] == [("broken_tar", "no such file")]
        assert source_of(samples(found)[0])["path"] == "memory://bucket/a.tar"
        assert [item.key for item in read("memory://bucket/*.tar")] == ["a1", "a2", "c1", "c2"]
        assert [item.key for item in read("memory://bucket/")] == ["a1", "a2", "c1", "c2"]
        with pytest.raises(SourceError, match="no such tar: memory://bucket/b"):
            WebDataset(path="memory://bucket/b.tar").check()
    finally:
        memory.rm("/bucket", recursive=True)


def test_what_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such tar"):
        WebDataset(path=str(tmp_path / "{0..3}.tar")).check()
    with pytest.raises(SourceError, match="no tars at"):
        WebDataset(path=str(tmp_path)).check()
    with pytest.raises(SourceError, match="no tars at"):
        WebDataset(path=str(tmp_path / "*.tar")).check()
    with pytest.raises(SourceError, match="braces"):
        WebDataset(path=str(tmp_path / "{0..3.tar")).check()
    with pytest.raises(SourceError, match="cannot read nonsense://x/a"):
        WebDataset(path="nonsense://x/a.tar").check()


def test_urls_are_written_down_without_passwords_and_signatures() -> None:
    from mmsynth.io.locations import shown

    assert shown("https://me:secret@host/a.tar?X-Signature=abc") == "https://host/a.tar"
    assert shown("s3://bucket/folder/a.tar") == "s3://bucket/folder/a.tar"
    assert shown("/home/me/data/a.tar") == "a.tar"


def test_the_count_comes_from_sizes_json(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", pairs("a", "b"))
    source = WebDataset(path=str(tmp_path))
    assert source.count() is None
    (tmp_path / "sizes.json").write_text('{"a.tar": 2}')
    assert source.count() == 2


@pytest.mark.parametrize("scheme", ["", "memory://keys-of-streams/"])
def test_keys_are_unique_where_tars_are_streamed(tmp_path: Path, scheme: str) -> None:
    paths = []
    for name in ("a.tar.gz", "b.tar.gz"):
        local = write_gzipped(tmp_path / name, pairs("000", "001"))
        if scheme:
            fsspec.filesystem("memory").pipe(f"/keys-of-streams/{name}", local.read_bytes())
        paths.append(f"{scheme}{name}" if scheme else str(local))
    keys = [sample.key for sample in samples(read(*paths))]
    assert len(set(keys)) == 4
    assert all(source_of(sample)["original_key"] in {"000", "001"} for sample in samples(read(*paths)))


def test_keys_that_begin_with_their_tars_name_stay(tmp_path: Path) -> None:
    paths = [write_gzipped(tmp_path / f"0000{i}.tar.gz", pairs(f"0000{i}0007")) for i in range(2)]
    assert [sample.key for sample in samples(read(*paths))] == ["000000007", "000010007"]


def scattered(tmp_path: Path) -> list[tuple[str, bytes]]:
    """Pictures first and texts last, something without a key between them, and a second sample of a key."""
    pictures, texts = pairs("a", "b", "c")[::2], pairs("a", "b", "c")[1::2]
    return [*pictures[:2], ("README", b"x"), pictures[2], *texts, ("b.png", picture(9))]


@pytest.mark.parametrize("samples_per_slice", [1, 2, 9])
def test_members_that_stand_apart_are_gathered(tmp_path: Path, samples_per_slice: int) -> None:
    found = read(write_tar(tmp_path / "a.tar", scattered(tmp_path)), samples_per_slice=samples_per_slice)
    assert [(one.key.partition("-")[0], one.caption) for one in samples(found)] == [
        ("a", "a"), ("b", "b"), ("c", "c"), ("b", None),
    ]  # fmt: skip
    assert [*reasons(found).values()] == ["member_without_key"]


def test_members_that_stand_apart_in_a_stream_are_told(tmp_path: Path) -> None:
    found = read(write_gzipped(tmp_path / "a.tar.gz", scattered(tmp_path)))
    assert [*reasons(found).values()] == ["member_without_key", *["members_not_adjacent"] * 3]
    assert "tar --sort=name" in next(
        one.detail for one in found if getattr(one, "reason", "") == "members_not_adjacent"
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_bytes_after_the_end_are_told(tmp_path: Path, compressed: bool) -> None:
    joined = b"".join(write_tar(tmp_path / f"{key}.tar", pairs(key)).read_bytes() for key in ("a", "b"))
    path = tmp_path / "joined.tar"
    path.write_bytes(gzip.compress(joined) if compressed else joined)
    found = read(path)
    assert [one.key for one in samples(found)] == ["a"]
    assert [*reasons(found).values()] == ["bytes_after_end"]


@pytest.mark.parametrize("names", [["photo.v1", "photo.v2"], ["photo.final"], ["1.5", "1.6"]])
def test_names_with_dots_that_lose_their_pictures_are_told(tmp_path: Path, names: list[str]) -> None:
    (one,) = read(write_tar(tmp_path / "a.tar", pairs(*names)))
    assert isinstance(one, Unreadable)
    assert (one.reason, names[0].partition(".")[0] in one.detail) == ("names_with_dots", True)


@pytest.mark.parametrize(
    ("fields", "captions"),
    [({"text": "a dog"}, ["a dog"]), ({"caption": ["one", "two"]}, ["one", "two"]), ({"alt": "b"}, ["b"])],
)
def test_captions_in_json_are_read_as_in_folders(tmp_path: Path, fields: dict[str, Any], captions: list[str]) -> None:
    (one,) = samples(
        read(write_tar(tmp_path / "a.tar", [("a.png", picture()), ("a.json", json.dumps(fields).encode())]))
    )
    assert (one.caption, [entry["text"] for entry in one.record["captions"]]) == (captions[0], captions)


def write_gzipped(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.write_bytes(gzip.compress(write_tar(path.with_suffix(".plain"), members).read_bytes()))
    path.with_suffix(".plain").unlink()
    return path
