"""A run that version 0.1 wrote is looked at, asked, selected from, verified and gone on with as one of today."""

import json
from pathlib import Path

import pytest

import mmsynth as mm
from mmsynth.cli import run
from mmsynth.recipe import Recipe
from mmsynth.shards.folder import RunFolder
from mmsynth.shards.verify import damages
from tests.engine.run_files import digests, members, rows


def recipe_in(folder: Path) -> Path:
    """Its recipe, as the user has it, written to the same folder."""
    recipe = json.loads((folder / "run.json").read_text())["recipe"]
    path = folder.parent / "recipe.yaml"
    path.write_text(json.dumps(recipe | {"out": recipe["out"] | {"path": str(folder)}}))
    return path


def test_info_tells_what_it_holds(data_0_1: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(data_0_1)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for part in ("inputs │ 12", "kept │ 8", "dropped │ 4", "caption_too_long │ 4", "shards │ 3", "words quantiles"):
        assert part in said
    assert "candidates" not in said
    assert "unfinished" not in said


def test_it_is_asked_and_selected_from(data_0_1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", str(data_0_1), "select count(*) as n, min(words) as w from samples", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"n": 12, "w": 8.0}
    assert run(["select", str(data_0_1), str(tmp_path / "out"), "--top", "0.5", "--by", "words"]) == 0
    assert {row["score_words"] for row in rows(tmp_path / "out")} == set(
        sorted((row["score_words"] for row in rows(data_0_1) if row["status"] == "success"), reverse=True)[:4]
    )
    assert json.loads((tmp_path / "out/00000_stats.json").read_text())["arrays"] == ["phash"]
    assert run(["select", str(data_0_1), str(tmp_path / "near"), "--near-duplicates", "hash"]) == 0
    old = members(data_0_1)
    assert all(one["png"] == old[key]["png"] for key, one in members(tmp_path / "out").items())


def test_its_scores_and_arrays_come_along(data_0_1: Path, tmp_path: Path) -> None:
    mm.read(data_0_1).filter("boilerplate").write(tmp_path / "out", samples_per_shard=4)
    scores = [name for name in rows(data_0_1)[0] if name.startswith("score_")]
    old = {row["key"]: [row[name] for name in scores] for row in rows(data_0_1) if row["status"] == "success"}
    assert {row["key"]: [row[name] for name in scores] for row in rows(tmp_path / "out")} == old
    for name in ("00000_phash.npy", "00001_phash.npy", "00002_phash.npy"):
        assert digests(tmp_path / "out")[name] == digests(data_0_1)[name]


def test_it_is_verified(data_0_1: Path) -> None:
    assert list(damages(RunFolder(data_0_1))) == []
    data = (data_0_1 / "00001.tar").read_bytes()
    (data_0_1 / "00001.tar").write_bytes(data[:2000] + bytes([data[2000] ^ 1]) + data[2001:])
    assert [str(damage) for damage in damages(RunFolder(data_0_1))] == ["00001.tar has changed since it was written"]
    assert run(["verify", str(data_0_1), "--repair"]) == 0
    assert list(damages(RunFolder(data_0_1))) == []


def test_the_same_recipe_finds_it_done(data_0_1: Path) -> None:
    before = digests(data_0_1)
    assert Recipe.from_file(recipe_in(data_0_1)).fingerprint() == RunFolder(data_0_1).description()["fingerprint"]
    assert run(["run", str(recipe_in(data_0_1))]) == 0
    assert {name: one for name, one in digests(data_0_1).items() if name != "run.json"} == {
        name: one for name, one in before.items() if name != "run.json"
    }


def test_one_that_was_interrupted_goes_on(data_0_1: Path) -> None:
    before, pictures = digests(data_0_1), members(data_0_1)
    for path in [*data_0_1.glob("00002*"), data_0_1 / "index.json", data_0_1 / "sizes.json"]:
        path.unlink()
    (data_0_1 / ".00002.tar.0a1b2c3d.part").write_bytes(b"half")
    assert run(["run", str(recipe_in(data_0_1))]) == 0
    after = digests(data_0_1)
    assert after.keys() == before.keys()
    for name in after:
        if name.startswith(("00000", "00001")):
            assert after[name] == before[name], "what 0.1 committed stays as it is"
    assert list(damages(RunFolder(data_0_1))) == []
    for key, one in members(data_0_1).items():
        assert (one["png"], one["txt"]) == (pictures[key]["png"], pictures[key]["txt"])
    assert after["00002_phash.npy"] == before["00002_phash.npy"]
    report = mm.Recipe.from_file(recipe_in(data_0_1))
    assert report.run.limit is None
    assert RunFolder(data_0_1).is_finished
