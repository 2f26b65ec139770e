"""Numbers of different models are not compared: across runs, after a run on a run, and in what a selection mixed."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import mmsynth as mm
from mmsynth.calibration import score_run
from mmsynth.errors import RecipeError
from mmsynth.models.files import nano_files
from mmsynth.sample import Result
from mmsynth.selection import Rows

DIFFERENT = "different models gave it: .* in .*one; .* in .*two"


class Silent(mm.Captioner):
    """Takes the caption away."""

    def process(self, batch: Sequence[mm.Sample]) -> list[Result]:
        return [replace(sample, caption=None) for sample in batch]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another CLIP model."""
    folder = tmp_path_factory.mktemp("models") / "other"
    shutil.copytree(nano_files("clip").folder, folder)
    for path in folder.glob("*.safetensors"):
        save_file({name: weights * 1.1 for name, weights in load_file(path).items()}, path)
    return folder


@pytest.fixture(scope="module")
def runs(other: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    drawn = mm.scenes(6).render("scenes").caption("facts")
    drawn.filter("clip", embeddings=True).write(folder / "one")
    drawn.seeded(1).filter("clip", embeddings=True, model=str(other)).write(folder / "two")
    return folder / "one", folder / "two"


@pytest.mark.parametrize(
    "decision",
    [{"where": "clip > -1"}, {"top": 0.5, "by": "score_clip"}, {"near_duplicates": "embedding"}],
)
def test_a_decision_over_runs_of_two_models_is_refused(decision: dict[str, object], runs: tuple[Path, Path]) -> None:
    with pytest.raises(RecipeError, match=DIFFERENT):
        mm.select(*runs, **decision).recipe.source.check()


def test_what_compares_nothing_goes(runs: tuple[Path, Path], tmp_path: Path) -> None:
    own = "(run like '%one' and clip > -1) or (run like '%two' and clip > -0.9)"
    assert mm.select(*runs, where=own).write(tmp_path / "own").kept > 0
    assert mm.select(*runs, sample=8).write(tmp_path / "mixed").kept == 8
    with pytest.raises(RecipeError, match="different models gave it"):
        mm.select(tmp_path / "mixed", top=0.5, by="clip").recipe.source.check()
    with pytest.raises(RecipeError, match="different models gave it"):
        score_run(str(tmp_path / "mixed"), "clip")


def test_a_copy_of_a_model_is_the_same_model(runs: tuple[Path, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(nano_files("clip").folder, tmp_path / "copy")
    drawn = mm.scenes(6).render("scenes").caption("facts")
    drawn.seeded(2).filter("clip", model=str(copy)).write(tmp_path / "three")
    assert mm.select(runs[0], tmp_path / "three", top=0.5, by="clip").write(tmp_path / "out").kept == 6


def test_a_run_on_runs_carries_on_whose_scores_they_are(runs: tuple[Path, Path], tmp_path: Path) -> None:
    mm.read(runs[1]).filter("caption_length").write(tmp_path / "two")
    with pytest.raises(RecipeError, match=DIFFERENT):
        mm.select(runs[0], tmp_path / "two", top=0.5, by="clip").recipe.source.check()
    mm.concat(*runs).write(tmp_path / "both")
    with pytest.raises(RecipeError, match="different models gave it"):
        mm.select(tmp_path / "both", where="clip > 0").recipe.source.check()
    mm.read(tmp_path / "both").filter("clip").write(tmp_path / "again")
    assert mm.select(runs[0], tmp_path / "again", where="clip > -1").write(tmp_path / "out").kept == 18


def test_a_score_given_anew_leaves_none_of_the_old_model(runs: tuple[Path, Path], tmp_path: Path) -> None:
    mm.read(runs[1]).caption(Silent()).filter("clip").write(tmp_path / "again")
    assert Rows([tmp_path / "again"]).query("select count(clip) from samples").fetchone() == (0,)
