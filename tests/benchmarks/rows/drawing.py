"""Pictures by a small pipeline of Stable Diffusion's shape, against its denoiser and decoder alone."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers import CLIPTextConfig, CLIPTextModel

import mmsynth as mm
from mmsynth.models import resolve_dtype
from mmsynth_renderers.diffusion import DiffusionRenderer
from tests.benchmarks.inputs import captions
from tests.benchmarks.measure import Options, Row, Side, Target
from tests.benchmarks.rows.tokens import clip_tokenizer
from tests.benchmarks.warm import Warm, run

STEPS, GUIDANCE, TEXT_WIDTH = 4, 7.5, 512


class WarmRenderer(Warm, DiffusionRenderer):
    """DiffusionRenderer that loads its model once."""


def row(options: Options) -> Row:
    n, folder = options.count(4), model(options)
    stage = WarmRenderer(model=str(folder), steps=STEPS, guidance=GUIDANCE, dtype=options.dtype, batch_size=n)
    stage.setup(options.device)
    prompts = options.scratch / "prompts.txt"
    prompts.write_text("\n".join(captions(n)))
    ours = mm.prompts(str(prompts)).render(stage)
    bare = Bare(folder, n, options.device, resolve_dtype(options.dtype, options.device))
    return Row(
        f"text to image, {'tiny' if options.tiny else 'small Stable-Diffusion-shaped'}, {STEPS} steps",
        [Side("ours", lambda: run(ours, n, options.device)), Side("denoiser_and_vae", bare.draw)],
        [Target("ours / bare denoiser and VAE", "ours", "denoiser_and_vae", 0.95)],
        {"n": n, "batch_size": n, "pixels": bare.pixels},
    )


class Bare:
    """The denoiser and the decoder on ready tensors, with guidance: no text, no PIL, no files."""

    def __init__(self, folder: Path, n: int, device: str, dtype: torch.dtype) -> None:
        pipeline: Any = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype).to(device)
        self._unet, self._vae, self._scheduler = pipeline.unet.eval(), pipeline.vae.eval(), pipeline.scheduler
        side = self._unet.config.sample_size
        self.pixels = side * pipeline.vae_scale_factor
        torch.manual_seed(0)
        self._noise = torch.randn(n, 4, side, side).to(device, dtype)
        self._text = torch.randn(2 * n, 77, self._unet.config.cross_attention_dim).to(device, dtype)

    @torch.inference_mode()
    def draw(self) -> int:
        self._scheduler.set_timesteps(STEPS, device=self._noise.device)
        latents = self._noise
        for step in self._scheduler.timesteps:
            both = self._unet(torch.cat([latents] * 2), step, encoder_hidden_states=self._text).sample
            plain, told = both.chunk(2)
            latents = self._scheduler.step(plain + GUIDANCE * (told - plain), step, latents).prev_sample
        return len(self._vae.decode(latents / self._vae.config.scaling_factor).sample)


def model(options: Options) -> Path:
    """Stable Diffusion's shape, of about a quarter of its widths; random weights; 256 pixels."""
    folder = options.scratch / "draw_model"
    torch.manual_seed(3)
    tokenizer = clip_tokenizer(options.scratch / "draw_tokenizer")
    width = 64 if options.tiny else TEXT_WIDTH
    widths = (32, 64) if options.tiny else (96, 192, 384, 384)
    decoder = (32, 32) if options.tiny else (64, 128, 256, 256)
    blocks = len(widths) - 1
    text = CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=2 if options.tiny else 12
    )  # its vocabulary is CLIP's by default
    diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(
            block_out_channels=decoder,
            down_block_types=("DownEncoderBlock2D",) * len(decoder),
            up_block_types=("UpDecoderBlock2D",) * len(decoder),
            layers_per_block=2,
            latent_channels=4,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(
            sample_size=8 if options.tiny else 32,
            block_out_channels=widths,
            down_block_types=("CrossAttnDownBlock2D",) * blocks + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * blocks,
            cross_attention_dim=width,
            attention_head_dim=8,
        ),
        scheduler=diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder
