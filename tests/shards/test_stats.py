"""The stats of a shard: written and read back, of version 0.1 too, with img2dataset's names on disk."""

import json
from pathlib import Path

from mmsynth.blocks import ShardStats, stats_in
from mmsynth.io.files import json_bytes, sealed
from mmsynth.layout import (
    array_in,
    array_name,
    in_share,
    score_column,
    score_in,
    shard_if,
    shard_of,
    stats_name,
    table_name,
    tar_name,
)
from mmsynth.models.files import ModelInfo

STATS = ShardStats(
    count=7,
    inputs={"kept": 3, "dropped": 1, "failed": 0},
    kept=4,
    dropped={"too_small": 2},
    failed={"broken": 1},
    repaired={"nul_removed": 1},
    tar_bytes=10240,
    block="0123/all",
    models=(ModelInfo("nano", "1", "float32"),),
    scores=("clip",),
    arrays=("image", "phash"),
    sha256={"00003.tar": "aa", "00003_phash.npy": "bb"},
)


def test_what_is_written_is_read_back() -> None:
    assert stats_in(json_bytes(sealed(STATS.to_json()))) == STATS
    assert STATS.to_json()["status_dict"] == {"success": 4, "broken": 1, "too_small": 2}
    assert STATS.written_arrays() == ("phash",)


def test_what_is_not_as_it_was_written_is_none() -> None:
    text = json_bytes(sealed(STATS.to_json()))
    assert stats_in(text.replace(b'"count": 7', b'"count": 8')) is None
    assert stats_in(json_bytes(sealed({"count": 7}))) is None
    assert stats_in(json_bytes(sealed({**STATS.to_json(), "models": 5}))) is None
    assert stats_in(b"[]") is None
    assert stats_in(b"\xff") is None


def test_those_of_0_1_count_candidates_as_inputs_and_say_repaired_in_another_word(data_0_1: Path) -> None:
    stats = stats_in((data_0_1 / "00001_stats.json").read_bytes())
    assert stats is not None
    assert "inputs" not in json.loads((data_0_1 / "00001_stats.json").read_text())
    assert (stats.count, stats.kept, stats.inputs) == (4, 2, {"kept": 2, "dropped": 2, "failed": 0})
    assert stats.arrays == ("phash",)
    assert stats.scores == ("short_side", "aspect", "words", "chars")
    old = {**json.loads((data_0_1 / "00001_stats.json").read_text()), "mended": {"nul_removed": 1}}
    assert ShardStats.from_json(old).repaired == {"nul_removed": 1}


def test_names_say_what_they_are_of() -> None:
    assert (tar_name(3), table_name(3), stats_name(3)) == ("00003.tar", "00003.parquet", "00003_stats.json")
    assert (array_name(123456, "phash"), score_column("clip")) == ("123456_phash.npy", "score_clip")
    assert [shard_of(n) for n in ("00003.tar", "123456_x_y.npy", "run.json", "3.tar", ".lock")] == [
        3,
        123456,
        None,
        None,
        None,
    ]
    assert shard_if("00003.tar", tar_name) == 3
    assert shard_if("000003.tar", tar_name) is None
    assert shard_if("00003.tar.gz", tar_name) is None
    assert array_in("00003_image_b.npy") == (3, "image_b")
    assert array_in("00003_.npy") is array_in("00003_stats.json") is array_in("00003.npy") is None
    assert (score_in("score_clip"), score_in("caption")) == ("clip", None)
    assert [n for n in ("00001.tar", "00002.tar", "00003_stats.json", "run.json") if in_share(1, 2)(n)] == [
        "00001.tar",
        "00003_stats.json",
    ]
