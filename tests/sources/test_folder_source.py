"""The folder source: every file has its row, every image its own caption, and bytes stay as they came."""

import json
import os
import random
from pathlib import Path

import PIL.Image
import pytest

from mmsynth.errors import SourceError
from mmsynth.sample import Sample
from mmsynth.sources.base import Unreadable
from mmsynth.sources.folder import Folder
from tests.sources.source_files import PHOTOGRAPHS, everything, picture, reasons, samples, source_of


def write(root: Path, **files: bytes | str) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def read(root: Path, samples_per_slice: int = 3) -> dict[str, Sample | Unreadable]:
    source = Folder(path=str(root))
    source.check()
    found = everything(source, samples_per_slice)
    assert source.count() == len(found)
    return {item.key: item for item in found}


def test_photographs_come_byte_for_byte_in_the_order_of_their_paths(tmp_path: Path) -> None:
    write(tmp_path, **{f"{i % 2}/{name}": data for i, (name, data) in enumerate(PHOTOGRAPHS.items())})
    found = samples(everything(Folder(path=str(tmp_path))))
    assert [source_of(sample)["path"] for sample in found] == sorted(
        f"{i % 2}/{name}" for i, name in enumerate(PHOTOGRAPHS)
    )
    for sample in found:
        assert sample.image is not None
        assert sample.image.data == PHOTOGRAPHS[Path(source_of(sample)["path"]).name]
        assert sample.image.pixels().mode == "RGB"
        assert str(tmp_path) not in json.dumps(sample.record)


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "JPG", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"])
def test_every_usual_format_is_read(tmp_path: Path, extension: str) -> None:
    format = {"jpg": "JPEG", "tif": "TIFF"}.get(extension.lower(), extension.upper())
    found = read(write(tmp_path, **{f"x.{extension}": picture(1, format)}))
    assert reasons(list(found.values())) == {}
    assert list(found) == ["x"]


def test_captions_come_from_txt_and_json_beside_the_image(tmp_path: Path) -> None:
    found = read(
        write(
            tmp_path,
            **{
                "a.jpg": picture(), "a.txt": " a red cat\n",
                "b.png": picture(), "b.json": '{"caption": "a dog", "url": "u", "nsfw": 0.1}',
                "c.png": picture(), "c.json": '{"alt": "from json"}', "c.txt": "from txt",
                "d.png": picture(), "d.txt": " \n ",
                "e.png": picture(),
            },
        )
    )  # fmt: skip
    captions = {key: item.caption for key, item in found.items() if isinstance(item, Sample)}
    assert captions == {"a": "a red cat", "b": "a dog", "c": "from txt", "d": None, "e": None}
    a, b = found["a"], found["b"]
    assert isinstance(a, Sample)
    assert isinstance(b, Sample)
    assert a.record["captions"] == [{"text": "a red cat", "origin": "original"}]
    assert source_of(b)["json"] == {"caption": "a dog", "url": "u", "nsfw": 0.1}


@pytest.mark.parametrize(
    ("raw", "caption", "repaired"),
    [
        (("word " * 2000).encode(), ("word " * 2000).strip(), None),
        ("猫がいる العربية हिन्दी 🐈".encode(), "猫がいる العربية हिन्दी 🐈", None),
        (b"a\0cat\0", "acat", ["nul_removed"]),
        (b"caf\xe9", "caf�", ["caption_not_utf8"]),
        (b"\xef\xbb\xbfwith a mark", "with a mark", None),
        ("in utf-16".encode("utf-16"), "in utf-16", None),
        (b"two\nlines\r\n", "two\nlines", None),
        (b"", None, None),
        (b"\0", None, ["nul_removed"]),
    ],
)
def test_captions_of_any_kind(tmp_path: Path, raw: bytes, caption: str | None, repaired: list[str] | None) -> None:
    sample = read(write(tmp_path, **{"x.png": picture(), "x.txt": raw}))["x"]
    assert isinstance(sample, Sample)
    assert sample.caption == caption
    assert source_of(sample).get("repaired") == repaired


@pytest.mark.parametrize("raw", [b"{not json", b"[1, 2]", b'"text"', b"\xff\xfe\xfd", b"[" * 100_000, b""])
def test_a_broken_json_is_kept_as_text(tmp_path: Path, raw: bytes) -> None:
    sample = read(write(tmp_path, **{"x.png": picture(), "x.json": raw}))["x"]
    assert isinstance(sample, Sample)
    assert source_of(sample)["json_text"] == raw.decode("utf-8", "replace")


def test_json_that_no_reader_takes_is_repaired(tmp_path: Path) -> None:
    sample = read(write(tmp_path, **{"x.png": picture(), "x.json": r'{"caption": "a \ud800 b", "score": NaN}'}))["x"]
    assert isinstance(sample, Sample)
    assert sample.caption == "a � b"
    assert source_of(sample)["json"]["score"] is None


def test_bad_images_are_rows_with_reasons_and_their_neighbours_are_untouched(tmp_path: Path) -> None:
    photo = PHOTOGRAPHS["china.jpg"]
    found = read(
        write(
            tmp_path,
            **{
                "a_good.jpg": photo, "b_empty.jpg": b"", "c_truncated.jpg": photo[:9000], "d_text.png": "hello",
                "e_png_called_jpg.jpg": picture(), "f_good.jpg": photo, "notes.pdf": b"%PDF", "lonely.txt": "no image",
                "lonely.json": "{}", "no_extension": b"x", ".hidden.jpg": b"", ".git/x.jpg": b"", "Thumbs.db": b"",
            },
        )
    )  # fmt: skip
    bad = reasons(list(found.values()))
    assert {key: reason for key, reason in bad.items() if "-" not in key} == {
        "b_empty": "image_empty",
        "c_truncated": "image_truncated",
        "d_text": "image_unreadable",
        "no_extension": "not_an_image_file",
    }
    others = sorted((i.source, i.reason) for i in found.values() if isinstance(i, Unreadable))
    assert others == [
        ("lonely.json", "caption_without_image"),
        ("lonely.txt", "caption_without_image"),
        ("no_extension", "not_an_image_file"),
        ("notes.pdf", "not_an_image_file"),
    ]
    for key in ("a_good", "f_good"):
        good = found[key]
        assert isinstance(good, Sample)
        assert good.image is not None
        assert good.image.data == photo
    assert len(found) == 10


def test_keys_are_safe_unique_and_say_what_they_were(tmp_path: Path) -> None:
    found = read(
        write(
            tmp_path,
            **{
                "a.jpg": picture(), "a.png": picture(), "a_b.png": picture(), "a/b.jpg": picture(),
                "v1.2.jpg": picture(), "猫.jpg": picture(), "with space.png": picture(),
                ("x" * 200) + ".png": picture(),
            },
        )
    )  # fmt: skip
    by_path = {source_of(item)["path"]: item for item in found.values() if isinstance(item, Sample)}
    assert by_path["a.jpg"].key == "a"
    assert by_path["a.png"].key.startswith("a-dup2-")
    assert source_of(by_path["a.png"])["repaired"] == ["duplicate_key"]
    assert source_of(by_path["a.png"])["original_key"] == "a"
    assert by_path["a/b.jpg"].key == "a_b"
    assert "repaired" not in source_of(by_path["a/b.jpg"])
    assert by_path["a_b.png"].key.startswith("a_b-dup2-")
    for path in ("v1.2.jpg", "猫.jpg", "with space.png"):
        assert source_of(by_path[path])["repaired"] == ["key_cleaned"]
        assert source_of(by_path[path])["original_key"] == path.rpartition(".")[0]
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for key in found)


def test_a_name_that_is_not_utf8_is_read_and_shown(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(picture(7))
    except OSError:
        return  # a file system that takes no such names has no such files
    found = samples(list(read(tmp_path).values()))
    assert [source_of(sample)["path"] for sample in found] == ["a.png", "caf�.png"]
    assert found[1].image is not None
    assert found[1].image.data == picture(7)


def test_the_same_slices_in_any_order_of_creation(tmp_path: Path) -> None:
    names = [f"{folder}/{i:02d}.png" for folder in "ab" for i in range(7)]
    for root in (tmp_path / "one", tmp_path / "two"):
        random.Random(str(root)).shuffle(names)
        write(root, **{name: picture() for name in names})
    one, two = (list(Folder(path=str(tmp_path / name)).slices(4)) for name in ("one", "two"))
    assert one == two
    assert [piece.size for piece in one] == [4, 4, 4, 2]


def test_links_that_go_round_do_not_hang_and_broken_ones_have_a_row(tmp_path: Path) -> None:
    write(tmp_path, **{"real/a.png": picture(), "real/deep/b.png": picture()})
    (tmp_path / "real" / "deep" / "round").symlink_to(tmp_path)
    (tmp_path / "also").symlink_to(tmp_path / "real")
    (tmp_path / "linked.png").symlink_to(tmp_path / "real" / "a.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    found = read(tmp_path)
    paths = [source_of(item)["path"] for item in found.values() if isinstance(item, Sample)]
    assert paths == ["linked.png", "real/a.png", "real/deep/b.png"]
    assert {i.source: i.reason for i in found.values() if isinstance(i, Unreadable)} == {
        "nowhere.png": "link_to_nothing",
        "pipe.png": "not_a_regular_file",
    }


def test_recursion_and_extensions_can_be_chosen(tmp_path: Path) -> None:
    write(tmp_path, **{"a.png": picture(), "b.jpg": picture(), "b.txt": "b", "sub/c.png": picture()})
    assert [item.key for item in everything(Folder(path=str(tmp_path), recursive=False))] == ["a", "b"]
    assert [item.key for item in everything(Folder(path=str(tmp_path), extensions=(".PNG",)))] == ["a", "sub_c"]


def test_a_folder_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        Folder(path=str(tmp_path / "gone")).check()
    with pytest.raises(SourceError, match="no images in"):
        Folder(path=str(tmp_path)).check()
    write(tmp_path, **{"sub/a.png": picture()})
    with pytest.raises(SourceError, match="directly in it"):
        Folder(path=str(tmp_path), recursive=False).check()
    with pytest.raises(SourceError, match="is a file"):
        Folder(path=str(tmp_path / "sub" / "a.png")).check()


def test_a_palette_image_and_an_animation_are_read(tmp_path: Path) -> None:
    frames = [PIL.Image.new("P", (4, 4), i) for i in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert reasons(list(read(tmp_path).values())) == {}


def test_further_pictures_lie_beside_their_image(tmp_path: Path) -> None:
    files = {
        "cat.jpg": picture(1, "JPEG"), "cat.txt": b"a cat", "cat.before.jpg": picture(2), "cat.mask.PNG": picture(3),
        "cat.2.jpg": picture(4), "cat.mine.jpg": picture(5), "cat.mine.txt": b"a caption of its own",
        "dog.before.png": picture(6), "my.cat.png": picture(7), "my.cat.before.png": picture(8),
        "sub/cat.png": picture(9), "sub/cat.after.png": picture(10), "cat.before.webp": picture(11, "WEBP"),
        "cat.png": picture(12),
    }  # fmt: skip
    found = samples(list(read(write(tmp_path, **files)).values()))
    by_path = {source_of(sample)["path"]: sample for sample in found}
    further = {path: {n: i.data for n, i in sample.images.items()} for path, sample in by_path.items() if sample.images}
    assert further == {
        "cat.jpg": {"before": picture(2), "mask": picture(3)},
        "sub/cat.png": {"after": picture(10)},
    }
    assert source_of(by_path["cat.jpg"])["pictures"] == {"before": "cat.before.jpg", "mask": "cat.mask.PNG"}
    alone = {"cat.2.jpg", "cat.mine.jpg", "dog.before.png", "my.cat.png", "my.cat.before.png", "cat.before.webp"}
    assert set(by_path) == {"cat.jpg", "cat.png", "sub/cat.png", *alone}


def test_blocks_of_folders_without_further_pictures_are_those_of_0_1(tmp_path: Path) -> None:
    """A run that version 0.1 began goes on: its blocks are known by their items."""
    write(tmp_path, **{"a.png": picture(), "a.txt": "a", "b.x.png": picture(), "c.md": "c", "v.mp4": "v"})
    not_one = "not one of bmp, gif, jfif, jpeg, jpg, png, tif, tiff, webp"
    source = Folder(path=str(tmp_path))
    assert [item for one in source.slices(9) for item in one.payload] == [
        {"path": "a.png", "key": "a", "txt": "a.txt"},
        {"path": "b.x.png", "key": "b_x-325f75b0"},
        {"path": "c.md", "key": "c_md-2aef814e", "reason": "not_an_image_file", "detail": not_one},
        {"path": "v.mp4", "key": "v_mp4-dfdf9a10", "reason": "not_an_image_file", "detail": not_one},
    ]
    refused = [item.detail for item in everything(source) if isinstance(item, Unreadable)]
    assert refused == [
        "not one of avif, bmp, gif, jfif, jpeg, jpg, png, tif, tiff, webp",
        "videos are read with frames: the number of frames of each",
    ]
