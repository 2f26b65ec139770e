"""Captions mixed by their origin: whose turn it is, and what the caption that is chosen brings with it."""

import json
from pathlib import Path

import pytest

import mmsynth as mm
from mmsynth.cli import run
from mmsynth.sample import Sample
from mmsynth.testing import photo_samples
from tests.engine.run_files import records, rows
from tests.selection.runs import scored, write_run


def test_captions_are_mixed_by_each_samples_own_seed(tmp_path: Path) -> None:
    samples = [
        Sample(f"k{i:03d}", photo.image, f"alt {i}").with_caption(f"new {i}", model="m")
        for i, photo in enumerate(photo_samples(200))
    ]
    pairs = write_run(tmp_path / "pairs", samples, (), 100)
    mm.select(pairs, caption_mix={"synthetic": 0.8, "original": 0.2}).write(tmp_path / "out")
    found = {row["key"]: row["caption"] for row in rows(tmp_path / "out")}
    assert sum(text.startswith("new") for text in found.values()) == pytest.approx(160, abs=16)
    assert all(len(record["captions"]) == 2 for record in records(tmp_path / "out").values())
    mm.select(pairs, caption_mix={"synthetic": 0.8, "original": 0.2}, where="key < 'k050'").write(tmp_path / "fewer")
    assert all(found[row["key"]] == row["caption"] for row in rows(tmp_path / "fewer"))


def test_a_caption_that_takes_its_turn_brings_its_own_score(tmp_path: Path) -> None:
    mm.scenes(12).render("scenes").caption("facts").filter("clip").write(tmp_path / "pairs")
    mm.select(tmp_path / "pairs", caption_mix={"prompt": 1.0}).write(tmp_path / "out")
    shown = {row["key"]: row["score_clip"] for row in rows(tmp_path / "out")}
    for key, record in records(tmp_path / "out").items():
        [own] = [entry["scores"]["clip"] for entry in record["captions"] if entry["origin"] == "prompt"]
        assert shown[key] == record["scores"]["clip"] == own
    before = {row["key"]: row["score_clip"] for row in rows(tmp_path / "pairs")}
    assert before != shown


def test_captions_that_a_mix_could_not_give_are_counted_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [
        Sample(f"b{i}", s.image, s.caption).with_caption("written by a model") if i < 12 else s
        for i, s in enumerate(scored(30))
    ]
    folder = write_run(tmp_path / "both", both)
    command = ["select", str(folder), str(tmp_path / "out"), "--caption-mix", "synthetic=0.5,original=0.5"]
    assert run([*command, "--samples-per-shard", "7"]) == 0
    assert "no_synthetic_caption" in capsys.readouterr().out
    steps = [record["steps"][-1] for record in records(tmp_path / "out").values()]
    kept_as_it_was = sum(step["caption"] == "kept" for step in steps)
    counted = json.loads((tmp_path / "out/selection.json").read_text())["caption_kept"]
    assert 0 < sum(counted.values()) == kept_as_it_was < 30
    assert set(counted) <= {"no_synthetic_caption", "no_original_caption"}
