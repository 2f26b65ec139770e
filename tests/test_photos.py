"""Real photographs through captioning and scoring, and back out: bytes unchanged, keys unchanged."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import mmsynth as mm
from tests.captioners import checkpoints
from tests.engine.run_files import members, records, rows
from tests.models.clip_folders import KINDS, save_clip
from tests.photos import photographs


@pytest.mark.parametrize("architecture", [checkpoints.idefics3, checkpoints.blip])
def test_photographs_come_back_as_they_were(architecture: Callable[[Path], Path], tmp_path: Path) -> None:
    photos = photographs()
    assert len(photos) >= 20
    (tmp_path / "photos").mkdir()
    for path in photos:
        shutil.copy(path, tmp_path / "photos")
    (tmp_path / "vlm").mkdir()
    (tmp_path / "clip").mkdir()
    vlm, clip = architecture(tmp_path / "vlm"), save_clip(tmp_path / "clip", KINDS["clip"])

    captioned = mm.read(tmp_path / "photos").caption("vlm", model=str(vlm), max_new_tokens=6)
    first = captioned.write(tmp_path / "captioned", samples_per_shard=8)
    second = mm.read(str(tmp_path / "captioned")).filter("clip", model=str(clip)).write(tmp_path / "filtered")

    lost = {row["key"]: row["reason"] for row in rows(tmp_path / "captioned") if row["status"] != "success"}
    assert set(lost.values()) <= {"empty_caption"}, lost
    assert second.inputs == second.kept == first.kept
    written = members(tmp_path / "filtered")
    kept = {path.stem: path for path in photos if path.stem in written}
    assert len(kept) == len(photos) - len(lost)
    for key, path in kept.items():
        (image,) = [data for name, data in written[key].items() if name not in {"txt", "json"}]
        assert image == path.read_bytes()
    for record in records(tmp_path / "filtered").values():
        assert "clip" in record["scores"]
        assert [step["stage"] for step in record["steps"]] == ["caption:vlm", "filter:clip"]
