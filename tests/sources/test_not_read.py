"""What lies in a source's folder and is no input is counted by kind; runs of mmsynth are never inputs."""

from pathlib import Path

import fsspec
import pytest

import mmsynth as mm
from mmsynth.report import report_on
from mmsynth.shards.folder import RunFolder
from mmsynth.sources.folder import Folder
from tests.engine.run_files import shard_digests
from tests.sources.source_files import everything, pairs, picture, write_tar


def photos(folder: Path, n: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (folder / f"{i}.png").write_bytes(picture(i))
    return folder


def test_photos_beside_a_tar_are_told_in_the_report(tmp_path: Path) -> None:
    photos(tmp_path / "in")
    photos(tmp_path / "in" / "more")
    write_tar(tmp_path / "in" / "old.TAR", pairs("x"))
    report = mm.read(tmp_path / "in").write(tmp_path / "out")
    assert (report.inputs, report.not_read) == (1, {".png": 8})
    assert report_on(RunFolder(tmp_path / "out")).not_read == {".png": 8}


def test_what_lies_beside_shards_is_not_told(tmp_path: Path) -> None:
    mm.read(photos(tmp_path / "in")).write(tmp_path / "run")
    assert mm.read(tmp_path / "run").write(tmp_path / "out").not_read == {}


def test_other_tables_of_a_folder_are_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "pictures").mkdir()
    photos(tmp_path / "pictures")
    (tmp_path / "in" / "a.csv").write_text("image,caption\n../pictures/0.png,x\n")
    (tmp_path / "in" / "b.jsonl").write_text('{"image": "../pictures/1.png", "caption": "y"}\n')
    assert mm.read(tmp_path / "in").write(tmp_path / "out").not_read == {".csv": 1}


def test_the_output_inside_the_input_is_left_out_and_resumes(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in")
    out = folder / "out"
    pipeline = mm.read(folder).into(out, samples_per_shard=2)
    assert pipeline.run().inputs == 4
    before = shard_digests(out)
    for path in out.glob("00001*"):
        path.unlink()
    report = mm.read(folder).into(out, samples_per_shard=2).run()
    assert (report.inputs, report.already, report.not_read) == (4, 2, {"runs of mmsynth": 1})
    assert shard_digests(out) == before


def test_a_run_below_a_folder_at_a_url_is_left_out() -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/not-read/a.png", picture())
    system.pipe("/not-read/out/00000.tar", b"x")
    system.pipe("/not-read/out/run.json", b'{"recipe": {}, "fingerprint": "f"}')
    assert [one.key for one in everything(Folder(path="memory://not-read/"))] == ["a"]


@pytest.mark.parametrize("recursive", [True, False])
def test_sub_folders_that_are_not_read_are_told(tmp_path: Path, recursive: bool) -> None:
    photos(photos(tmp_path) / "sub", 2)
    assert Folder(path=str(tmp_path), recursive=recursive).not_read() == ({} if recursive else {".png": 2})
