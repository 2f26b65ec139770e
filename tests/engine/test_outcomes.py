"""Scores and arrays are declared, or refused: what nobody declares would get no column and no file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import mmsynth as mm
from mmsynth.errors import PluginError
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.testing import photo_samples, run_stage


class Scores(mm.Filter):
    """Gives the score `seen`; declares it if told to."""

    declares: bool = False
    drops: bool = False

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        scored = [sample.with_scores(seen=1) for sample in batch]
        return [Dropped("seen_above_max", sample) if self.drops else sample for sample in scored]

    def score_names(self) -> tuple[str, ...]:
        return ("seen",) if self.declares else ()


class Arrays(mm.Filter):
    """Gives the array `vector`; declares it if told to."""

    declares: bool = False

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [sample.with_array("vector", np.zeros(3)) for sample in batch]

    def array_names(self) -> tuple[str, ...]:
        return ("vector",) if self.declares else ()


class Passes(mm.Filter):
    """Lets everything through, and rebuilds the scores that are there."""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [sample.with_scores() for sample in batch]


@pytest.mark.parametrize("stage", [Scores(), Scores(drops=True)])
def test_an_undeclared_score_is_a_plugin_error(stage: mm.Stage) -> None:
    with pytest.raises(PluginError, match=r"Scores gives the score 'seen', which score_names\(\) does not name"):
        run_stage(stage, photo_samples(2))


def test_an_undeclared_array_is_a_plugin_error() -> None:
    with pytest.raises(PluginError, match=r"Arrays gives the array 'vector', which array_names\(\) does not name"):
        run_stage(Arrays(), photo_samples(2))


def test_what_is_declared_passes_and_so_does_what_came_with_the_sample() -> None:
    samples = [sample.with_scores(old=2).with_array("hash", np.zeros(1)) for sample in photo_samples(2)]
    for stage in (Scores(declares=True), Arrays(declares=True), Passes()):
        for (result,) in run_stage(stage, samples):
            assert isinstance(result, Sample)
            assert result.record["scores"]["old"] == 2
            assert "hash" in result.arrays


def test_a_run_stops_at_an_undeclared_score(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="'seen'"):
        mm.scenes(3).render("scenes").filter(Scores()).write(tmp_path / "out")


def test_the_built_ins_declare_their_arrays(tmp_path: Path) -> None:
    pipeline = mm.scenes(4).render("scenes").filter("clip", embeddings=True).filter("perceptual_hash")
    pipeline.write(tmp_path / "out")
    assert np.load(tmp_path / "out/00000_image.npy").shape[0] == 4
    assert np.load(tmp_path / "out/00000_phash.npy").shape == (4,)
