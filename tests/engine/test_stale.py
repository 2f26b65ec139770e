"""Numbers that judged a caption or an image go when a later stage replaces it, in this run or in a later one."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

import mmsynth as mm
from mmsynth.image import Image
from mmsynth.sample import Result, Sample
from mmsynth.testing import EchoCaptioner


class Inverted(mm.Renderer):
    """Draws the negative of each image."""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [s.with_image(Image.from_pixels(255 - s.required_image().pixels())) for s in batch]


def scored() -> mm.Pipeline:
    drawn = mm.scenes(4).render("scenes").caption("facts")
    return drawn.filter("clip", embeddings=True).filter("image_size").filter("caption_length")


def kept(pipeline: mm.Pipeline) -> list[Sample]:
    return [one for one in pipeline if isinstance(one, Sample)]


def test_another_caption_loses_the_scores_of_the_old_one() -> None:
    for before, after in zip(kept(scored()), kept(scored().caption(EchoCaptioner())), strict=True):
        assert before.record["scores"].keys() > {"clip", "short_side", "words"}
        assert {"clip", "words"}.isdisjoint(after.record["scores"])
        assert after.record["scores"]["short_side"] == before.record["scores"]["short_side"]
        assert [entry["scores"] for entry in after.record["captions"] if "scores" in entry]
        assert "image" in after.arrays


def test_another_image_loses_the_scores_and_arrays_of_the_old_one() -> None:
    for after in kept(scored().render(Inverted())):
        assert {"clip", "short_side", "image"}.isdisjoint(after.record["scores"].keys() | after.arrays.keys())
        assert "words" in after.record["scores"]
        assert not any("scores" in entry for entry in after.record["captions"])


def test_a_later_run_knows_what_an_earlier_one_judged(tmp_path: Path) -> None:
    scored().write(tmp_path / "one")
    mm.read(tmp_path / "one").caption(EchoCaptioner()).write(tmp_path / "two")
    rows = pq.read_table(tmp_path / "two/00000.parquet").to_pylist()
    assert [(row["score_clip"], row["score_words"]) for row in rows] == [(None, None)] * 4
    assert all(row["score_short_side"] for row in rows)


def test_members_of_a_group_keep_their_own() -> None:
    for one in kept(scored().pair(1)):
        assert one.record["scores"].keys() > {"clip", "short_side", "words"}
        assert "image" in one.arrays


def test_the_caption_written_again_with_the_same_words_is_the_same() -> None:
    for one in kept(scored().caption("facts")):
        assert ("clip" in one.record["scores"]) == (
            one.record["captions"][-1]["text"] == one.record["captions"][-2]["text"]
        )
