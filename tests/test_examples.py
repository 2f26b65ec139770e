"""The recipes in examples/ run as they stand; where one names a hub model, a local checkpoint takes its place."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import mmsynth as mm
from mmsynth.pipeline import Pipeline
from mmsynth.recipe import Recipe
from tests.captioners import checkpoints
from tests.engine.run_files import members, records, rows
from tests.models.classifiers import save_vit
from tests.models.clip_folders import KINDS, save_clip
from tests.photos import photographs
from tests.renderers.tiny_diffusion import save_stable_diffusion

EXAMPLES = Path(__file__).parents[1] / "examples"


def with_local_models(name: str, models: dict[str, Path]) -> Recipe:
    """An example's recipe with the models of the named stages replaced, and nothing else."""
    data = yaml.safe_load((EXAMPLES / name).read_text())
    for spec in data["stages"]:
        for stage, folder in models.items():
            if stage in spec.values():
                spec["model"] = str(folder)
    return Recipe.from_dict(data, where=name)


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_is_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES.parent)
    recipe = Recipe.from_file(path)
    assert recipe.out.path
    assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())) == recipe


def test_caption_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos = photographs(3)
    for path in photos:
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "photos")
    models = {
        "vlm": checkpoints.idefics3(new(tmp_path / "vlm")),
        "clip": save_clip(new(tmp_path / "clip"), KINDS["clip"]),
    }
    report = Pipeline(with_local_models("caption_photos.yaml", models)).run()
    assert report.kept == len(photos)
    written = members(tmp_path / "captioned")
    for path in photos:
        extension = "jpg" if path.suffix in {".jpg", ".jpeg"} else path.suffix[1:]
        assert written[path.stem][extension] == path.read_bytes()
        assert "clip" in json.loads(written[path.stem]["json"])["scores"]


def test_quality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watermark and aesthetic scores by a hub classifier and a head over CLIP, of random weights here; then select."""
    import torch
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    photos = photographs(4)
    (tmp_path / "photos").mkdir()
    for path in photos:
        shutil.copy(path, tmp_path / "photos")
    save_file({"weight": torch.randn(1, 24), "bias": torch.tensor([5.0])}, "aesthetic_head.safetensors")
    data = yaml.safe_load((EXAMPLES / "quality.yaml").read_text())
    watermark, aesthetic = data["stages"]
    watermark |= {"model": str(save_vit(new(tmp_path / "vit"), "single_label_classification"))}
    watermark |= {"labels": ["Has Watermark"]}
    aesthetic |= {"model": str(save_clip(new(tmp_path / "clip"), KINDS["clip"]))}
    report = Pipeline(Recipe.from_dict(data)).run()
    assert report.kept == len(photos)
    assert {"watermark_has_watermark", "aesthetic"} <= set(report.scores)
    assert mm.select("scored", top=0.5, by="aesthetic").write("chosen").kept == len(photos) // 2


def test_text_to_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a red star\na blue ring\n")
    models = {
        "diffusion": save_stable_diffusion(new(tmp_path / "sd")),
        "clip": save_clip(new(tmp_path / "clip"), KINDS["clip"]),
    }
    report = Pipeline(with_local_models("text_to_image.yaml", models)).run()
    assert report.inputs == 2
    assert report.failed == {}
    assert all(row["score_clip"] is not None for row in rows(tmp_path / "drawn"))
    for record in records(tmp_path / "drawn").values():
        assert record["synthetic"]["image"] is True
        assert record["steps"][0]["parameters"]["guidance"] == 6.0


def test_filter_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mm.scenes(24, seed=11).render("scenes").caption("facts").write("shards", samples_per_shard=12)
    before = members(tmp_path / "shards")
    report = Pipeline.from_file(EXAMPLES / "filter_shards.yaml").run()
    assert report.kept >= 22, "nano CLIP keeps true pairs"
    after = members(tmp_path / "filtered")
    assert all(after[key]["jpg"] == before[key]["jpg"] for key in after)
