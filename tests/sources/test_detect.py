"""A bare path says which source reads it."""

from pathlib import Path

import datasets
import pytest

from mmsynth.errors import SourceError
from mmsynth.registry import load
from mmsynth.sources.detect import detect
from tests.sources.source_files import pairs, picture, write_tar


def made(root: Path) -> Path:
    files = {
        "photos/sub/a.JPG": picture(), "photos/metadata.csv": b"file_name\n", "photos/a.txt": b"",
        "tables/a.parquet": b"", "tables/.DS_Store": b"", "empty/notes.md": b"", "hidden/.git/a.png": b"",
        "pairs.csv": b"", "pairs.parquet": b"", "pairs.tsv": b"", "prompts.txt": b"", "one.jpg": b"", "what.xyz": b"",
        "pairs.jsonl": b'{"image": "a.png", "prompt": "p"}\n', "prompts.jsonl": b'\n{"prompt": "a cat"}\n',
        "broken.jsonl": b"{", "none.jsonl": b"", "shards/run.json": b"{}", "shards/00000.parquet": b"",
    }  # fmt: skip
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    write_tar(root / "shards" / "00000.tar", pairs("a"))
    datasets.Dataset.from_dict({"a": [1]}).save_to_disk(root / "saved")
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"a": [1]})}).save_to_disk(root / "splits")
    return root


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("photos", "folder"),
        ("photos/", "folder"),
        ("shards", "webdataset"),
        ("shards/00000.tar", "webdataset"),
        ("shards/{00000..00009}.tar", "webdataset"),
        ("shards/*.tar", "webdataset"),
        ("tables", "table"),
        ("tables/*.parquet", "table"),
        ("pairs.csv", "table"),
        ("pairs.tsv", "table"),
        ("pairs.parquet", "table"),
        ("pairs.jsonl", "table"),
        ("broken.jsonl", "table"),
        ("none.jsonl", "table"),
        ("prompts.jsonl", "prompts"),
        ("prompts.txt", "prompts"),
        ("saved", "huggingface"),
        ("splits", "huggingface"),
    ],
)
def test_paths_tell_their_source(tmp_path: Path, path: str, kind: str) -> None:
    whole = f"{made(tmp_path)}/{path}"
    assert detect(whole) == (kind, {"path": whole})
    load("source", kind)(path=whole)


@pytest.mark.parametrize(
    "url", ["s3://bucket/{000..009}.tar", "https://host/a.tar?token=x", "gs://b/x.tgz", "s3://b/d/"]
)
def test_urls_of_tars_are_webdatasets(url: str) -> None:
    assert detect(url) == ("webdataset", {"path": url})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone", "no such file or folder"),
        ("empty", r"no images, tars or tables in .*: found 1 \.md"),
        ("hidden", "found nothing"),
        ("one.jpg", "is one image: give the folder"),
        ("what.xyz", "cannot tell what"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        detect(f"{made(tmp_path)}/{path}")


def test_names_that_are_not_here_are_told_apart() -> None:
    with pytest.raises(SourceError, match="kind: huggingface, path: owner/name"):
        detect("owner/name")
    with pytest.raises(SourceError, match=r"cannot tell what https://host/a\.jpg is"):
        detect("https://host/a.jpg?token=secret")
