"""The one contract that every registered stage keeps, and the source contract."""

import copy
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import mmsynth as mm
from mmsynth import registry
from mmsynth.errors import PluginError
from mmsynth.recipe import Recipe
from mmsynth.sources.base import Source, Unreadable
from mmsynth.stage import Stage
from mmsynth.testing import ColourRenderer, EchoCaptioner, KeyFilter, check_stage, photo_samples
from tests.captioners import checkpoints
from tests.models.classifiers import save_vit
from tests.models.clip_folders import KINDS, save_clip
from tests.renderers.tiny_diffusion import save_stable_diffusion

WITHOUT_PARAMETERS = (
    *("repetition", "boilerplate", "pii", "language", "toxicity"),
    *("nsfw", "faces", "text_in_image"),
)


def scene_samples() -> list[mm.Sample]:
    return [s for s in mm.scenes(5, seed=2).render("scenes").take(5) if isinstance(s, mm.Sample)]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Stage, Sequence[mm.Sample]]]:
    """Every registered stage with parameters that let it run here, and samples to run on."""
    llava = str(checkpoints.llava(tmp_path_factory.mktemp("vlm")))
    vlm = {"model": llava, "max_new_tokens": 4, "dtype": "float32"}
    clip = str(save_clip(tmp_path_factory.mktemp("clip"), KINDS["clip"]))
    diffusion = {"model": str(save_stable_diffusion(tmp_path_factory.mktemp("sd"))), "steps": 2, "dtype": "float32"}
    answering = checkpoints.teach_answers(llava, tmp_path_factory.mktemp("answering"))
    classifier = {"model": str(save_vit(tmp_path_factory.mktemp("vit"))), "labels": ["nsfw"]}
    evaluation = tmp_path_factory.mktemp("evaluation") / "texts.txt"
    evaluation.write_text("a gradient with blue at 37\n")
    given: dict[str, tuple[dict[str, Any], Sequence[mm.Sample]]] = {
        "caption:vlm": (vlm, photo_samples(4)),
        "caption:ask": ({**vlm, "per_image": 2}, photo_samples(4)),
        "caption:facts": ({}, scene_samples()),
        "caption:negatives": ({}, [*scene_samples(), *photo_samples(2)]),
        "render:scenes": ({"size": 40}, scene_samples()),
        "render:diffusion": (diffusion, photo_samples(3)),
        "filter:clip": ({"model": clip, "dtype": "float32"}, photo_samples(4)),
        "filter:image_size": ({"min_side": 10}, photo_samples(3)),
        "filter:perceptual_hash": ({}, photo_samples(3)),
        "filter:decontaminate": ({"evaluation": str(evaluation)}, photo_samples(3)),
        "filter:caption_length": ({"min_words": 2}, photo_samples(3)),
        "filter:image_classifier": (classifier, photo_samples(3)),
        "filter:grounding": ({"model": str(answering), "dtype": "float32"}, photo_samples(3)),
        "filter:scene_truth": ({}, scene_samples()),
        **{f"filter:{name}": ({}, photo_samples(3)) for name in WITHOUT_PARAMETERS},
    }
    return {
        name: (registry.load(*name.split(":"))(**parameters), samples) for name, (parameters, samples) in given.items()
    }


NAMES = [f"{word}:{name}" for word in ("caption", "render", "filter") for name in registry.entry_points(word)]


@pytest.mark.parametrize("name", NAMES)
def test_registered_stages_keep_the_contract(name: str, stages: dict[str, tuple[Stage, Sequence[mm.Sample]]]) -> None:
    stage, samples = stages[name]
    check_stage(stage, samples)


@pytest.mark.parametrize("stage", [EchoCaptioner(), ColourRenderer(), KeyFilter()])
def test_the_public_fakes_keep_the_contract(stage: Stage) -> None:
    check_stage(stage, photo_samples(4))


class Signed(mm.Captioner):
    """Captions every sample with its parameters and its own seed."""

    seed: int = 0
    label: str = ""

    def process(self, batch: Sequence[mm.Sample]) -> list[mm.Sample]:
        return [sample.with_caption(f"{self.label} {self.seed} {self.seed_of(sample)}") for sample in batch]


def test_a_stage_may_have_parameters_called_seed_and_label(tmp_path: Path) -> None:
    check_stage(Signed(seed=3, label="x"), photo_samples(3))
    pipeline = mm.scenes(3).caption(Signed(seed=3, label="x"))
    recipe = pipeline.recipe.to_dict()
    again = Recipe.from_dict(json.loads(json.dumps(recipe)))
    (stage,) = again.stages
    assert isinstance(stage, Signed)
    assert (stage.seed, stage.label, stage.parameters()) == (3, "x", {"seed": 3, "label": "x"})
    assert again.fingerprint() == pipeline.recipe.fingerprint()
    pipeline.write(tmp_path / "out")
    captions = {sample.caption for sample in mm.read(tmp_path / "out").take(3) if isinstance(sample, mm.Sample)}
    assert len(captions) == 3, "each has a seed of its own"
    assert all(str(caption).startswith("x 3 ") for caption in captions)


def test_the_contract_catches_a_stage_that_breaks_it() -> None:
    class Shuffles(mm.Filter):
        """Gives results in another order."""

        def process(self, batch: Sequence[mm.Sample]) -> list[mm.Sample | mm.Dropped]:
            return list(reversed(batch))

    globals()["Shuffles"] = Shuffles
    Shuffles.__qualname__ = "Shuffles"
    with pytest.raises(PluginError, match="order"):
        check_stage(Shuffles(), photo_samples(4))


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Source]:
    """Every registered source, over seven samples."""
    mm.scenes(7, seed=2).render("scenes").caption("facts").write(tmp_path / "shards", samples_per_shard=4)
    (tmp_path / "photos").mkdir()
    for sample in photo_samples(7):
        assert sample.image is not None
        (tmp_path / "photos" / f"{sample.key}.png").write_bytes(sample.image.data)
    (tmp_path / "prompts.txt").write_text("\n".join(f"prompt {i}" for i in range(7)))
    table = [json.dumps({"image": f"photos/photo-{i:03d}.png", "caption": f"row {i}"}) for i in range(7)]
    (tmp_path / "table.jsonl").write_text("\n".join(table))
    import datasets

    pictures = {"image": [str(path) for path in sorted((tmp_path / "photos").iterdir())], "caption": list("abcdefg")}
    saved = datasets.Dataset.from_dict(pictures).cast_column("image", datasets.Image())
    saved.save_to_disk(str(tmp_path / "saved"))
    paths = {
        "folder": "photos",
        "webdataset": "shards",
        "prompts": "prompts.txt",
        "table": "table.jsonl",
        "huggingface": "saved",
    }
    built = {kind: registry.load("source", kind)(path=str(tmp_path / path)) for kind, path in paths.items()}
    select = registry.load("source", "select")(runs=[str(tmp_path / "shards")])
    halves = [registry.load("source", "scenes")(n=n, seed=n) for n in (3, 4)]
    return {
        **built,
        "scenes": registry.load("source", "scenes")(n=7),
        "select": select,
        "concat": mm.concat(*halves).recipe.source,
        "mix": mm.mix([(half, 1) for half in halves]).recipe.source,
    }


@pytest.mark.parametrize("kind", list(registry.entry_points("source")))
def test_registered_sources_give_the_same_samples_however_they_are_cut(kind: str, sources: dict[str, Source]) -> None:
    source = pickle.loads(pickle.dumps(sources[kind]))
    source.check()
    whole = [read for one in source.slices(100) for read in source.read(one.payload)]
    assert [key for one in source.slices(3) for key in source.keys(one)] == [read.key for read in whole]
    cut = [read for one in source.slices(3) for read in source.read(json.loads(json.dumps(one.payload)))]
    assert len(whole) == 7
    assert not any(isinstance(read, Unreadable) for read in whole)
    assert [(s.key, s.caption) for s in cut] == [(s.key, s.caption) for s in whole]
    assert len({s.key for s in whole}) == 7
    # sources of sources leave what their parts say
    assert all(s.record["source"]["kind"] == kind or "part" in s.record["source"] for s in whole)
    assert source.count() in (None, 7)
    assert copy.deepcopy(source) == source
