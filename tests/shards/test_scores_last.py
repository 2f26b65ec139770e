"""Scored once: the scores and arrays of a run stay columns and files in every run that is made from it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import mmsynth as mm
from mmsynth.cli import run
from mmsynth.errors import RecipeError, SourceError
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.selection import Rows
from mmsynth.testing import photo_samples
from tests.engine.run_files import digests, members, rows, shard_digests
from tests.selection.runs import write_run


class Measured(mm.Filter):
    """Scores and an array by the number in the key; every `drops`-th is dropped."""

    name: str = "first"
    width: int = 3
    times: float = 1.0
    drops: int = 0
    #: only those whose number is at least this have the array
    since: int = 0

    def score_names(self) -> tuple[str, ...]:
        return (self.name,)

    def array_names(self) -> tuple[str, ...]:
        return (f"{self.name}s",)

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [self._measured(sample) for sample in batch]

    def _measured(self, sample: Sample) -> Result:
        number = int(sample.key[1:4])
        if self.drops and number % self.drops == 0:
            return Dropped("by_number", sample)
        scored = sample.with_scores(**{self.name: number * self.times})
        values = np.full(self.width, number * self.times, np.float32)
        return scored.with_array(f"{self.name}s", values) if number >= self.since else scored


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """23 photographs in shards of five, measured; every fourth is dropped."""
    samples = [Sample(f"k{i:03d}", photo.image, f"number {i}") for i, photo in enumerate(photo_samples(23))]
    write_run(tmp_path / "source", samples, scores=())
    mm.read(tmp_path / "source").filter(Measured(drops=4)).write(tmp_path / "first", samples_per_shard=5)
    return tmp_path / "first"


def numbers(folder: Path, name: str) -> dict[str, list[float]]:
    """key → its row of the array, zeros where it has none."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        table = Rows([folder]).query(
            f"select key from samples where shard = {int(path.stem)} and status = 'success' order by tar_start"
        )
        whole = np.load(folder / f"{path.stem}_{name}.npy")
        keys = [key for (key,) in table.fetchall()]
        assert len(keys) == len(whole)
        found |= {key: row.tolist() for key, row in zip(keys, whole, strict=True)}
    return found


def as_numbered(folder: Path) -> dict[str, list[float]]:
    return {key: [float(key[1:4])] * 3 for key in members(folder)}


@pytest.mark.parametrize("samples_per_shard", [2, 5, 100])
def test_three_commands_keep_all_scores_and_arrays(first: Path, tmp_path: Path, samples_per_shard: int) -> None:
    second = mm.read(first).filter(Measured(name="second", width=1, drops=5))
    second.write(tmp_path / "second", samples_per_shard=samples_per_shard)
    third = mm.read(tmp_path / "second").filter("image_size", min_side=1)
    third.write(tmp_path / "third", samples_per_shard=samples_per_shard)
    for folder in (tmp_path / "second", tmp_path / "third"):
        assert {row["key"]: row["score_first"] for row in rows(folder)} == {
            row["key"]: float(row["key"][1:4]) for row in rows(folder)
        }
        assert numbers(folder, "firsts") == as_numbered(folder)
    dropped = [row for row in rows(tmp_path / "second") if row["status"] == "dropped"]
    assert {row["key"] for row in dropped} == {"k005", "k010", "k015"}
    assert all(row["score_first"] and row["score_second"] is None for row in dropped)
    assert {row["score_second"] for row in rows(tmp_path / "third")} == {
        float(k[1:4]) for k in members(tmp_path / "third")
    }
    assert numbers(tmp_path / "third", "seconds").keys() == members(tmp_path / "third").keys()
    stats = json.loads((tmp_path / "third/00000_stats.json").read_text())
    assert (stats["scores"][:2], stats["arrays"]) == (["first", "second"], ["firsts", "seconds"])
    assert {path.name for path in (tmp_path / "third").glob("*.npy")} <= stats_files(tmp_path / "third")
    assert run(["verify", str(tmp_path / "third")]) == 0


def stats_files(folder: Path) -> set[str]:
    """All files that the shards' stats have a digest of."""
    return {name for path in folder.glob("*_stats.json") for name in json.loads(path.read_text())["sha256"]}


def contents(folder: Path) -> dict[str, str]:
    """Name → digest of all files but the stats, which name the run."""
    return {name: one for name, one in shard_digests(folder).items() if not name.endswith("_stats.json")}


def test_the_way_there_does_not_matter(first: Path, tmp_path: Path) -> None:
    """One tar, a list, a pattern, gzipped or not: the same rows; selected in between, too."""
    tars = [str(path) for path in sorted(first.glob("*.tar"))]
    given: dict[str, mm.Pipeline] = {
        "pattern": mm.source("webdataset", path=f"{first}/{{00000..00004}}.tar"),
        "list": mm.source("webdataset", path=tuple(tars)),
        "select": mm.select(first),
        "workers": mm.read(first),
    }
    for name, pipeline in given.items():
        pipeline.write(tmp_path / name, samples_per_shard=4, workers=2 if name == "workers" else 1)
        assert numbers(tmp_path / name, "firsts") == as_numbered(first)
        assert {row["score_first"] for row in rows(tmp_path / name)} == {float(key[1:4]) for key in members(first)}
        assert json.loads((tmp_path / name / "00000_stats.json").read_text())["arrays"] == ["firsts"]
    assert contents(tmp_path / "pattern") == contents(tmp_path / "list") == contents(tmp_path / "workers")


@pytest.fixture
def url(first: Path) -> Iterator[str]:
    system: Any = fsspec.filesystem("memory")
    for path in first.iterdir():
        system.pipe(f"/kept/first/{path.name}", path.read_bytes())
    yield "memory://kept/first"
    system.rm("/kept", recursive=True)


def test_they_come_along_from_a_url(first: Path, url: str, tmp_path: Path) -> None:
    mm.read(f"{url}/").write(tmp_path / "there", samples_per_shard=5)
    assert numbers(tmp_path / "there", "firsts") == as_numbered(first)
    assert rows(tmp_path / "there")[0]["score_first"] == float(rows(tmp_path / "there")[0]["key"][1:4])
    # of the files beside the tars, only what is needed: without run.json and the indexes, too
    system: Any = fsspec.filesystem("memory")
    for name in ("run.json", "index.json", "sizes.json"):
        system.rm(f"/kept/first/{name}")
    mm.read(f"{url}/{{00000..00004}}.tar").write(tmp_path / "again", samples_per_shard=5)
    assert numbers(tmp_path / "again", "firsts") == as_numbered(first)
    assert [row["score_first"] for row in rows(tmp_path / "again")] == [
        row["score_first"] for row in rows(tmp_path / "there")
    ]


def test_a_stage_that_measures_anew_overwrites_them(first: Path, tmp_path: Path) -> None:
    mm.read(first).filter(Measured(times=10.0, width=2, since=2)).write(tmp_path / "anew", samples_per_shard=50)
    found = numbers(tmp_path / "anew", "firsts")
    # no row of the old array, of other width, stands in the file of the new one
    assert found == {key: [float(key[1:4]) * 10.0 if int(key[1:4]) >= 2 else 0.0] * 2 for key in members(first)}
    assert {row["score_first"] for row in rows(tmp_path / "anew")} == {float(key[1:4]) * 10 for key in members(first)}
    stats = json.loads((tmp_path / "anew/00000_stats.json").read_text())
    assert (stats["scores"], stats["arrays"]) == (["first"], ["firsts"])


def test_of_different_runs_only_arrays_of_one_kind_come_along(first: Path, tmp_path: Path) -> None:
    samples = [Sample(f"m{i:03d}", photo.image, "x") for i, photo in enumerate(photo_samples(6))]
    write_run(tmp_path / "more", samples, scores=())
    wider = mm.read(tmp_path / "more").filter(Measured(width=4)).filter(Measured(name="other"))
    wider.write(tmp_path / "wider", samples_per_shard=3)
    both = mm.source("webdataset", path=(str(first), str(tmp_path / "wider")))
    both.write(tmp_path / "both", samples_per_shard=100)
    stats = json.loads((tmp_path / "both/00000_stats.json").read_text())
    assert (stats["scores"], stats["arrays"]) == (["first", "other"], ["others"])
    by_key = {row["key"]: row for row in rows(tmp_path / "both")}
    assert (by_key["k001"]["score_first"], by_key["k001"]["score_other"]) == (1.0, None)
    assert (by_key["m002"]["score_first"], by_key["m002"]["score_other"]) == (2.0, 2.0)
    assert not list((tmp_path / "both").glob("*_firsts.npy"))


def test_tars_of_nobodys_run_bring_nothing(tmp_path: Path, first: Path) -> None:
    """img2dataset's folders have files of the same names; so have ours, once the stats are gone or damaged."""
    (tmp_path / "foreign").mkdir()
    for path in first.glob("00000*"):
        (tmp_path / "foreign" / path.name).write_bytes(path.read_bytes())
    theirs = {"count": 5, "successes": 4, "status_dict": {"success": 4}}
    (tmp_path / "foreign/00000_stats.json").write_text(json.dumps(theirs))
    mm.read(tmp_path / "foreign").write(tmp_path / "out")
    assert "score_first" not in rows(tmp_path / "out")[0]
    assert not list((tmp_path / "out").glob("*.npy"))


def test_arrays_that_are_gone_or_broken_are_not_left_out_in_silence(first: Path, tmp_path: Path) -> None:
    (first / "00000_firsts.npy").write_bytes(b"\x93NUMPY\x01\x00 no more")
    with pytest.raises(SourceError, match=r"the arrays beside .*/first/00000\.tar cannot be read"):
        mm.read(first).write(tmp_path / "out")
    (first / "00000_firsts.npy").unlink()
    with pytest.raises(SourceError, match=r"the arrays beside .*/first/00000\.tar cannot be read"):
        mm.read(first).write(tmp_path / "out")


def test_a_tar_that_is_not_the_stats_own_gets_no_rows_of_others(first: Path, tmp_path: Path) -> None:
    """Somebody has put other samples into the tar: their places in it are not those of the parquet file."""
    import tarfile

    before = members(first)
    with tarfile.open(first / "00000.tar", "w") as tar:
        for key in ("k003", "k001"):
            for extension, data in sorted(before[key].items(), reverse=True):
                if extension != "json":
                    (first / "part").write_bytes(data)
                    tar.add(first / "part", f"{key}.{extension}")
    (first / "part").unlink()
    mm.source("webdataset", path=str(first / "00000.tar")).write(tmp_path / "out")
    assert not list((tmp_path / "out").glob("*_firsts.npy"))


def test_what_the_first_run_scored_can_be_selected_by_after_the_third(tmp_path: Path) -> None:
    """The two chains of commands that users lost their scores in."""
    (tmp_path / "in").mkdir()
    for sample in photo_samples(6):
        assert sample.image is not None
        (tmp_path / "in" / f"{sample.key}.png").write_bytes(sample.image.data)
        (tmp_path / "in" / f"{sample.key}.txt").write_text("a red square on white")
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert run(["filter", str(tmp_path / "in"), a, "--filter", "perceptual_hash"]) == 0
    assert run(["filter", a, b, "--filter", "clip", "--set", "embeddings=true"]) == 0
    assert run(["filter", b, c, "--filter", "image_size"]) == 0
    assert run(["select", c, str(tmp_path / "d"), "--where", "clip > -1", "--near-duplicates", "hash"]) == 0
    assert run(["select", c, str(tmp_path / "e"), "--near-duplicates", "embedding"]) == 0
    assert [row["score_clip"] for row in rows(tmp_path / "c")] == [row["score_clip"] for row in rows(tmp_path / "b")]
    for name in ("00000_phash.npy", "00000_image.npy"):
        assert digests(tmp_path / "c")[name] == digests(tmp_path / "b")[name]
    with pytest.raises(RecipeError, match="no column 'clip'"):
        Rows([a]).query("select clip from samples")
