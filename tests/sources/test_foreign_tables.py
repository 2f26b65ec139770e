"""Tables as others publish them: read as they are, or refused with the line that makes them readable."""

import base64
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mmsynth.errors import SourceError
from mmsynth.sources.specs import as_source
from mmsynth.sources.table import Table
from tests.sources.source_files import everything, picture, samples, source_of


def captions(path: Path, **parameters: str) -> list[str | None]:
    source = Table(path=str(path), **parameters) if parameters else as_source(path, "test")
    source.check()
    return [one.caption for one in samples(everything(source))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("0.png", "1.png", "sub/w.png", "café.png"):
        (tmp_path / name).write_bytes(picture())
    return tmp_path


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
@pytest.mark.parametrize("kind", ["jsonl", "tsv"])
def test_images_in_base64_are_read(folder: Path, prefix: str, kind: str) -> None:
    cell = prefix + base64.b64encode(picture(5)).decode()
    path = folder / f"t.{kind}"
    path.write_text(json.dumps({"image": cell, "caption": "x"}) if kind == "jsonl" else f"image\tcaption\n{cell}\tx\n")
    (one,) = samples(everything(Table(path=str(path))))
    assert one.image is not None
    assert (one.image.data, "image" in source_of(one)) == (picture(5), False)


def test_paths_and_text_of_windows_are_read(folder: Path) -> None:
    path = folder / "t.csv"
    path.write_bytes("image,caption\nsub\\w.png,a caf\xe9 \x96 open\ncaf\xe9.png,b\n".encode("latin-1"))
    assert captions(path) == ["a café – open", "b"]


def test_long_cells_are_read(folder: Path) -> None:
    path = folder / "t.tsv"
    path.write_text("image\tcaption\n0.png\t" + "word " * 60_000 + "\n1.png\tb\n")
    assert [len(caption or "") for caption in captions(path)] == [299_999, 1]


def test_captions_of_flickr8k_are_a_table_and_prompts_stay_prompts(folder: Path) -> None:
    (folder / "captions.txt").write_text('image,caption\n0.png,"Two dogs, running ."\n')
    (folder / "prompts.txt").write_text("an image, a caption\na dog, 0.png\n")
    assert captions(folder / "captions.txt") == ["Two dogs, running ."]
    assert captions(folder / "prompts.txt") == ["an image, a caption", "a dog, 0.png"]


def test_results_of_flickr30k_are_read_as_the_message_says(folder: Path) -> None:
    (folder / "results.csv").write_text("image_name| comment_number| comment\n0.png| 0| Two dogs, running .\n")
    with pytest.raises(SourceError, match=r"--source-set image=image_name --source-set caption=comment"):
        captions(folder / "results.csv")
    assert captions(folder / "results.csv", image="image_name", caption="comment") == ["Two dogs, running ."]


@pytest.mark.parametrize("line", ["a dog\thttp://example.org/a.jpg\n", "0.png\ta dog\n"])
def test_a_table_without_a_header_is_told_how_to_get_one(folder: Path, line: str) -> None:
    path = folder / "t.tsv"
    path.write_text(line * 2)
    with pytest.raises(SourceError, match="is no header but data") as said:
        captions(path)
    subprocess.run(["bash", "-c", str(said.value).partition("above it: ")[2]], check=True)
    if "http" in line:
        with pytest.raises(SourceError, match="img2dataset"):
            captions(folder / "t-named.tsv")
    else:
        assert captions(folder / "t-named.tsv") == ["a dog"] * 2


@pytest.mark.parametrize(
    "value",
    [
        [{"image": "0.png", "caption": "a dog"}],
        {
            "info": {},
            "images": [{"id": 7, "file_name": "0.png"}],
            "annotations": [{"image_id": 7, "caption": "a dog"}],
        },
    ],
)
def test_json_arrays_and_coco_come_with_the_line_that_makes_a_table(folder: Path, value: object) -> None:
    path = folder / "t.json"
    path.write_text(json.dumps(value))
    with pytest.raises(SourceError, match="in each line") as said:
        as_source(path, "test")
    command = str(said.value).partition("Write ")[2].partition(", and give ")[0]
    assert shlex.split(command)[0] == "python"
    subprocess.run(["bash", "-c", command.replace("python", sys.executable, 1)], check=True)
    assert captions(folder / "t.jsonl") == ["a dog"]
