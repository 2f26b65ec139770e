"""Recipes: three spellings of one model, and errors that name file, stage and field."""

import json
from pathlib import Path

import pytest

import mmsynth as mm
from mmsynth.errors import PluginError, RecipeError
from mmsynth.pipeline import Pipeline
from mmsynth.recipe import Recipe

RECIPE = """
seed: 7
source: {kind: scenes, n: 6, seed: 3}
stages:
  - render: scenes
    size: 48
  - caption: facts
    qa: 2
  - filter: caption_length
    min_words: 2
out: {path: pairs/, samples_per_shard: 4, image_format: png}
run: {workers: 2}
"""

SCENES = {"kind": "scenes", "n": 2}


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def fluent() -> Pipeline:
    return (
        mm.scenes(6, seed=3)
        .render("scenes", size=48)
        .caption("facts", qa=2)
        .filter("caption_length", min_words=2)
        .seeded(7)
    )


def test_yaml_and_fluent_calls_build_the_same_recipe(tmp_path: Path) -> None:
    from_yaml = Recipe.from_file(write_recipe(tmp_path))
    assert from_yaml.stages == fluent().recipe.stages
    assert from_yaml.source == fluent().recipe.source
    assert from_yaml.run.workers == 2


def test_a_recipe_survives_the_round_trip_through_yaml(tmp_path: Path) -> None:
    recipe = Recipe.from_file(write_recipe(tmp_path))
    again = Recipe.from_file(write_recipe(tmp_path, recipe.to_yaml()))
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()


def test_run_json_makes_the_same_run_again(tmp_path: Path) -> None:
    fluent().write(tmp_path / "a", samples_per_shard=4)
    Pipeline.from_file(tmp_path / "a" / "run.json").write(tmp_path / "b")
    for name in ("00000.tar", "00001.tar", "00000.parquet", "00001.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_run_json_holds_recipe_versions_models_and_seed(tmp_path: Path) -> None:
    fluent().write(tmp_path / "a", samples_per_shard=4)
    run = json.loads((tmp_path / "a" / "run.json").read_text())
    assert run["recipe"]["source"] == {"kind": "scenes", "n": 6, "seed": 3}
    assert run["seed"] == 7
    assert run["mmsynth"] == mm.__version__
    assert "webdataset" in run["versions"]


def test_what_only_changes_speed_is_not_part_of_the_fingerprint() -> None:
    slow = mm.scenes(5).caption("facts", batch_size=1)
    assert slow.recipe.fingerprint() == mm.scenes(5).caption("facts").recipe.fingerprint()
    assert mm.scenes(5).caption("facts", qa=1).recipe.fingerprint() != slow.recipe.fingerprint()


def test_a_second_stage_of_one_kind_has_its_own_label_and_seed() -> None:
    first, second = mm.scenes(2).caption("facts").caption("facts").recipe.bound_stages()
    assert (first.step_name, second.step_name) == ("caption:facts", "caption:facts#2")
    sample = mm.Sample("k")
    assert first.seed_of(sample) != second.seed_of(sample)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source: {kind: scenes, n: 5}\nout: {samples_per_shard: 0}", r"samples_per_shard must be at least 1, got 0 \(recipe.yaml, out\)"),
        ("source: {kind: scenes, n: 5}\nout: {quality: high}", r"quality: .*got 'high' \(recipe.yaml, out\)"),
        ("source: {kind: scenes, m: 5}", r"no field 'm'.*Fields: n, seed.*\(recipe.yaml, source scenes\)"),
        (
            "source: {kind: scenes, n: 5}\nstages:\n  - caption: facts\n  - filter: caption_length\n    min_word: 2",
            r"no field 'min_word'. Did you mean 'min_words'\?.*\(recipe.yaml, stages\[1\], filter caption_length\)",
        ),
        ("source: {kind: scenes, n: 5}\nstage: []", r"no field 'stage' in a recipe. Did you mean 'stages'\? \(recipe.yaml\)"),
        ("stages: []", r"needs a source.*\(recipe.yaml\)"),
        ("source: {n: 5}", r"source needs a kind: .*folder.*\(recipe.yaml, source\)"),
        ("source: {kind: scenes, n: 5}\nstages: [{sing: loud}]", r"exactly one of render, caption, filter.*stages\[0\]"),
        ("source: {kind: scenes, n: 5}\nseed: soon", r"seed must be a whole number, got 'soon'"),
        ("source: [", r"recipe.yaml is not YAML"),
        (
            "source: {kind: scenes, n: 5}\nstages:\n  - caption: facts\nseed: 1\nstages: []",
            r"'stages' stands twice, in lines 2 and 5 \(recipe.yaml\)",
        ),
        ("source: {kind: scenes, n: 5, n: 6}", r"'n' stands twice, in lines 1 and 1 \(recipe.yaml\)"),
        (
            "source: {kind: scenes, n: 5}\nstages: [{captoin: facts}]",
            r"got \['captoin'\]. Did you mean 'caption'\? \(recipe.yaml, stages\[0\]\)",
        ),
        ("just words", r"the recipe must be a mapping"),
        ("", r"the recipe must be a mapping"),
    ],
)  # fmt: skip
def test_errors_name_file_stage_and_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_file(write_recipe(tmp_path, text))


def test_yaml_anchors_and_merges_are_no_repeats(tmp_path: Path) -> None:
    text = "source: {kind: scenes, n: 5}\nstages:\n  - &a {caption: facts, qa: 1}\n  - {<<: *a, qa: 2}\n"
    first, second = Recipe.from_file(write_recipe(tmp_path, text)).to_dict()["stages"]
    assert (first["qa"], second["qa"]) == (1, 2)


def test_an_unknown_plugin_says_what_is_installed_and_was_probably_meant(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "source: {kind: scenes, n: 5}\nstages: [{filter: clipp}]")
    with pytest.raises(
        PluginError,
        match=r"no filter named 'clipp'. Did you mean 'clip'\? Installed: boilerplate, caption_length, clip,",
    ):
        Recipe.from_file(path)


def test_a_plugin_under_another_word_says_so() -> None:
    with pytest.raises(PluginError, match=r"no captioner named 'clip'\. There is a filter of that name"):
        mm.scenes(2).caption("clip")


def test_a_missing_recipe_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        Recipe.from_file(tmp_path / "none.yaml")


def test_a_stage_may_have_a_parameter_called_name() -> None:
    from_python = mm.scenes(2).filter("clip", name="clip_large").recipe.stages
    assert (
        from_python == Recipe.from_dict({"source": SCENES, "stages": [{"filter": "clip", "name": "clip_large"}]}).stages
    )


def test_two_stages_with_one_score_name_are_refused() -> None:
    from mmsynth.testing import KeyFilter

    with pytest.raises(RecipeError, match="2 stages write the score 'length'"):
        mm.scenes(3).filter(KeyFilter()).filter(KeyFilter()).recipe.bound_stages()
