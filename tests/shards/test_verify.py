"""mmsynth verify: a changed byte is found, and the shard made again is the one that was."""

import hashlib
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmsynth as mm
from mmsynth.cli import run
from mmsynth.engine.run import repair
from mmsynth.io.files import json_bytes, sealed
from mmsynth.recipe import RunOptions
from mmsynth.shards.folder import RunFolder
from mmsynth.shards.verify import damages
from mmsynth.testing import EchoCaptioner
from tests.engine.gradients import Gradients
from tests.engine.run_files import digests


@pytest.fixture
def out(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    mm.scenes(12, seed=1).render("scenes").filter("perceptual_hash").write(out, samples_per_shard=4)
    return out


def found(out: Path) -> list[str]:
    return [str(damage) for damage in damages(RunFolder(out))]


def flip_a_bit(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_what_is_as_it_was_written_passes(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(out) == []
    assert run(["verify", str(out)]) == 0
    assert "3 shards are intact" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["00001.tar", "00001.parquet", "00001_phash.npy"])
@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_any_harm_to_any_file_is_found_and_repaired(out: Path, name: str, harm: str) -> None:
    before = digests(out)
    if harm == "flipped":
        flip_a_bit(out / name, (out / name).stat().st_size // 2)
    elif harm == "cut":
        (out / name).write_bytes((out / name).read_bytes()[:-100])
    else:
        (out / name).unlink()
    assert found(out) == [f"{name} {'is not there' if harm == 'gone' else 'has changed since it was written'}"]
    assert run(["verify", str(out)]) == 6
    assert run(["verify", str(out), "--repair"]) == 0
    assert digests(out) == before


def test_a_shard_that_the_index_has_and_the_folder_has_not(out: Path) -> None:
    before = digests(out)
    (out / "00002_stats.json").unlink()
    assert found(out) == ["00002_stats.json is not there"]
    repair(out, RunOptions(workers=2))
    assert digests(out) == before


def test_an_unfinished_run_is_not_damaged_and_a_limit_is_kept(out: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    mm.scenes(12, seed=1).render("scenes").write(part, samples_per_shard=4, limit=6)
    flip_a_bit(part / "00000.tar", 1000)
    before = len(found(part))
    repair(part, RunOptions())
    assert (before, found(part)) == (1, [])
    assert json.loads((part / "sizes.json").read_text()) == {"00000.tar": 4, "00001.tar": 2}


def test_a_parquet_file_that_describes_another_tar(out: Path) -> None:
    """The digests match, as they would after someone rewrote a table and its sum."""
    table, stats_file = out / "00000.parquet", out / "00000_stats.json"
    rows = pq.read_table(table).to_pylist()
    rows[1]["sha256"] = rows[0]["sha256"]
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(table)), table)
    stats = json.loads(stats_file.read_text())
    stats["sha256"][table.name] = digests(out)[table.name]
    del stats["sum"]
    stats_file.write_bytes(json_bytes(sealed(stats)))
    assert found(out) == [f"00000.tar does not hold {rows[1]['key']} as 00000.parquet says"]


@pytest.mark.parametrize("name", ["00001_stats.json", "index.json", "sizes.json"])
def test_a_bit_in_the_stats_or_an_index_is_found_and_repaired(out: Path, name: str) -> None:
    before = digests(out)
    for at in (1, 5, 20):
        flip_a_bit(out / name, at)
        assert found(out) == [f"{name} has changed since it was written"]
        repair(out, RunOptions())
        assert digests(out) == before


def test_what_is_no_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(tmp_path)]) == 6
    assert "holds no mmsynth run" in capsys.readouterr().err


def with_true_sums(out: Path, shard: int) -> None:
    """As if the shard had been written like this: only its rows can tell that they are not its tar's."""
    path = out / f"{shard:05d}_stats.json"
    stats = json.loads(path.read_text())
    del stats["sum"]
    stats["sha256"] = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in stats["sha256"]}
    path.write_bytes(json_bytes(sealed(stats)))


def test_a_caption_in_the_tar_that_is_not_its_rows(tmp_path: Path) -> None:
    out = tmp_path / "out"
    mm.scenes(4, seed=1).render("scenes").caption(EchoCaptioner()).write(out)
    with tarfile.open(out / "00000.tar") as tar:
        at = next(member.offset_data for member in tar if member.name.endswith(".txt"))
    flip_a_bit(out / "00000.tar", at)
    with_true_sums(out, 0)
    assert len(wrong := found(out)) == 1
    assert wrong[0].endswith("as 00000.parquet says")


def test_rows_that_are_missing(out: Path) -> None:
    before = digests(out)
    table = pq.read_table(out / "00001.parquet")
    pq.write_table(table.slice(0, 2), out / "00001.parquet")
    with_true_sums(out, 1)
    assert found(out) == ["00001.parquet has other rows than 00001_stats.json counts"]
    assert run(["verify", str(out), "--repair"]) == 0
    assert digests(out) == before


def test_stats_that_are_gone_of_a_shard_of_which_nothing_was_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    mm.source(Gradients(n=9, broken=(3, 4, 5))).write(out, samples_per_shard=3)
    (out / "00001_stats.json").unlink()
    assert found(out) == ["00001_stats.json is not there"]
