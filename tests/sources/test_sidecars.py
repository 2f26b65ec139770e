"""Captions beside the images of a folder: found under the names that others give them."""

import json
from pathlib import Path

import pytest

from mmsynth.sources.base import Unreadable
from mmsynth.sources.folder import Folder
from tests.sources.source_files import everything, picture, samples, source_of


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.txt", "a dog"),
        ("x.caption", "a dog"),
        ("x.png.txt", "a dog"),
        ("x.PNG.caption", None),
        ("x.png.caption", "a dog"),
        ("x.json", '{"text": "a dog"}'),
        ("x.json", '{"caption": ["a dog", "two"]}'),
        ("x.png.json", '{"alt": "a dog"}'),
    ],
)
def test_a_caption_is_found_beside_its_image(tmp_path: Path, name: str, text: str | None) -> None:
    (tmp_path / "x.png").write_bytes(picture())
    (tmp_path / name).write_text(text or "of another image")
    found = everything(Folder(path=str(tmp_path)))
    assert [one.caption for one in samples(found)] == [None if text is None else "a dog"]
    reasons = [one.reason for one in found if isinstance(one, Unreadable)]
    assert reasons == ([] if text else ["caption_without_image"])


def test_all_captions_of_a_list_are_kept(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(picture())
    (tmp_path / "x.json").write_text('{"caption": ["one", "two"]}')
    (one,) = samples(everything(Folder(path=str(tmp_path))))
    assert [entry["text"] for entry in one.record["captions"]] == ["one", "two"]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_metadata_of_imagefolder_gives_captions(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "x.png").write_bytes(picture())
    rows = [{"file_name": "x.png", "text": "a dog", "n": 1}, {"file_name": "gone.png", "text": "?", "n": 2}]
    if kind == "jsonl":
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    one, gone = everything(Folder(path=str(tmp_path)))
    assert not isinstance(one, Unreadable)
    assert (one.key, one.caption, source_of(one)["row"]["text"]) == ("train_x", "a dog", "a dog")
    assert isinstance(gone, Unreadable)
    assert (gone.source, gone.reason) == ("train/gone.png", "image_missing")


def test_a_table_that_is_no_metadata_has_a_row_that_says_how_to_read_it(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(picture())
    (tmp_path / "metadata.csv").write_text("image,caption\nx.png,a dog\n")
    refused = next(one for one in everything(Folder(path=str(tmp_path))) if isinstance(one, Unreadable))
    assert (refused.reason, "give metadata.csv itself" in refused.detail) == ("not_an_image_file", True)
