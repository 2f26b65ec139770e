"""Very small diffusion checkpoints with random weights, in the shapes that diffusers loads: 32-pixel pictures."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

PIXELS = 32
_WIDTH = 16


def save_stable_diffusion(folder: Path, safety_checker: Any = None, variant: str | None = None) -> Path:
    """A Stable-Diffusion-shaped pipeline."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(folder.parent / f"{folder.name}-tokenizer")
    StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer)),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(**_UNET, down_block_types=_DOWN, up_block_types=_UP, cross_attention_dim=_WIDTH),
        scheduler=DDIMScheduler(**_NOISE),
        safety_checker=safety_checker,
        feature_extractor=_feature_extractor() if safety_checker is not None else None,
        requires_safety_checker=safety_checker is not None,
    ).save_pretrained(folder, safe_serialization=True, variant=variant)
    return folder


def save_stable_diffusion_xl(folder: Path) -> Path:
    """An SDXL-shaped pipeline: two text encoders, size conditioning."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(folder.parent / f"{folder.name}-tokenizer")
    unet = UNet2DConditionModel(
        **_UNET,
        down_block_types=_DOWN,
        up_block_types=_UP,
        cross_attention_dim=2 * _WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + _WIDTH,
    )
    StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**_NOISE),
        add_watermarker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def save_flux(folder: Path) -> Path:
    """A Flux-shaped pipeline: a flow-matching transformer, CLIP and T5; guidance-distilled."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(folder.parent / f"{folder.name}-tokenizer")
    long_tokenizer = _tokenizer(folder.parent / f"{folder.name}-tokenizer-2", longest=512)
    t5 = T5Config(vocab_size=len(tokenizer), d_model=_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=_WIDTH,
        pooled_projection_dim=_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_flux_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=long_tokenizer,
        transformer=transformer,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def safety_checker(threshold: float) -> StableDiffusionSafetyChecker:
    """A checker that flags pictures whose cosine to every concept is above `threshold`: 2 flags none."""
    torch.manual_seed(0)
    tower = {"hidden_size": _WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**tower, "image_size": PIXELS, "patch_size": 8}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, text_config=tower, projection_dim=8))
    with torch.no_grad():
        for parameter in checker.parameters():
            parameter.normal_()  # so that pictures differ in what it sees
        checker.concept_embeds.copy_(checker.concept_embeds[:1].expand_as(checker.concept_embeds))
        checker.concept_embeds_weights.fill_(threshold)
        checker.special_care_embeds_weights.fill_(2.0)
    return checker


def picky_safety_checker(pictures: list[PIL.Image.Image]) -> StableDiffusionSafetyChecker:
    """A checker that flags half of `pictures`: its threshold lies between their cosines."""
    checker = safety_checker(2.0)
    seen = _feature_extractor()(pictures, return_tensors="pt").pixel_values
    with torch.no_grad():
        embedded = checker.visual_projection(checker.vision_model(seen)[1])
    cosines = torch.cosine_similarity(embedded, checker.concept_embeds[:1]).sort().values
    middle = len(pictures) // 2
    return safety_checker(float(cosines[middle - 1 : middle + 1].mean()))


_DOWN, _UP = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
_UNET: dict[str, Any] = {
    "sample_size": PIXELS // 2,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (_WIDTH, 2 * _WIDTH),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
_NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def _vae(depth: int = 2, **options: Any) -> AutoencoderKL:
    """Halves the sides `depth` - 1 times."""
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16)[:depth],
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=PIXELS,
        **options,
    )


def _flux_vae() -> AutoencoderKL:
    return _vae(depth=4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0)


def _text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _tokenizer(folder: Path, longest: int = 77) -> CLIPTokenizer:
    """One token for each letter, so that a prompt has as many tokens as letters."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,-'"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=longest)


def _feature_extractor() -> CLIPImageProcessor:
    side = {"height": PIXELS, "width": PIXELS}
    return CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size=side)
