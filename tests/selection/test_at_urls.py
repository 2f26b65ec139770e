"""Runs that lie at a URL are selected from, asked and calibrated as those in a folder are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer

import mmsynth as mm
from mmsynth.calibration import score_run
from mmsynth.cli import run
from mmsynth.errors import RecipeError
from mmsynth.selection import Rows
from tests.engine.run_files import members
from tests.photos import photographs
from tests.selection.runs import kept

URL = "memory://bucket/run"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    scenes = mm.scenes(40, seed=3).render("scenes").caption("negatives").filter("clip", embeddings=True)
    scenes.filter("perceptual_hash").write(out, samples_per_shard=15)
    return out


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    system: Any = fsspec.filesystem("memory")
    for path in folder.iterdir():
        system.pipe(f"/bucket/run/{path.name}", path.read_bytes())
    yield URL
    system.rm("/bucket", recursive=True)


def test_a_selection_is_that_of_the_folder(folder: Path, url: str, tmp_path: Path) -> None:
    decision: dict[str, Any] = {"top": 0.6, "by": "clip", "near_duplicates": "hash", "seed": 4}
    mm.select(folder, **decision).write(tmp_path / "here", samples_per_shard=7)
    mm.select(url, **decision).write(tmp_path / "there", samples_per_shard=7)
    assert members(tmp_path / "here") == members(tmp_path / "there")
    arrays = [sorted(p.name for p in (tmp_path / name).glob("*.npy")) for name in ("here", "there")]
    assert arrays[0] == arrays[1]
    assert len(arrays[0]) == 8
    assert all((tmp_path / "here" / n).read_bytes() == (tmp_path / "there" / n).read_bytes() for n in arrays[0])
    assert json.loads((tmp_path / "there/selection.json").read_text())["runs"] == [url]


def test_in_a_folder_and_at_a_url_together_and_each_once(folder: Path, url: str, tmp_path: Path) -> None:
    report = mm.select(url, folder, dedup=True).write(tmp_path / "out")
    assert report.kept == len({row[0] for row in Rows([folder]).query("select sha256 from samples").fetchall()})
    with pytest.raises(RecipeError, match="the same run is given twice"):
        mm.select(url, url + "/")


def test_a_query_at_a_url(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", url, "select run, count(*) as n from samples group by run", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": url, "n": 40}
    assert run(["query", url, "select clipp from samples"]) == 2
    assert f"no column 'clipp' in {url}" in " ".join(capsys.readouterr().err.split())


def test_a_calibration_at_a_url_is_that_of_the_folder(folder: Path, url: str) -> None:
    here, there = score_run(str(folder), "clip", seed=1), score_run(url, "clip", seed=1)
    assert sorted(here.pairs) == sorted(there.pairs)
    assert sorted(here.mismatched) == sorted(there.mismatched)
    assert here.hard.keys() == there.hard.keys() != set()
    assert run(["calibrate", url, "--out", "memory://bucket/calibration"]) == 0
    system: Any = fsspec.filesystem("memory")
    assert system.size("/bucket/calibration/calibration.png") > system.size("/bucket/calibration/calibration.json") / 9


def test_what_is_written_there_later_is_seen(url: str, tmp_path: Path) -> None:
    """A run at a URL may go on while somebody looks at it."""
    system: Any = fsspec.filesystem("memory")
    late = {name: system.cat(f"/bucket/run/{name}") for name in ("00002.parquet", "00002_stats.json")}
    system.rm("/bucket/run/00002_stats.json")
    source: Any = mm.select(url).recipe.source
    assert source.count() == 30
    for name, data in late.items():
        system.pipe(f"/bucket/run/{name}", data)
    assert source.count() == 40
    mm.select(url).write(tmp_path / "out", workers=1)
    assert len(kept(tmp_path / "out")) == 40


def test_no_run_and_no_such_file_there_say_so(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "memory://bucket/nothing", "select 1"]) != 0
    assert "memory://bucket/nothing holds no mmsynth run" in " ".join(capsys.readouterr().err.split())
    system: Any = fsspec.filesystem("memory")
    system.rm("/bucket/run/00001.parquet")
    assert run(["query", url, "select count(*) from samples"]) != 0
    assert f"the rows of {url} cannot be read" in " ".join(capsys.readouterr().err.split())
    system.rm("/bucket/run/00001_stats.json")
    system.rm("/bucket/run/00000.tar")
    report = mm.select(url).write(tmp_path / "out", max_failures=1.0)
    assert report.failed == {"broken_tar": 15}
    assert report.kept == 10


def test_on_s3_from_the_command_line_and_in_workers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    system: Any = fsspec.filesystem("s3")
    try:
        system.mkdir("s3://runs")
        system.put(str(folder), "s3://runs/run", recursive=True)
        decision = ["--top", "0.5", "--by", "clip", "--near-duplicates", "hash"]
        given = ["select", "s3://runs/run", "s3://runs/out", *decision, "--workers", "2", "--samples-per-shard", "12"]
        assert run(given) == 0
        system.invalidate_cache()
        system.get("s3://runs/out", str(tmp_path / "s3"), recursive=True)
        capsys.readouterr()
        assert run(["query", "s3://runs/out", "select count(*) as n from samples", "--format", "csv"]) == 0
        assert capsys.readouterr().out == "n\n20\n"
    finally:
        server.stop()
    mm.select(folder, top=0.5, by="clip", near_duplicates="hash").write(tmp_path / "local", samples_per_shard=12)
    assert members(tmp_path / "s3") == members(tmp_path / "local")


def test_a_photograph_is_bytes_as_it_was(tmp_path: Path) -> None:
    system: Any = fsspec.filesystem("memory")
    (tmp_path / "photos").mkdir()
    path = photographs(1)[0]
    (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    mm.read(tmp_path / "photos").write("memory://photos/run")
    mm.select("memory://photos/run").write(tmp_path / "out")
    ((_, parts),) = members(tmp_path / "out").items()
    assert path.read_bytes() in parts.values()
    system.rm("/photos", recursive=True)
