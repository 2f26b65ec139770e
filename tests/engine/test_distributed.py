"""What a launched run promises: each rank does its share, nothing twice, and one that dies takes nothing with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmsynth as mm
from mmsynth.errors import OutputError, RecipeError
from mmsynth.io.storage import storage_at
from mmsynth.shards.lock import locked
from tests.engine.gradients import Gradients
from tests.engine.run_files import shard_digests
from tests.engine.stages import Dies, Slow

_RECIPE = """
source: {kind: "tests.engine.gradients:Gradients", n: 23}
stages:
  - caption: "tests.engine.stages:Slow"
    seconds: 0.0
out: {path: OUT, samples_per_shard: 3}
"""
_IMPORTS = ("--import", "tests.engine.gradients", "--import", "tests.engine.stages")


def made() -> mm.Pipeline:
    return mm.source(Gradients(n=23)).caption(Slow(seconds=0.0))


def as_rank(monkeypatch: pytest.MonkeyPatch, number: int, count: int) -> None:
    for name, value in {"RANK": number, "WORLD_SIZE": count, "LOCAL_RANK": number}.items():
        monkeypatch.setenv(name, str(value))


def test_ranks_one_after_another_write_what_one_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made().write(tmp_path / "undisturbed", samples_per_shard=3)
    for number in (2, 0, 1):
        assert not (tmp_path / "out" / "index.json").exists()
        as_rank(monkeypatch, number, 3)
        made().write(tmp_path / "out", samples_per_shard=3)
        stems = {int(path.stem) for path in (tmp_path / "out").glob("*.tar")}
        assert {i for i in range(8) if i % 3 == number} <= stems, "its share is there when it ends"
    assert shard_digests(tmp_path / "out") == shard_digests(tmp_path / "undisturbed")


def test_a_rank_that_died_is_made_up_for_by_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, 0, 2)
    made().write(tmp_path / "out", samples_per_shard=3)  # and rank 1 never came
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    as_rank(monkeypatch, 1, 2)
    made().write(tmp_path / "out", samples_per_shard=3)
    as_rank(monkeypatch, 0, 2)
    made().write(tmp_path / "out", samples_per_shard=3)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert {name: after[name] for name in before} == before, "nothing is done twice"
    monkeypatch.delenv("WORLD_SIZE")
    made().write(tmp_path / "undisturbed", samples_per_shard=3)
    assert shard_digests(tmp_path / "out") == shard_digests(tmp_path / "undisturbed")


def launched(recipe: Path, processes: int = 2) -> "subprocess.CompletedProcess[str]":
    """`accelerate launch -m mmsynth run recipe`, to its end."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_machines", "1"]
    launch += ["--num_processes", str(processes), "--mixed_precision", "no", "--dynamo_backend", "no"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launch, "-m", "mmsynth", "run", str(recipe), *_IMPORTS],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_accelerate_launch_writes_what_one_process_writes(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(_RECIPE.replace("OUT", str(tmp_path / "out")))
    done = launched(recipe)
    assert done.returncode == 0, done.stderr[-3000:]
    made().write(tmp_path / "undisturbed", samples_per_shard=3)
    assert shard_digests(tmp_path / "out") == shard_digests(tmp_path / "undisturbed")


def test_a_rank_that_is_killed_under_accelerate_loses_no_committed_block(tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    lives.mkdir()
    (lives / "0").touch()
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(
        f"source: {{kind: 'tests.engine.gradients:Gradients', n: 23}}\nstages:\n"
        f"  - caption: tests.engine.stages:Slow\n    seconds: 0.2\n  - caption: tests.engine.stages:Dies\n"
        f"    'on': photo-016\n    lives: {lives}\nout: {{path: {out}, samples_per_shard: 3}}\n"
    )
    assert launched(recipe).returncode != 0
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*_stats.json")}
    assert "00005_stats.json" not in before, "photo-016 is in the third block of rank 1"
    assert "00001_stats.json" in before, "it had time for one before"
    done = launched(recipe)
    assert done.returncode == 0, done.stderr[-3000:]
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*_stats.json")}
    assert {name: after[name] for name in before} == before, "no block is done twice"
    made().caption(Dies(on="photo-016", lives=str(lives))).write(tmp_path / "undisturbed", samples_per_shard=3)
    assert shard_digests(out) == shard_digests(tmp_path / "undisturbed")


def test_ranks_share_a_folder_and_keep_other_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = storage_at(tmp_path / "out")
    with locked(storage, rank=0), locked(storage, rank=1):
        with pytest.raises(OutputError, match=rf"process {os.getpid()} on "), locked(storage):
            pass
        with pytest.raises(OutputError, match="another mmsynth run"), locked(storage, rank=1):
            pass
    with locked(storage), pytest.raises(OutputError, match="another mmsynth run"), locked(storage, rank=0):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_what_killed_ranks_left_is_gone_when_the_last_rank_ends_or_a_run_without_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    left = (".lock", ".lock-rank1", ".lock-rank5", ".run.json.0badcafe.part", ".00001.tar.0badcafe.part")
    for ranks in ((0, 1), (None,)):
        out.mkdir(exist_ok=True)
        for name in left:
            (out / name).touch()
        for number in ranks:
            if number is None:
                monkeypatch.delenv("WORLD_SIZE")
            else:
                as_rank(monkeypatch, number, 2)
            made().write(out, samples_per_shard=3)
        assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_what_other_ranks_are_still_writing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with locked(storage_at(out), rank=1):
        (out / ".index.json.0badcafe.part").touch()
        as_rank(monkeypatch, 0, 2)
        made().write(out, samples_per_shard=3)
        left = {path.name for path in out.iterdir() if path.name.startswith(".")}
        assert left == {".lock", ".lock-rank1", ".index.json.0badcafe.part"}


def test_workers_and_ranks_do_not_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, 0, 2)
    with pytest.raises(RecipeError, match="2 ranks are launched already: workers must be 1, got 2"):
        made().write(tmp_path / "out", workers=2)
