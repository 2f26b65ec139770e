"""select: decided from the parquet files, explained, written whole and shuffled."""

import hashlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import mmsynth as mm
from mmsynth.cli import run
from mmsynth.errors import RecipeError, SourceError
from mmsynth.sample import Sample
from mmsynth.selection import Decision, Rows
from mmsynth.shards.folder import RunFolder
from mmsynth.testing import photo_samples
from tests.engine.run_files import members, records, rows
from tests.selection.runs import kept, scored, write_run


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        ({}, range(30)),
        ({"where": "clip >= 0.2"}, range(20, 30)),
        ({"where": "clip >= 0.1 and caption_words between 4 and 15"}, range(10, 15)),
        ({"where": "score_clip < 0.03 or key = 'k029'"}, [0, 1, 2, 29]),
        ({"top": 0.3, "by": "clip"}, range(21, 30)),
        ({"top": 1.0, "by": "clip"}, range(30)),
        ({"top": 0.1, "by": "-clip"}, range(3)),
        ({"where": "clip >= 0.1", "top": 0.5, "by": "clip"}, range(20, 30)),
        ({"per": "caption_words % 3", "at_most": 2, "by": "clip"}, range(24, 30)),
    ],
)
def test_a_decision_keeps_what_it_says(
    pairs: Path, tmp_path: Path, decision: dict[str, Any], expected: Sequence[int]
) -> None:
    mm.select(pairs, **decision).write(tmp_path / "out")
    assert kept(tmp_path / "out") == {f"k{i:03d}" for i in expected}


@pytest.mark.parametrize(
    ("decision", "options"),
    [
        ({"where": "clip >= 0.1 and caption_words between 4 and 15"}, ["--where", "clip >= 0.1 and caption_words between 4 and 15"]),
        ({"top": 0.3, "by": "clip"}, ["--top", "0.3", "--by", "clip"]),
        ({"per": "caption_words % 3", "at_most": 2, "by": "clip"}, ["--per", "caption_words % 3", "--at-most", "2", "--by", "clip"]),
        ({"dedup": True}, ["--dedup"]),
        ({"near_duplicates": {"caption": 0.9}}, ["--near-duplicates", "caption=0.9"]),
        ({"sample": 7, "seed": 3}, ["--sample", "7", "--seed", "3"]),
        ({"caption_mix": {"synthetic": 0.5, "original": 0.5}}, ["--caption-mix", "synthetic=0.5,original=0.5"]),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)  # fmt: skip
def test_a_recipe_python_and_the_command_line_decide_alike(
    tmp_path: Path, decision: dict[str, Any], options: list[str]
) -> None:
    given = [sample.with_caption("said by a model") if i % 2 else sample for i, sample in enumerate(scored(15))]
    there = str(write_run(tmp_path / "there", given))
    recipe = {
        "source": {"kind": "select", "runs": [there], **decision},
        "stages": [{"filter": "caption_length"}],
        "out": {"path": str(tmp_path / "recipe"), "samples_per_shard": 4},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert run(["run", str(tmp_path / "recipe.yaml")]) == 0
    mm.select(there, **decision).filter("caption_length").write(tmp_path / "python", samples_per_shard=4)
    assert members(tmp_path / "recipe") == members(tmp_path / "python")
    command = ["select", there, str(tmp_path / "command"), *options, "--samples-per-shard", "4"]
    assert run(command) == 0
    captions = [[(row["key"], row["caption"]) for row in rows(tmp_path / name)] for name in ("recipe", "command")]
    assert captions[0] == captions[1]
    assert (len(captions[0]) < 15) != ("caption_mix" in decision or "dedup" in decision)


def test_ties_are_settled_by_key_over_all_runs(tmp_path: Path) -> None:
    same = [sample.with_scores(clip=0.5) for sample in scored(10)]
    runs = [write_run(tmp_path / name, part) for name, part in (("a", same[5:]), ("b", same[:5]))]
    mm.select(*runs, top=0.4, by="clip").write(tmp_path / "out")
    assert kept(tmp_path / "out") == {"k000", "k001", "k002", "k003"}


def test_image_bytes_are_untouched_and_shards_are_even_and_shuffled(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mm.select(pairs, where="clip < 0.25", seed=3).write(out, samples_per_shard=10)
    before, after = members(pairs), members(out)
    for key, parts in after.items():
        assert {name: data for name, data in parts.items() if name != "json"}.items() <= before[key].items()
    sizes = json.loads((out / "sizes.json").read_text())
    assert sorted(sizes.values()) == [8, 8, 9]
    order = [row["key"] for row in rows(out)]
    assert order != sorted(order)
    mm.select(pairs, where="clip < 0.25", seed=4).write(tmp_path / "other", samples_per_shard=10)
    assert [row["key"] for row in rows(tmp_path / "other")] != order


def test_a_selection_stopped_and_gone_on_with_or_in_workers_is_the_same(pairs: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    chosen = mm.select(pairs, where="clip > 0.02", caption_mix={"original": 0.5, "synthetic": 0.5})
    chosen.write(whole, samples_per_shard=5)
    chosen.write(parts, samples_per_shard=5, limit=12)
    chosen.write(parts, samples_per_shard=5, workers=2)
    assert {p.name: p.read_bytes() for p in whole.glob("*.tar")} == {
        p.name: p.read_bytes() for p in parts.glob("*.tar")
    }


def test_the_decision_is_in_every_record_and_in_selection_json(pairs: Path, tmp_path: Path) -> None:
    mm.select(pairs, where="clip >= 0.1", top=0.5, by="clip").write(tmp_path / "out")
    for record in records(tmp_path / "out").values():
        assert record["steps"][-1] == {"stage": "select", "where": "clip >= 0.1", "top": 0.5, "by": "clip"}
        assert record["scores"]["clip"] >= 0.2
    told = json.loads((tmp_path / "out/selection.json").read_text())
    assert (told["candidates"], told["kept"], told["dropped"]) == (30, 10, {"where": 10, "below top": 10})
    assert told["quantiles"]["clip"]["before"]["0.5"] == pytest.approx(0.145)
    assert told["quantiles"]["clip"]["after"]["0.5"] == pytest.approx(0.245)


def test_scores_go_on_and_a_selection_can_be_selected_from(pairs: Path, tmp_path: Path) -> None:
    mm.select(pairs, where="clip >= 0.1").write(tmp_path / "one")
    mm.select(tmp_path / "one", top=0.2, by="clip").filter("caption_length").write(tmp_path / "two")
    assert kept(tmp_path / "two") == {f"k{i:03d}" for i in range(26, 30)}
    assert {"score_clip", "score_words"} <= rows(tmp_path / "two")[0].keys()


def test_of_images_with_the_same_bytes_the_best_stays(tmp_path: Path) -> None:
    samples = scored(6)
    copies = [
        Sample(f"copy{i}", s.image, s.caption).with_scores(clip=0.9 if i == 2 else 0.0)
        for i, s in enumerate(samples[:3])
    ]
    runs = write_run(tmp_path / "a", samples), write_run(tmp_path / "b", copies)
    mm.select(*runs, dedup=True, by="clip").write(tmp_path / "out")
    assert kept(tmp_path / "out") == {"copy0", "k001", "copy2", "k003", "k004", "k005"}
    digest = hashlib.sha256(samples[0].image.data if samples[0].image else b"").hexdigest()
    assert Rows([tmp_path / "a"]).query("select key from samples where sha256 = '" + digest + "'").fetchall() == [
        ("k000",)
    ]


def test_a_sample_is_of_that_size_and_another_seed_takes_others(pairs: Path) -> None:
    chosen = [
        {pick[2] for pick in Decision(sample=7, seed=seed).decide(Rows([pairs])).in_order()} for seed in (0, 0, 1)
    ]
    assert [len(keys) for keys in chosen] == [7, 7, 7]
    assert chosen[0] == chosen[1] != chosen[2]


def test_keys_that_two_runs_share_are_told_apart(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, scored(3)) for name in ("a", "b")]
    report = mm.select(*runs).write(tmp_path / "out")
    assert report.kept == 6
    assert len(kept(tmp_path / "out")) == 6


# -- the command line --------------------------------------------------------------------------------------------------


def test_the_commands_do_the_same(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["select", str(pairs), str(out), "--where", "clip >= 0.1", "--top", "0.5", "--by", "clip"]
    assert run([*command, "--dry-run"]) == 0
    assert "10" in capsys.readouterr().out
    assert not out.exists()
    assert run(command) == 0
    assert kept(out) == {f"k{i:03d}" for i in range(20, 30)}


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ({"where": "clipp > 0.2"}, "no column 'clipp' .* there are key, parent, status"),
        ({"where": "clip >"}, "is not an SQL expression"),
        ({"where": "true) union all select (1"}, "not an SQL expression|cannot be run"),
        ({"by": "clip; drop table samples", "top": 0.1}, "not an SQL expression|must be one"),
        (
            {"where": "aesthetic > 3"},
            r"no column 'aesthetic' .* gives a score of any name: .* --filter image_classifier --set name=aesthetic",
        ),
        (
            {"where": "words > 3"},
            r"The filter 'caption_length' gives this score: mmsynth filter .* --filter caption_length",
        ),
        (
            {"where": "clip > 0.28", "top": 0.0, "by": "clip"},
            "nothing is left of 30 samples: 'where' removed the most \\(29\\)",
        ),
        (
            {"where": "clip >= 0.1 and (caption_words > 99 and key <> 'k001')"},
            r"'where' removed the most \(30\), and of its clauses \(caption_words > 99\) \(30 by itself\)",
        ),
    ],
)
def test_what_cannot_be_decided_says_why(pairs: Path, tmp_path: Path, decision: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        mm.select(pairs, **decision).write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "decision",
    [
        {"top": 0.5},
        {"top": 1.5, "by": "clip"},
        {"per": "key"},
        {"at_most": 3},
        {"caption_mix": {"synthetic": 0.5}},
        {"caption_mix": {"made_up": 1.0}},
        {"sample": 0},
    ],
)
def test_parts_that_do_not_go_together_are_refused(pairs: Path, decision: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        mm.select(pairs, **decision)


def test_a_score_that_is_no_number_passes_no_bound_and_is_counted(tmp_path: Path) -> None:
    samples = scored(6)
    samples[0] = samples[0].with_scores(clip=math.nan)
    samples[1] = Sample("none", samples[1].image, "no score at all")
    pairs = write_run(tmp_path / "pairs", samples)
    for bound in ("clip >= 0", "clip < 9"):
        decided = Decision(where=bound).decide(Rows([pairs]))
        assert (decided.kept, decided.without_score) == (4, {"clip": 2})
    assert Decision(top=1.0, by="clip").decide(Rows([pairs])).dropped == {"without clip": 2}


def test_of_several_runs_the_one_without_the_score_is_named_with_the_command_that_gives_it(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_run(tmp_path / "plain", photo_samples(5))
    assert run(["select", str(pairs), str(plain), str(tmp_path / "out"), "--where", "clip >= 0.1"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"no sample of {plain} has the score clip." in told
    assert f"mmsynth filter {plain} OUT --filter clip" in told
    about = json.loads((tmp_path / "out/selection.json").read_text())
    assert (about["without_score"], about["unscored_runs"]) == ({"clip": 5}, {"clip": [str(plain)]})


def test_a_folder_without_a_run_or_without_shards_says_so(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="holds no mmsynth run"):
        Rows([tmp_path])
    RunFolder(tmp_path / "begun").start(mm.scenes(1).recipe, "cpu")
    with pytest.raises(SourceError, match="no finished shard yet"):
        Rows([tmp_path / "begun"])


def test_a_tar_that_is_gone_fails_its_samples_and_no_others(pairs: Path, tmp_path: Path) -> None:
    (pairs / "00001.tar").unlink()
    report = mm.select(pairs).write(tmp_path / "out")
    assert (report.kept, report.failed) == (20, {"broken_tar": 10})
    (pairs / "00002.tar").write_bytes(io.BytesIO(b"\0" * 4096).getvalue())
    report = mm.select(pairs, where="shard = 2").write(tmp_path / "other", max_failures=1.0)
    assert report.failed == {"broken_tar": 10}


@pytest.mark.parametrize("name", ["score_clip=9", "key=5", "clip=0.3", "w*", "a[b]"])
def test_a_folders_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "w1", scored(3))
    write_run(tmp_path / name, scored(6))
    found = Rows([tmp_path / name]).query("select count(*), max(clip), max(key) from samples").fetchall()
    assert found == [(6, 0.05, "k005")]


def test_a_home_is_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("~r"), scored(3))
    assert Rows(["~r"]).query("select count(*) from samples").fetchall() == [(3,)]


@pytest.mark.parametrize("where", ["true) or (true", "1 = 1 from samples --", "true; select 1"])
def test_a_clause_is_one_expression(tmp_path: Path, where: str) -> None:
    with pytest.raises(RecipeError, match="expression"):
        mm.select(write_run(tmp_path / "run", scored(3)), where=where).write(tmp_path / "out")


def test_an_expression_that_is_no_number_is_best_of_nothing(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'without clip / 0\.0 - clip / 0\.0' removed the most"):
        mm.select(pairs, by="clip / 0.0 - clip / 0.0", top=0.5).write(tmp_path / "out")


# -- names -------------------------------------------------------------------------------------------------------------


def with_score(samples: Sequence[Sample], **scores: float) -> list[Sample]:
    return [sample.with_scores(**scores) for sample in samples]


@pytest.mark.parametrize("name", ["width", "Width", "CAPTION", "caption_words", "Caption_Chars", "shard"])
def test_a_score_called_as_a_column_is_asked_for_by_its_prefix(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "run", with_score(scored(4), **{name: 0.5}), scores=("clip", name))
    rows_of = Rows([folder])
    assert rows_of.columns.count(name) <= 1
    query = f'select min(width), min("score_{name}"), max(caption_words), max(shard), max(caption) from samples'
    assert rows_of.query(query).fetchall() == [(scored(1)[0].image.width, 0.5, 4, 0, "word word word word")]  # type: ignore[union-attr]
    assert Decision(where=f'"score_{name}" = 0.5', by=f"score_{name}", top=1).decide(rows_of).kept == 4


def test_by_alone_is_refused_with_the_reason(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["select", str(pairs), str(tmp_path / "out"), "--by", "clip"]) == 2
    assert "by: clip alone decides nothing" in " ".join(capsys.readouterr().err.split())


def test_the_same_run_twice_is_refused(pairs: Path) -> None:
    with pytest.raises(RecipeError, match="the same run is given twice"):
        mm.select(pairs, pairs / ".." / pairs.name)


def test_selection_json_and_the_report_have_neither_nan_nor_infinity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [s.with_scores(clip=v) for s, v in zip(scored(4), [math.inf, -math.inf, 0.5, math.nan], strict=True)]
    folder = write_run(tmp_path / "run", samples)
    assert run(["select", str(folder), str(tmp_path / "out")]) == 0
    assert run(["info", str(folder)]) == 0
    told = capsys.readouterr().out.lower()
    assert "nan " not in told
    assert "0.500" in told

    def refuse(name: str) -> None:
        raise AssertionError(name)

    written = json.loads((tmp_path / "out/selection.json").read_text(), parse_constant=refuse)
    assert written["quantiles"]["clip"]["before"] == dict.fromkeys(["0.05", "0.25", "0.5", "0.75", "0.95"], 0.5)
    only = write_run(tmp_path / "only", [s.with_scores(clip=math.inf) for s in scored(2)])
    mm.select(only).write(tmp_path / "infinite")
    assert json.loads((tmp_path / "infinite/selection.json").read_text())["quantiles"] == {}
