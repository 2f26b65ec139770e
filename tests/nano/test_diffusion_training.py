"""nano-diffusion's training scripts: they stop and go on, and leave a pipeline that anyone can load and draw with."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import AutoPipelineForText2Image

from examples.nano import clip_model, diffusion_model, train_autoencoder, train_diffusion
from examples.nano.evaluate_clip import model_folder
from mmsynth.sample import Sample
from mmsynth_renderers.diffusion import DiffusionRenderer

CLIP = model_folder("nano")
CAPTION = "two small red stars to the left of a large blue circle on a navy background"


def train(monkeypatch: pytest.MonkeyPatch, script: ModuleType, shards: Path, folder: Path, steps: int) -> None:
    """The schedule is of four steps, and the first `steps` of them are done."""
    options: dict[str, Any] = {"--shards": shards, "--folder": folder, "--steps": 4, "--batch": 4, "--limit": 24}
    if script is train_diffusion:
        options["--clip"] = CLIP
    else:
        options |= {"--steps": 2, "--decoder-steps": 2}
    monkeypatch.setattr(sys, "argv", [script.__name__, *(str(part) for pair in options.items() for part in pair)])
    done = script.Training._train_step

    def step(self: Any, *scenes: Any) -> Any:
        losses = done(self, *scenes)
        if self.step == steps:
            self.options.steps, self.options.decoder_steps = steps, 0
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(script.Training, "_train_step", step)
        script.main()


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both scripts, straight through."""
    folder = tmp_path_factory.mktemp("diffusion")
    with pytest.MonkeyPatch.context() as patch:
        for script in (train_autoencoder, train_diffusion):
            train(patch, script, shards, folder, 4)
    return folder


@pytest.mark.parametrize(("script", "state"), [(train_autoencoder, "autoencoder.pt"), (train_diffusion, "denoiser.pt")])
def test_training_goes_on_as_if_it_had_never_stopped(
    script: ModuleType, state: str, trained: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script is train_diffusion:
        (tmp_path / "vae").symlink_to(trained / "vae")
    for steps in (2, 4):
        train(monkeypatch, script, shards, tmp_path, steps)
    straight, stopped = (torch.load(folder / state, weights_only=True)["model"] for folder in (trained, tmp_path))
    assert all(torch.equal(value, stopped[name]) for name, value in straight.items())


def test_what_is_left_is_a_pipeline_that_loads_by_itself_and_draws(trained: Path) -> None:
    pipeline = AutoPipelineForText2Image.from_pretrained(trained / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    [picture] = pipeline(CAPTION, num_inference_steps=2).images
    assert picture.size == (64, 64)
    stage = DiffusionRenderer(model=str(trained / "pipeline"), steps=2)
    stage.setup("cpu")
    [drawn] = stage.process([Sample("a", caption=CAPTION)])
    assert isinstance(drawn, Sample)
    assert drawn.image is not None
    assert (drawn.image.width, drawn.image.height) == (64, 64)


def test_it_listens_to_the_text_tower_of_nano_clip() -> None:
    encoder, tokenizer = diffusion_model.text_encoder(CLIP)
    clip, clip_tokenizer = clip_model.load(CLIP)
    clip.eval()
    ids = tokenizer([CAPTION], padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert torch.equal(ids, clip_tokenizer([CAPTION]))
    with torch.no_grad():
        seen = encoder(ids)[0][torch.arange(1), ids.argmax(1)] @ clip.text_projection
        torch.testing.assert_close(seen, clip.encode_text(ids), atol=1e-5, rtol=1e-4)


def test_the_parameters_stay_below_ten_million() -> None:
    encoder, _ = diffusion_model.text_encoder(CLIP)
    parts = (diffusion_model.autoencoder(), diffusion_model.denoiser(encoder.config.hidden_size), encoder)
    assert sum(weight.numel() for part in parts for weight in part.parameters()) <= 10_000_000
