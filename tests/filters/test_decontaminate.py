"""The filter decontaminate, against evaluation sets of every kind."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from pydantic import ValidationError

import mmsynth as mm
from mmsynth.errors import RecipeError, SourceError
from mmsynth.image import Image
from mmsynth.sample import Dropped, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.decontaminate import Decontaminate
from tests.photos import photographs

TEXT = "a woman in an orange suit smiles in front of a flag and a model rocket"


def photo(name: str) -> PIL.Image.Image:
    return PIL.Image.open(next(p for p in photographs() if p.stem == name)).convert("RGB").resize((160, 160))


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """A folder of two photographs, one with a caption."""
    folder = tmp_path / "evaluation"
    folder.mkdir()
    photo("astronaut").save(folder / "one.png")
    photo("coffee").save(folder / "two.jpg")
    (folder / "one.txt").write_text(TEXT)
    return folder


def sample(key: str, name: str, caption: str = "", **record: Any) -> Sample:
    picture = photo(name).resize((99, 120))
    return Sample(key, Image.from_pixels(picture).encoded("jpg", quality=40), caption, record)


def test_an_evaluation_set_may_be_any_source_with_its_parameters(evaluation: Path, tmp_path: Path) -> None:
    (tmp_path / "eval.csv").write_text(f"picture,says\n{evaluation / 'two.jpg'},\n")
    (tmp_path / "eval.jsonl").write_text(json.dumps({"text": TEXT}) + "\n")
    table = {"kind": "table", "path": str(tmp_path / "eval.csv"), "image": "picture", "caption": "says"}
    texts = {"kind": "prompts", "path": str(tmp_path / "eval.jsonl")}
    for source, reasons in ((table, ["contaminated_image", "", ""]), (texts, ["", "contaminated_text", ""])):
        stage = Decontaminate(evaluation=source)
        results = check_stage(stage, [sample("copy", "coffee"), sample("text", "chelsea", TEXT), Sample("nothing")])
        assert [r.reason if isinstance(r, Dropped) else "" for r in results] == reasons
        stage.setup("cpu")
        assert stage.models[0].id == source["path"]
    with pytest.raises(RecipeError, match="source needs a kind"):
        Decontaminate(evaluation={"path": "eval.csv"}).check()


def test_copies_of_images_and_runs_of_words_are_dropped_and_the_rest_goes_on(evaluation: Path) -> None:
    mirrored = Image.from_pixels(photo("coffee").transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)).encoded("png")
    samples = [
        sample("copy", "astronaut"),
        Sample("mirrored", mirrored),
        sample("text", "chelsea", f"He said: {TEXT}."),
        sample("answer", "chelsea", qa=[{"question": "What is there?", "answer": TEXT}]),
        sample("old caption", "chelsea", "a cat", captions=[{"text": TEXT}]),
        sample("good", "chelsea", "a woman in an orange suit"),
        Sample("nothing"),
    ]
    results = check_stage(Decontaminate(evaluation=str(evaluation), distance=10), samples)
    found = [
        (r.reason, r.sample.record["contaminated_by"]) if isinstance(r, Dropped) and r.sample else r for r in results
    ]
    assert found[:2] == [("contaminated_image", "one"), ("contaminated_image", "two")]
    assert found[2:5] == [("contaminated_text", "one")] * 3
    assert [result.key for result in results[5:] if isinstance(result, Sample)] == ["good", "nothing"]


def test_tars_of_an_earlier_run_and_prompts_are_evaluation_sets(evaluation: Path, tmp_path: Path) -> None:
    mm.read(evaluation).write(tmp_path / "tars")
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"key": "p1", "prompt": TEXT}) + "\n")
    for path, key in ((tmp_path / "tars", "one"), (tmp_path / "prompts.jsonl", "p1")):
        stage = Decontaminate(evaluation=str(path))
        stage.check()
        stage.setup("cpu")
        (result,) = stage.process([sample("s", "chelsea", TEXT)])
        assert isinstance(result, Dropped)
        assert result.sample is not None
        assert result.sample.record["contaminated_by"] == key


def test_images_or_texts_alone(evaluation: Path) -> None:
    samples = [sample("copy", "astronaut"), sample("text", "chelsea", TEXT)]
    for off, dropped in (("images", [False, True]), ("texts", [True, False])):
        stage = Decontaminate(evaluation=str(evaluation), **{off: False})
        stage.setup("cpu")
        assert [isinstance(result, Dropped) for result in stage.process(samples)] == dropped


def test_a_run_tells_which_evaluation_set_it_was(evaluation: Path, tmp_path: Path) -> None:
    report = mm.read(evaluation).filter("decontaminate", evaluation=str(evaluation)).write(tmp_path / "out")
    assert report.dropped == {"contaminated_image": 2}
    stage = Decontaminate(evaluation=str(evaluation))
    stage.setup("cpu")
    (evaluation / "one.txt").write_text("another caption of several words")
    other = Decontaminate(evaluation=str(evaluation))
    other.setup("cpu")
    assert stage.models[0].revision != other.models[0].revision


def test_a_hole_in_the_evaluation_set_is_an_error(evaluation: Path) -> None:
    (evaluation / "three.jpg").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"broken image, 'three'|unreadable sample, 'three'"):
        Decontaminate(evaluation=str(evaluation)).setup("cpu")


def test_files_that_are_no_images_are_passed_over(evaluation: Path, caplog: pytest.LogCaptureFixture) -> None:
    (evaluation / "README.md").write_text("x")
    (evaluation / "LICENSE.txt").write_text("x")
    stage = Decontaminate(evaluation=str(evaluation))
    stage.setup("cpu")
    assert isinstance(stage.process([sample("k", "coffee")])[0], Dropped)
    assert "1 files" in caplog.text
    assert "not_an_image_file" in caplog.text


def test_an_evaluation_set_that_is_not_there_is_found_before_any_work() -> None:
    with pytest.raises(SourceError, match="no such file"):
        Decontaminate(evaluation="nowhere").check()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "evaluation"),
        ({"evaluation": "x", "images": False, "texts": False}, "nothing would be compared"),
        ({"evaluation": "x", "ngram": 3}, "greater than or equal to 5"),
        ({"evaluation": "x", "distance": 40}, "less than or equal to 32"),
    ],
)
def test_parameters_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Decontaminate(**parameters)
