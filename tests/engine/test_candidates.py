"""repeat and best_of: candidates with seeds of their own, the best kept, the others in the parquet file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

import mmsynth as mm
from mmsynth.errors import RecipeError
from mmsynth.pipeline import Pipeline
from mmsynth.recipe import Recipe
from mmsynth.sample import Dropped, Result, Sample
from tests.engine.run_files import members, records, rows


class Lucky(mm.Filter):
    """A score drawn from each sample's own seed; `fail` and `drop` are for some of the candidates."""

    name: str = "luck"
    drop_below: float = -1.0

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [self._scored(sample) for sample in batch]

    def _scored(self, sample: Sample) -> Result:
        luck = self.rng_of(sample).random()
        scored = sample.with_scores(**{self.name: luck})
        return Dropped("unlucky", scored) if luck < self.drop_below else scored

    def score_names(self) -> tuple[str, ...]:
        return (self.name,)


def scenes(n: int = 12) -> Pipeline:
    return mm.scenes(n).render("scenes")


def test_the_best_candidate_of_each_input_is_kept(tmp_path: Path) -> None:
    report = scenes().repeat(4).filter(Lucky()).best_of("luck").write(tmp_path, samples_per_shard=5)
    assert (report.kept, report.dropped) == (12, {"not_best": 36})
    found = rows(tmp_path)
    assert len({row["key"] for row in found}) == 48
    best: dict[str, dict[str, object]] = {}
    for row in found:
        of = str(row["key"]).rsplit("_", 1)[0]
        if of not in best or row["score_luck"] > best[of]["score_luck"]:
            best[of] = row
    assert {row["key"] for row in best.values()} == {row["key"] for row in found if row["status"] == "success"}
    for key, record in records(tmp_path).items():
        assert key == f"{record['candidate']['of']}_{record['candidate']['number']}"


def test_candidates_draw_from_seeds_of_their_own(tmp_path: Path) -> None:
    mm.scenes(3).repeat(3).render("scenes").write(tmp_path)
    pictures = [member["jpg"] for member in members(tmp_path).values()]
    assert len(set(pictures)) == 9


def test_a_dropped_candidate_cannot_be_chosen_and_a_group_may_end_without_one(tmp_path: Path) -> None:
    report = scenes(40).repeat(2).filter(Lucky(drop_below=0.6)).best_of("luck").write(tmp_path)
    assert report.dropped["unlucky"] > 20
    assert report.kept + report.dropped["unlucky"] + report.dropped["not_best"] == 80
    alive = {str(row["key"])[:-2] for row in rows(tmp_path) if row["reason"] != "unlucky"}
    assert report.kept == len(alive) < 40


class Scores(mm.Filter):
    """Writes what it is given, number or not, for the first candidate; 0.5 for the others."""

    first: str | Annotated[float, Field(allow_inf_nan=True)] | None

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [
            s.with_record(scores={"odd": self.first if s.record["candidate"]["number"] == 0 else 0.5}) for s in batch
        ]

    def score_names(self) -> tuple[str, ...]:
        return ("odd",)


@pytest.mark.parametrize("first", [None, "high", float("nan")])
def test_a_score_that_is_no_number_loses_and_stops_nothing(first: str | float | None) -> None:
    results = scenes(3).repeat(2).filter(Scores(first=first)).best_of("odd").take(3)
    assert [isinstance(result, Dropped) for result in results] == [True, False] * 3


def test_candidates_of_candidates(tmp_path: Path) -> None:
    twice = scenes(5).repeat(2).filter(Lucky(name="first")).repeat(3).filter(Lucky(name="second"))
    report = twice.best_of("second").best_of("first").write(tmp_path)
    assert (report.kept, report.dropped) == (5, {"not_best": 25})


def test_workers_and_batches_choose_the_same(tmp_path: Path) -> None:
    pipeline = scenes().repeat(3).filter(Lucky(batch_size=7)).best_of("luck")
    pipeline.write(tmp_path / "one", samples_per_shard=4)
    pipeline.write(tmp_path / "two", samples_per_shard=4, workers=2)
    assert members(tmp_path / "one") == members(tmp_path / "two")


def test_the_recipe_says_it_in_one_word_each(tmp_path: Path) -> None:
    recipe = {
        "source": {"kind": "scenes", "n": 6},
        "stages": [{"repeat": 2}, {"render": "scenes"}, {"caption": "facts"}, {"filter": "clip"}, {"best_of": "clip"}],
    }
    built = Recipe.from_dict(recipe)
    assert Recipe.from_dict(built.to_dict()) == built
    assert built.to_dict()["stages"][0] == {"repeat": 2}
    assert built.to_dict()["stages"][-1] == {"best_of": "clip"}
    report = Pipeline(built).write(tmp_path)
    assert (report.kept, report.dropped) == (6, {"not_best": 6})


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"filter": "clip"}, {"best_of": "clip"}], "put a repeat before it"),
        ([{"repeat": 2}, {"best_of": "clip"}], "no stage between repeat and best_of writes 'clip'"),
        ([{"filter": "clip"}, {"repeat": 2}, {"best_of": "clip"}], "no stage between repeat and best_of"),
        ([{"repeat": 1}], "times must be at least 2, got 1"),
        ([{"repeat": 2, "seed": 3}], "no field 'seed'"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(stages: list[object], said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        Pipeline(Recipe.from_dict({"source": {"kind": "scenes", "n": 2}, "stages": stages})).write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_taking_a_look_gives_every_candidate() -> None:
    assert [result.key for result in scenes(2).repeat(2).take(2) if isinstance(result, Sample)] == [
        "000000000_0",
        "000000000_1",
        "000000001_0",
        "000000001_1",
    ]
