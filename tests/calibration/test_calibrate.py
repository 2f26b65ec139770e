"""calibrate: what it predicts of a threshold is what planted mismatches show."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import mmsynth as mm
from mmsynth.calibration import Calibration, calibrated, score_run
from mmsynth.calibration.estimate import auc, noise_of
from mmsynth.calibration.negatives import Permuted
from mmsynth.cli import run
from mmsynth.errors import RecipeError
from mmsynth.sample import Result, Sample
from mmsynth.selection import Rows
from tests.engine.run_files import records

N = 1200


class SwappedPrompts(mm.Captioner):
    """Gives a share of the scenes the prompt of another scene, and notes it."""

    share: float

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        others = mm.registry.load("source", "scenes")(n=10 * N, seed=99)
        return [self._swapped(sample, others) for sample in batch]

    def _swapped(self, sample: Sample, others: mm.Source) -> Sample:
        rng = self.rng_of(sample)
        if rng.random() >= self.share:
            return sample.with_record(swapped=False)
        index = rng.randrange(10 * N)
        (other,) = others.read({"start": index, "stop": index + 1})
        assert isinstance(other, Sample)
        return sample.with_record(captions=[], swapped=True).with_caption(other.caption or "", model="swapped")


def scored_run(folder: Path, share: float, n: int = N) -> Path:
    pipeline = mm.scenes(n, seed=11).render("scenes").caption(SwappedPrompts(share=share))
    pipeline.filter("clip", model="nano").write(folder, samples_per_shard=200)
    return folder


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CLIP scores of scenes with their own prompts, with swapped ones, and what calibrate takes for mismatched."""
    folder = tmp_path_factory.mktemp("calibrate")
    own, swapped = (score_of(scored_run(folder / str(share), share)) for share in (0.0, 1.0))
    return own, swapped, score_run(str(folder / "0.0"), "clip").mismatched


def score_of(folder: Path) -> np.ndarray:
    return np.array([record["scores"]["clip"] for record in records(folder).values()])


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_the_precision_it_predicts_is_that_of_the_planted_truth(
    share: float, scores: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    own, swapped, mismatched = scores
    good = np.random.default_rng(7).permutation(N) >= share * N
    pairs = np.where(good, own, swapped)
    found = calibrated(pairs, mismatched)
    assert found.noise == pytest.approx(share, abs=0.03)
    for threshold in np.quantile(pairs, [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7]):
        planted = good[pairs >= threshold].mean()
        assert found.at(float(threshold))["precision"] == pytest.approx(planted, abs=0.03)
    chosen = found.threshold_for(0.97)
    assert chosen is not None
    assert good[pairs >= chosen].mean() >= 0.94


@pytest.mark.parametrize("n", [60, 200])
def test_of_few_pairs_the_intervals_hold_the_truth_and_say_that_it_is_not_known_closely(
    n: int, scores: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    own, swapped, mismatched = scores
    rng = np.random.default_rng(5)
    noise, precision = [], []
    for _ in range(12):
        good = rng.random(n) >= 0.2
        pairs = np.where(good, rng.choice(own, n), rng.choice(swapped, n))
        found = calibrated(pairs, rng.choice(mismatched, n), resamples=60)
        low, high = found.noise_interval
        noise.append((low <= 1 - good.mean() <= high, found.noise - 1 + good.mean()))
        chosen = found.threshold_for(0.95)
        assert chosen is not None
        low, high = found.at(chosen)["precision_interval"]
        precision.append((low <= good[pairs >= chosen].mean() <= high, high - low))
    assert np.mean([inside for inside, _ in noise]) >= 0.9
    assert np.mean([inside for inside, _ in precision]) >= 0.8
    assert abs(np.mean([too_much for _, too_much in noise])) < 0.03
    assert np.median([width for _, width in precision]) > 0.03


def test_pairs_of_which_none_is_seen_to_be_mismatched_may_have_a_few_and_the_threshold_is_among_them() -> None:
    rng = np.random.default_rng(1)
    found = calibrated(rng.uniform(0.6, 0.9, 300), rng.uniform(-0.2, 0.2, 300), resamples=100)
    assert found.noise == 0
    assert 1 / 300 <= found.noise_interval[1] <= 5 / 300
    threshold = found.threshold_for(0.95)
    assert threshold is not None
    assert 0.59 < threshold < 0.61
    assert found.at(threshold)["kept"] == 1


def normal(share: float, apart: float, n: int = 3000, seed: int = 0) -> tuple[Calibration, np.ndarray, np.ndarray]:
    """Matching pairs score about `apart`, mismatched ones about 0; a share of the pairs is mismatched."""
    rng = np.random.default_rng(seed)
    wrong = int(n * share)
    pairs = np.concatenate([rng.normal(apart, 1, n - wrong), rng.normal(0, 1, wrong)])
    good = np.arange(n) < n - wrong
    return calibrated(pairs, rng.normal(0, 1, n), resamples=100, seed=seed), pairs, good


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.4])
def test_intervals_hold_the_truth_of_overlapping_scores(share: float) -> None:
    inside = []
    for seed in range(5):
        found, pairs, good = normal(share, 3.0, seed=seed)
        for threshold in (1.0, 2.0, 3.0):
            low, high = found.at(threshold)["precision_interval"]
            inside.append(low - 0.01 <= good[pairs >= threshold].mean() <= high + 0.01)
    assert np.mean(inside) >= 0.8


@pytest.mark.parametrize(("share", "apart"), [(0.0, 1.0), (0.1, 1.0), (0.2, 1.5), (0.4, 2.0)])
def test_where_scores_overlap_the_noise_is_at_most_what_is_said_and_the_precision_at_least(
    share: float, apart: float
) -> None:
    found, pairs, good = normal(share, apart)
    assert found.noise >= share - 0.01
    for threshold in (0.0, 1.0, 2.0):
        assert found.at(threshold)["precision"] <= good[pairs >= threshold].mean() + 0.02


@pytest.mark.parametrize("values", [1, 3, 12])
def test_a_score_that_says_nothing_of_the_pair_gives_no_threshold(values: int) -> None:
    """The number of words, say: whole numbers, the same with any image."""
    rng = np.random.default_rng(3)
    pairs, mismatched = (rng.integers(0, values, 400).astype(float) for _ in range(2))
    found = calibrated(pairs, mismatched, resamples=20)
    assert found.noise > 0.8
    assert found.threshold_for(0.9) is None


def test_a_score_of_few_values_is_calibrated_all_the_same() -> None:
    """A model's yes or no, say: most mismatched pairs score the very least."""
    rng = np.random.default_rng(4)
    good = np.arange(4000) >= 800
    pairs = np.where(good, rng.choice([0.0, 0.5, 1.0], 4000, p=[0.01, 0.04, 0.95]), 0.0)
    pairs[~good] = rng.choice([0.0, 0.5, 1.0], 800, p=[0.7, 0.2, 0.1])
    found = calibrated(pairs, rng.choice([0.0, 0.5, 1.0], 4000, p=[0.7, 0.2, 0.1]), resamples=20)
    assert found.noise == pytest.approx(0.2, abs=0.03)
    assert found.at(1.0)["precision"] == pytest.approx(good[pairs >= 1].mean(), abs=0.03)


def test_the_threshold_for_a_precision_is_the_lowest_that_keeps_it() -> None:
    found, pairs, good = normal(0.3, 4.0)
    threshold = found.threshold_for(0.95)
    assert threshold is not None
    assert good[pairs >= threshold].mean() == pytest.approx(0.95, abs=0.03)
    assert found.at(threshold - 0.5)["precision"] < 0.95
    assert normal(0.9, 0.1)[0].threshold_for(0.999) is None


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == pytest.approx(0.875)
    assert noise_of(np.full(50, 5.0), np.zeros(50)) == 0


def test_every_image_and_every_caption_is_a_negative_once_and_none_is_its_own(tmp_path: Path) -> None:
    folder = scored_run(tmp_path / "run", 0.0, n=60)
    own = {key: record["captions"][0]["text"] for key, record in records(folder).items()}
    source = Permuted(runs=(str(folder),), seed=5)
    negatives = [sample for piece in source.slices(25) for sample in source.read(piece.payload)]
    assert all(isinstance(sample, Sample) for sample in negatives)
    given = {sample.key: sample.caption for sample in negatives if isinstance(sample, Sample)}
    assert given.keys() == own.keys()
    assert sorted(str(text) for text in given.values()) == sorted(own.values())
    assert not any(given[key] == own[key] for key in own)


@pytest.mark.parametrize("written", [True, False], ids=["in the records", "made from their facts"])
def test_almost_true_captions_are_judged_where_there_are_some_or_facts_to_make_them_of(
    written: bool, tmp_path: Path
) -> None:
    pipeline = mm.scenes(60, seed=2).render("scenes").caption("facts")
    pipeline = pipeline.caption("negatives") if written else pipeline
    pipeline.filter("clip", model="nano").write(tmp_path / "run")
    scored = score_run(str(tmp_path / "run"), "clip")
    assert {"colour", "count", "shape"} <= scored.hard.keys()
    found = calibrated(scored.pairs, scored.mismatched, scored.hard, resamples=10)
    assert all(0.7 < value <= found.auc for value in found.hard_auc.values())


def test_the_command_tells_writes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = scored_run(tmp_path / "run", 0.2, n=120)
    assert run(["calibrate", str(folder), "--precision", "0.9", "--out", str(tmp_path / "out")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "at most about" in told
    assert "of the pairs are mismatched themselves" in told
    assert re.search(r"for a precision of 0.9 \(0\.\d+ to \d\.\d+\): --where", told)
    written = json.loads((tmp_path / "out/calibration.json").read_text())
    assert written["chosen"]["precision"] >= 0.9
    kept = (
        Rows([folder]).query(f"select count(*) from samples where clip >= {written['chosen']['threshold']}").fetchone()
    )
    assert kept == (round(written["chosen"]["kept"] * 120),)
    with PIL.Image.open(tmp_path / "out/calibration.png") as chart:
        assert chart.width > 600


def test_the_filters_own_bounds_do_not_hide_what_mismatched_pairs_score(tmp_path: Path) -> None:
    pipeline = mm.scenes(60, seed=2).render("scenes").caption("facts")
    pipeline = (
        pipeline.filter("caption_length", min_words=12).filter("scene_truth", min=0.9).filter("image_size", min_side=9)
    )
    report = pipeline.write(tmp_path / "run")
    assert report.dropped.keys() == {"words_below_min"}
    scored = score_run(str(tmp_path / "run"), "truth")
    assert (scored.pairs == 1).all()
    assert len(scored.mismatched) == len(scored.pairs) == report.kept
    assert scored.mismatched.min() < 0.9
    words = score_run(str(tmp_path / "run"), "words")
    assert len(words.mismatched) == report.kept
    short = mm.scenes(60, seed=2).render("scenes").caption("facts", detail="short")
    swapped = short.filter("caption_length", max_words=5).write(tmp_path / "short")
    assert 10 < swapped.kept < 60
    assert score_run(str(tmp_path / "short"), "chars").mismatched.size == swapped.kept


def test_what_cannot_be_calibrated_says_why(tmp_path: Path) -> None:
    mm.scenes(8).render("scenes").write(tmp_path / "unscored")
    with pytest.raises(RecipeError, match="The filter 'clip' gives this score"):
        score_run(str(tmp_path / "unscored"), "clip")
    mm.scenes(8).render("scenes").filter("clip").write(tmp_path / "few")
    assert run(["calibrate", str(tmp_path / "few")]) == 2
    mm.select(tmp_path / "few").write(tmp_path / "chosen")
    assert len(score_run(str(tmp_path / "chosen"), "clip").pairs) == 8  # by the filter of the run it was chosen from
