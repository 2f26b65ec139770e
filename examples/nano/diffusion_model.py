"""nano-diffusion's shape, as the folder that diffusers loads by itself: a Stable Diffusion pipeline, very small.

Its text encoder is nano CLIP's text tower, under transformers' names. The autoencoder makes 8 × 8 latents of a picture
of 64 × 64 pixels, and the UNet, with attention at both of its levels, removes their noise (flow matching).
"""

from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from examples.nano import clip_model

IMAGE_SIZE, GRID, CHANNELS = 64, 8, 12
#: features of the UNet's middle at 8 × 8, where it has settled what stands where
PLAN_WIDTH = 160


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 24, 48, 96),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
    )


def denoiser(text_width: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=GRID,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(96, PLAN_WIDTH),
        layers_per_block=1,
        cross_attention_dim=text_width,
        attention_head_dim=4,  # the number of heads, whatever its name
        norm_num_groups=16,
    )


def text_encoder(clip_folder: str | Path) -> tuple[CLIPTextModel, PreTrainedTokenizerFast]:
    """nano CLIP's text tower and tokenizer: the same numbers under the names of transformers' CLIP."""
    clip, _ = clip_model.load(Path(clip_folder))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(clip_folder)
    shape = clip_model.config(len(tokenizer))["model_cfg"]["text_cfg"]
    config = CLIPTextConfig(
        vocab_size=shape["vocab_size"],
        hidden_size=shape["width"],
        intermediate_size=4 * shape["width"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        max_position_embeddings=shape["context_length"],
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoder = CLIPTextModel(config)
    encoder.load_state_dict(_transformers_names(clip), strict=True)
    return encoder.eval(), tokenizer


def _transformers_names(clip: open_clip.CLIP) -> dict[str, torch.Tensor]:
    named = {
        "embeddings.token_embedding.weight": clip.token_embedding.weight,
        "embeddings.position_embedding.weight": clip.positional_embedding,
        "final_layer_norm.weight": clip.ln_final.weight,
        "final_layer_norm.bias": clip.ln_final.bias,
    }
    for i, block in enumerate(clip.transformer.resblocks):
        parts: dict[str, Any] = {
            "layer_norm1": block.ln_1,
            "layer_norm2": block.ln_2,
            "self_attn.out_proj": block.attn.out_proj,
            "mlp.fc1": block.mlp.c_fc,
            "mlp.fc2": block.mlp.c_proj,
        }
        for name, part in parts.items():
            named |= {f"encoder.layers.{i}.{name}.{kind}": getattr(part, kind) for kind in ("weight", "bias")}
        for name, weight, bias in zip(
            ("q_proj", "k_proj", "v_proj"),
            block.attn.in_proj_weight.chunk(3),
            block.attn.in_proj_bias.chunk(3),
            strict=True,
        ):
            named |= {f"encoder.layers.{i}.self_attn.{name}.weight": weight}
            named |= {f"encoder.layers.{i}.self_attn.{name}.bias": bias}
    return named


def pipeline(vae: AutoencoderKL, unet: UNet2DConditionModel, clip_folder: str | Path) -> StableDiffusionPipeline:
    """The whole, for `save_pretrained`, or to draw with."""
    encoder, tokenizer = text_encoder(clip_folder)
    # the offset changes nothing for flow matching: Stable Diffusion's pipeline warns without it
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, steps_offset=1)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
