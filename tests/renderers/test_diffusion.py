"""The diffusion renderer, on very small checkpoints with random weights: what it promises whatever the model."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UniPCMultistepScheduler
from huggingface_hub.utils import filter_repo_objects
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from mmsynth.errors import ModelError, RecipeError, SampleError
from mmsynth.sample import Dropped, Failed, Result, Sample
from mmsynth_renderers.diffusion import DiffusionRenderer
from mmsynth_renderers.pipeline_files import file_patterns
from tests.renderers.tiny_diffusion import (
    PIXELS,
    picky_safety_checker,
    safety_checker,
    save_flux,
    save_stable_diffusion,
    save_stable_diffusion_xl,
)

PROMPTS = ["a red dog", "two blue cats on a mat", "the sea", "a large green star"]
SAMPLES = [Sample(f"k{i}", caption=prompt) for i, prompt in enumerate(PROMPTS)]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Matrices this small gain nothing from threads, which on a busy machine wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stable_diffusion(tmp_path_factory.mktemp("sd") / "pipeline")


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_flux(tmp_path_factory.mktemp("flux") / "pipeline")


def ready(model: Path | str, run_seed: int = 7, **parameters: Any) -> DiffusionRenderer:
    """A renderer set up on the CPU as the engine would."""
    given = {"steps": 3, "dtype": "float32"} | parameters
    stage = DiffusionRenderer(model=str(model), **given).bound("render:diffusion", run_seed)
    stage.check()
    stage.setup("cpu")
    return stage


def pixels(result: Result) -> "np.ndarray[Any, Any]":
    assert isinstance(result, Sample), result
    assert result.image is not None
    return np.asarray(result.image.pixels()).astype(int)


def difference(a: Result, b: Result) -> int:
    """The largest difference of any pixel: in other batches arithmetic rounds otherwise, by 1 of 255 now and then."""
    return int(abs(pixels(a) - pixels(b)).max())


# -- the same picture, whatever the batch ------------------------------------------------------------------------------


def test_draws_what_the_plain_pipeline_draws_with_the_same_seed(folder: Path) -> None:
    stage = ready(folder, guidance=5.0)
    plain = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    plain.set_progress_bar_config(disable=True)
    for sample in SAMPLES:
        generator = torch.Generator("cpu").manual_seed(stage.seed(sample))
        expected = plain(sample.caption, num_inference_steps=3, guidance_scale=5.0, generator=generator).images[0]
        assert (pixels(stage.process([sample])[0]) == np.asarray(expected)).all()


@pytest.mark.parametrize("scheduler", [None, "euler_a"], ids=["ddim", "one that draws noise at every step"])
def test_a_sample_looks_the_same_in_any_batch_and_order(folder: Path, scheduler: str | None) -> None:
    assert_contract(ready(folder, scheduler=scheduler), SAMPLES)


def test_other_architectures_keep_the_contract_too(flux: Path, tmp_path: Path) -> None:
    assert_contract(ready(flux, size=PIXELS), SAMPLES)
    assert_contract(ready(save_stable_diffusion_xl(tmp_path / "xl"), negative_prompt="blurry"), SAMPLES)


def assert_contract(stage: DiffusionRenderer, samples: Sequence[Sample]) -> None:
    """What `check_stage` asserts, with pictures compared up to rounding."""
    before = copy.deepcopy(list(samples))
    together = stage.process(samples)
    assert list(samples) == before
    assert [result.key for result in together if isinstance(result, Sample)] == [sample.key for sample in samples]
    alone = [stage.process([sample])[0] for sample in samples]
    reversed_ = stage.process(samples[::-1])[::-1]
    for a, b, c in zip(together, alone, reversed_, strict=True):
        assert difference(a, b) <= 2
        assert difference(a, c) <= 2
    assert difference(together[0], together[1]) > 20


def test_another_run_seed_draws_another_picture(folder: Path) -> None:
    [one], [same], [other] = (ready(folder, run_seed=seed).process(SAMPLES[:1]) for seed in (7, 7, 8))
    assert difference(one, same) == 0
    assert difference(one, other) > 20


def test_equal_prompts_draw_different_pictures(folder: Path) -> None:
    one, other = ready(folder).process([Sample("a", caption="a dog"), Sample("b", caption="a dog")])
    assert difference(one, other) > 20


def test_a_stage_travels_to_worker_processes(folder: Path) -> None:
    stage = DiffusionRenderer(model=str(folder), scheduler="euler", extra={"eta": 0.5})
    assert pickle.loads(pickle.dumps(stage)) == stage


# -- parameters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [{"steps": 5}, {"guidance": 1.0}, {"negative_prompt": "a cat"}, {"scheduler": "euler_a"}, {"extra": {"eta": 1.0}}],
    ids=lambda changed: next(iter(changed)),
)
def test_every_parameter_changes_the_picture(folder: Path, changed: dict[str, Any]) -> None:
    assert difference(ready(folder).process(SAMPLES)[1], ready(folder, **changed).process(SAMPLES)[1]) > 2


def test_size_is_the_models_own_or_what_is_asked(folder: Path) -> None:
    assert pixels(ready(folder).process(SAMPLES[:1])[0]).shape == (PIXELS, PIXELS, 3)
    assert pixels(ready(folder, size=48).process(SAMPLES[:1])[0]).shape == (48, 48, 3)
    assert pixels(ready(folder, size="64x24").process(SAMPLES[:1])[0]).shape == (24, 64, 3)


def test_the_scheduler_is_the_plain_pipelines_with_the_same_configuration(folder: Path) -> None:
    [drawn] = ready(folder, scheduler="UniPCMultistepScheduler").process(SAMPLES[:1])
    plain = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    plain.set_progress_bar_config(disable=True)
    plain.scheduler = UniPCMultistepScheduler.from_config(plain.scheduler.config)
    generator = torch.Generator("cpu").manual_seed(ready(folder).seed_of(SAMPLES[0]))
    expected = plain(SAMPLES[0].caption, num_inference_steps=3, generator=generator).images[0]
    assert (pixels(drawn) == np.asarray(expected)).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"scheduler": "eulr"}, "no scheduler named 'eulr'. Did you mean 'euler'?"),
        ({"scheduler": "DPMSolverMultistepSchedulr"}, "Did you mean 'DPMSolverMultistepScheduler'?"),
        ({"size": "512by512"}, "must be a number of pixels or WIDTHxHEIGHT, got '512by512'"),
        ({"size": 500}, "must be multiples of 8 pixels, got 500"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"guidance": float("nan")}, "finite"),
        ({"dtype": "int8"}, "'auto', 'float32', 'float16' or 'bfloat16'"),
        ({"extra": {"generator": 3}}, "generator: set by the renderer itself"),
    ],
)
def test_parameters_that_cannot_be_right_are_refused_when_the_stage_is_built(
    parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        DiffusionRenderer(**parameters)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"extra": {"true_cfg_scal": 4.0}}, "FluxPipeline takes no true_cfg_scal (extra.true_cfg_scal); it takes "),
        ({"negative_prompt": "a cat"}, "true_cfg_scale is at most 1, and it is 1.0: set extra: {true_cfg_scale: …}"),
        ({"scheduler": "ddim"}, "is a flow-matching model (its own scheduler is FlowMatchEulerDiscreteScheduler)"),
    ],
)
def test_parameters_that_the_pipeline_would_ignore_are_refused(
    flux: Path, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        ready(flux, **parameters)
    assert message in str(caught.value)


def test_a_negative_prompt_without_guidance_is_refused(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"ignored where guidance_scale is at most 1, and it is 1\.0: set guidance"):
        ready(folder, negative_prompt="a cat", guidance=1.0)


def test_a_size_that_the_pipeline_rounds_is_refused(flux: Path) -> None:
    with pytest.raises(RecipeError, match=r"FluxPipeline cannot draw size 40x32: the nearest that it can is 32x32"):
        ready(flux, size="40x32").process(SAMPLES[:1])


def test_more_arguments_reach_the_pipeline(flux: Path) -> None:
    plain = ready(flux, size=PIXELS).process(SAMPLES[:2])
    guided = ready(flux, size=PIXELS, negative_prompt="a cat", extra={"true_cfg_scale": 6.0}).process(SAMPLES[:2])
    assert difference(plain[1], guided[1]) > 2


# -- what is dropped, and what is recorded ----------------------------------------------------------------------------


def test_flagged_pictures_are_dropped_and_their_neighbours_live(tmp_path: Path) -> None:
    calm = ready(save_stable_diffusion(tmp_path / "calm", safety_checker(threshold=2.0)))
    pictures = [
        result.image.pixels() for result in calm.process(SAMPLES) if isinstance(result, Sample) and result.image
    ]
    assert len(pictures) == len(SAMPLES)
    strict = ready(save_stable_diffusion(tmp_path / "strict", picky_safety_checker(pictures)))
    results = strict.process(SAMPLES)
    flagged = [isinstance(result, Dropped) for result in results]
    assert sum(flagged) == len(SAMPLES) // 2
    assert {result for result in results if isinstance(result, Dropped)} == {Dropped("safety_checker")}
    assert all(pixels(result).any() for result in results if isinstance(result, Sample))
    assert [isinstance(strict.process([sample])[0], Dropped) for sample in SAMPLES] == flagged


def test_black_pictures_never_reach_the_data(tmp_path: Path) -> None:
    folder = save_stable_diffusion(tmp_path / "black")
    pipeline = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    torch.nn.init.zeros_(pipeline.vae.decoder.conv_out.weight)
    torch.nn.init.constant_(pipeline.vae.decoder.conv_out.bias, -1)
    pipeline.save_pretrained(folder)
    assert ready(folder).process(SAMPLES[:2]) == [Dropped("black_image")] * 2


@pytest.mark.parametrize("part", ["vae.decoder.conv_out", "unet.conv_out"])
def test_pictures_of_numbers_that_are_none_fail(part: str, tmp_path: Path) -> None:
    folder = save_stable_diffusion(tmp_path / "overflowing")
    pipeline = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    model, _, layer = part.partition(".")
    torch.nn.init.constant_(getattr(pipeline, model).get_submodule(layer).weight[0], float("nan"))
    pipeline.save_pretrained(folder)
    with np.errstate(invalid="ignore"):
        results = ready(folder).process(SAMPLES[:2])
    assert [result.reason for result in results if isinstance(result, Failed)] == ["not_finite"] * 2


def test_a_sample_without_a_caption_fails_alone(folder: Path) -> None:
    stage = DiffusionRenderer(model=str(folder))
    for caption in (None, " \n"):
        with pytest.raises(SampleError) as caught:
            stage.prepare(Sample("k", caption=caption))
        assert caught.value.reason == "no_prompt"


def test_the_caption_is_recorded_as_the_prompt_once(folder: Path) -> None:
    written = Sample("written").with_caption("a dog", origin="synthetic", model="some/model")
    drawn, kept = ready(folder).process([Sample("bare", caption="a dog"), written])
    assert isinstance(drawn, Sample)
    assert isinstance(kept, Sample)
    assert drawn.record == {"captions": [{"text": "a dog", "origin": "prompt"}]}
    assert kept.record == written.record
    assert (drawn.caption, kept.caption) == ("a dog", "a dog")


def test_a_prompt_that_was_cut_is_marked(folder: Path) -> None:
    # one token for each letter, and two for start and end
    fits, cut = ready(folder).process([Sample("fits", caption="x" * 75), Sample("cut", caption="x" * 76)])
    assert isinstance(fits, Sample)
    assert isinstance(cut, Sample)
    assert "prompt_truncated" not in fits.record
    assert cut.record["prompt_truncated"] is True


def test_a_prompt_is_not_cut_where_one_text_encoder_reads_it_all(flux: Path) -> None:
    long, cut = (Sample("long", caption="x" * 100), Sample("cut", caption="x" * 200))
    results = ready(flux, size=PIXELS, extra={"max_sequence_length": 128}).process([long, cut])
    marked = [result.record.get("prompt_truncated") for result in results if isinstance(result, Sample)]
    assert marked == [None, True]


def test_what_was_loaded_is_known(folder: Path) -> None:
    [model] = ready(folder, dtype="bfloat16").models
    assert model.id == str(folder)
    assert model.revision.startswith("files-")
    assert model.dtype == "bfloat16"


def test_half_precision_draws_too(folder: Path) -> None:
    full, half = (ready(folder, dtype=dtype).process(SAMPLES)[0] for dtype in ("float32", "bfloat16"))
    assert pixels(full).shape == pixels(half).shape


# -- models that are not there -----------------------------------------------------------------------------------------


def refusal(model: Path | str, **parameters: Any) -> str:
    """The one line with which `check` refuses a model."""
    with pytest.raises(ModelError) as caught:
        DiffusionRenderer(model=str(model), **parameters).check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    assert "is not a diffusers pipeline: it has no model_index.json" in refusal(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    assert "has a broken model_index.json" in refusal(tmp_path)


def test_only_safetensors_are_loaded(folder: Path, tmp_path: Path) -> None:
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "unet/diffusion_pytorch_model.safetensors").rename(pickled / "unet/diffusion_pytorch_model.bin")
    assert "no safetensors weights for its unet, and no other kind is loaded" in refusal(pickled)


def test_variants_are_loaded_by_name_only(tmp_path: Path) -> None:
    folder = save_stable_diffusion(tmp_path / "fp16", variant="fp16")
    assert "(variants that are there: fp16)" in refusal(folder)
    assert "has no files of the variant 'bf16' (variants that are there: fp16)" in refusal(folder, variant="bf16")
    assert pixels(ready(folder, variant="fp16").process(SAMPLES[:1])[0]).any()


def test_code_that_comes_with_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    foreign = shutil.copytree(folder, tmp_path / "foreign")
    marker = tmp_path / "it-ran"
    (foreign / "unet/my_unet.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass MyUNet: pass\n")
    index = json.loads((foreign / "model_index.json").read_text())
    (foreign / "model_index.json").write_text(json.dumps(index | {"unet": ["my_unet", "MyUNet"]}))
    with pytest.raises(ModelError, match="could not be loaded as a text-to-image pipeline"):
        ready(foreign)
    assert not marker.exists()


def test_broken_weights_are_one_clear_error(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    weights = broken / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"could not be loaded: .*unet"):
        DiffusionRenderer(model=str(broken)).check()
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(ModelError, match="Git LFS pointer: run git lfs pull"):
        DiffusionRenderer(model=str(broken)).check()


@pytest.mark.parametrize(("part", "file"), [("unet", "diffusion_pytorch_model"), ("text_encoder", "model")])
def test_weights_that_are_missing_are_not_drawn_at_random(folder: Path, tmp_path: Path, part: str, file: str) -> None:
    lacking = shutil.copytree(folder, tmp_path / "lacking")
    path = lacking / part / f"{file}.safetensors"
    weights = load_file(path)
    weights.pop(next(name for name in weights if name.endswith("norm2.weight") or "layer_norm2.weight" in name))
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(ModelError, match=f"1 weights of its {part} are missing in its files"):
        ready(lacking)


def test_a_revision_of_a_local_folder_is_refused(folder: Path) -> None:
    with pytest.raises(RecipeError, match="is a local folder"):
        DiffusionRenderer(model=str(folder), revision="main").check()


def test_hub_models_come_from_the_cache_and_are_missed_at_once_when_offline(folder: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub/models--someone--tiny"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    script = """
import sys
from mmsynth.errors import ModelError
from mmsynth_renderers.diffusion import DiffusionRenderer
from mmsynth_renderers.pipeline_files import find_pipeline
try:
    DiffusionRenderer(model="stabilityai/stable-diffusion-xl-base-1.0").check()
except ModelError as error:
    print(error)
DiffusionRenderer(model="someone/tiny").check()
print(find_pipeline("someone/tiny").revision)
print("torch" in sys.modules, "diffusers" in sys.modules)
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
    missing, revision, imported = run.stdout.splitlines()
    assert missing.startswith(
        "model 'stabilityai/stable-diffusion-xl-base-1.0' could not be found or downloaded: no local folder"
    )
    assert revision == commit
    assert imported == "False False"


def test_only_the_files_that_are_loaded_are_fetched() -> None:
    weights = ["diffusion_pytorch_model", "diffusion_pytorch_model.fp16"]
    unet = [f"unet/{name}.{ending}" for name in weights for ending in ("safetensors", "bin")]
    shards = [f"text_encoder/model{middle}-00001-of-00016.safetensors" for middle in ("", ".fp16")]
    others = ["sd_xl_base_1.0.safetensors", "unet/model.onnx", "vae_1_0/config.json", "README.md"]
    small = [
        "model_index.json",
        "unet/config.json",
        "tokenizer/merges.txt",
        "text_encoder/model.safetensors.index.json",
    ]
    components = ["unet", "text_encoder", "tokenizer"]

    def fetched(variant: str | None) -> set[str]:
        return set(
            filter_repo_objects([*unet, *shards, *others, *small], allow_patterns=file_patterns(components, variant))
        )

    assert fetched(None) == {*small, unet[0], shards[0]}
    assert fetched("fp16") == {*small, unet[2], shards[1]}
