"""Train nano-diffusion's denoiser on shards that mmsynth wrote. Stops and goes on: run it again with the same folder.

    mmsynth run examples/nano/scenes_diffusion.yaml
    python -m examples.nano.train_autoencoder
    python -m examples.nano.train_diffusion
    torchrun --nproc-per-node 2 -m examples.nano.train_diffusion     # on two cores, or two GPUs

Flow matching (Lipman et al. 2023) on latents that are encoded once and kept, told by the text tower of nano CLIP, which
stays as it is. Between its two levels the UNet is asked what will stand in each cell, which the drawer knows: it learns
early to plan the picture by the prompt (after REPA, Yu et al. 2025, whose teacher is a vision model).
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import accelerate
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn import functional

from examples.nano import diffusion_model
from examples.nano.clip_model import schedule
from examples.nano.fact_heads import FactHeads, FactTargets, cells_of
from examples.nano.muon import Muon
from examples.nano.options import training_options
from examples.nano.ranks import save_state
from examples.nano.scene_pairs import normalised, read_scenes
from examples.nano.train_autoencoder import any_process, joined, side_by_side
from mmsynth.facts import Facts
from mmsynth_renderers.diffusion import NANO_GUIDANCE, NANO_STEPS
from mmsynth_renderers.scenes.vocabulary import BACKGROUNDS

#: share of the prompts that are left out, so that the model can be guided
_UNPROMPTED = 0.1
_PLAN_WEIGHT = 0.05
_EMA_DECAY = 0.999
#: deviation of the noise's offsets
_OFFSET = 0.3
_BACKGROUNDS = tuple(BACKGROUNDS)


def main() -> None:
    parser = training_options(
        "Train nano-diffusion's denoiser.",
        shards=Path("runs/nano/scenes_diffusion"),
        folder=Path("runs/nano/diffusion"),
        steps=5000,
        batch=64,
        lr=2e-3,
    )
    parser.add_argument("--clip", type=Path, default=Path("runs/nano/clip"), help="whose text tower to listen to")
    parser.add_argument("--start", type=Path, help="a pipeline whose denoiser to begin with, where there is no state")
    options = parser.parse_args()

    stop_at = time.monotonic() + 60 * options.minutes
    accelerator = joined()
    vae = AutoencoderKL.from_pretrained(options.folder / "vae")
    scenes = LatentScenes.read(options, vae, accelerator)
    accelerator.print(f"{len(scenes.latents):,} scenes, latents' scale {vae.config.scaling_factor:.3f}")
    training = Training(options, accelerator, vae)
    training.run(scenes, stop_at)


@dataclass
class LatentScenes:
    """`latents` [n, 12, 8, 8] of deviation 1; `texts[i]` are the captions of scene i, `backgrounds[i]` is a number."""

    latents: Tensor
    texts: list[list[str]]
    targets: FactTargets
    cells: Tensor
    backgrounds: Tensor

    @classmethod
    def read(
        cls, options: argparse.Namespace, vae: AutoencoderKL, accelerator: accelerate.Accelerator
    ) -> "LatentScenes":
        """Encoded by the first process that needs them, into `latents.pt`; writes the scale into the `vae`."""
        pixels, records = read_scenes(options.shards, options.limit)
        file = options.folder / "latents.pt"
        with accelerator.main_process_first():
            if not file.exists():
                torch.save(encode(vae, pixels, str(accelerator.device)), file)
        latents = torch.load(file, weights_only=True).float()
        vae.register_to_config(scaling_factor=1 / float(latents.std()))
        facts = [Facts.model_validate(record["facts"]) for record in records]
        texts = [[entry["text"] for entry in record["captions"]] for record in records]
        backgrounds = torch.tensor([_BACKGROUNDS.index(there.background) for there in facts])
        return cls(latents / latents.std(), texts, FactTargets.of(facts), cells_of(facts), backgrounds)

    def plan_of(self, chosen: Tensor, device: str) -> "Plan":
        return Plan(
            self.cells[chosen].long().to(device),
            self.targets.of_scenes(chosen, device),
            self.backgrounds[chosen].to(device),
        )


class Plan(NamedTuple):
    """What the pictures of some scenes should hold: `cells` [n, 64], their groups, the backgrounds' numbers [n]."""

    cells: Tensor
    groups: FactTargets
    backgrounds: Tensor


@torch.inference_mode()
def encode(vae: AutoencoderKL, pixels: Tensor, device: str, batch: int = 64) -> Tensor:
    """Latents of pictures, float16, not scaled."""
    vae = vae.to(device, memory_format=torch.channels_last).eval()
    pictures = (normalised(part).to(device, memory_format=torch.channels_last) for part in pixels.split(batch))
    return torch.cat([vae.encode(part).latent_dist.mode().half().cpu() for part in pictures])


class Losses(nn.Module):
    """The denoiser and what it is asked of."""

    def __init__(self, text_width: int) -> None:
        super().__init__()
        self.unet = diffusion_model.denoiser(text_width)
        self.heads = FactHeads(1, diffusion_model.PLAN_WIDTH)
        self.background = nn.Linear(diffusion_model.PLAN_WIDTH, len(_BACKGROUNDS))
        self._plan = torch.empty(0)
        self.unet.up_blocks[0].register_forward_hook(self._keep_plan)

    def _keep_plan(self, _block: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._plan = output

    def forward(self, latents: Tensor, noise: Tensor, time: Tensor, text: Tensor, plan: Plan) -> dict[str, Tensor]:
        """`time` [n] from 0 (the picture) to 1 (noise)."""
        level = time[:, None, None, None]
        said = self.unet((1 - level) * latents + level * noise, 1000 * time, text).sample
        background = functional.cross_entropy(self.background(self._plan.mean((2, 3))), plan.backgrounds)
        planned = self.heads.cell_loss(self._plan, plan.cells, plan.groups)
        return {
            "flow": functional.mse_loss(said, noise - latents),
            "plan": _PLAN_WEIGHT * planned,
            "background": _PLAN_WEIGHT * background,
        }


def noise_levels(n: int, generator: torch.Generator) -> Tensor:
    """[n] from 0 to 1: middling ones most often (Esser et al. 2024), and each third between 0.85 and 1.

    A background shows through all other noise: only where there is hardly anything else is it learned from the words.
    """
    levels = torch.randn(n, generator=generator).sigmoid()
    levels[::3] = 1 - 0.15 * torch.rand(len(levels[::3]), generator=generator)
    return levels


def noise_like(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Noise with an offset for each whole channel (Guttenberg 2023), which hides a background like anything else."""
    offset = torch.randn((*latents.shape[:2], 1, 1), generator=generator)
    return torch.randn(latents.shape, generator=generator) + _OFFSET * offset


class Training:
    """The loop; `denoiser.pt` holds where it is, `pipeline/` the model, `samples.png` what it draws."""

    def __init__(self, options: argparse.Namespace, accelerator: accelerate.Accelerator, vae: AutoencoderKL) -> None:
        self.options, self.accelerator, self.vae = options, accelerator, vae
        torch.manual_seed(options.seed)
        encoder, self.tokenizer = diffusion_model.text_encoder(options.clip)
        self.encoder = encoder.to(accelerator.device).requires_grad_(False)
        losses = Losses(encoder.config.hidden_size)
        if options.start:
            losses.unet.load_state_dict(UNet2DConditionModel.from_pretrained(options.start / "unet").state_dict())
        optimizer = Muon(losses, options.lr, weight_decay=0.01)
        self.average = EMAModel(losses.unet.parameters(), decay=_EMA_DECAY, use_ema_warmup=True, power=0.75)
        self.step, self.state_file = 0, options.folder / "denoiser.pt"
        if self.state_file.exists():
            state = torch.load(self.state_file, map_location="cpu", weights_only=True)
            losses.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            self.average.load_state_dict(state["average"])
            self.step = state["step"]
        self.losses, self.optimizer = accelerator.prepare(losses, optimizer)
        self.average.to(accelerator.device)

    def run(self, scenes: LatentScenes, stop_at: float) -> None:
        started, first = time.monotonic(), self.step
        total: dict[str, float] = {}
        while self.step < self.options.steps and not any_process(self.accelerator, time.monotonic() > stop_at):
            for name, loss in self._train_step(scenes).items():
                total[name] = total.get(name, 0.0) + float(loss.detach()) / 50
            if self.step % 50 == 0:
                rate = (self.step - first) * self.options.batch / (time.monotonic() - started)
                said = {name: round(value, 4) for name, value in total.items()}
                self.accelerator.print(
                    json.dumps({"step": self.step, **said, "pictures_per_second": round(rate)}), flush=True
                )
                total = {}
            if self.step % 250 == 0:
                self._save(scenes)
        self._save(scenes)  # also where nothing was left to do: the autoencoder may be another

    def _train_step(self, scenes: LatentScenes) -> dict[str, Tensor]:
        """One step. Its scenes and noise come from the seed and the step number, so going on is as if never stopped."""
        device, ranks = self.accelerator.device, self.accelerator.num_processes
        seed = (self.options.seed * 1_000_003 + self.step) * ranks + self.accelerator.process_index
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(scenes.latents), (self.options.batch // ranks,), generator=generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * schedule(self.step, self.options.steps)
        latents = scenes.latents[chosen].to(device)
        noise = noise_like(latents, generator).to(device)
        level = noise_levels(len(chosen), generator).to(device)
        text, plan = self._text(scenes, chosen, generator), scenes.plan_of(chosen, str(device))
        losses = self.losses(latents, noise, level, text, plan)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(sum(losses.values(), start=torch.zeros((), device=device)))
        self.accelerator.clip_grad_norm_(self.losses.parameters(), 1.0)
        self.optimizer.step()
        self.average.step(self.accelerator.unwrap_model(self.losses).unet.parameters())
        self.step += 1
        return losses

    def _text(self, scenes: LatentScenes, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Features of one caption of each scene, or of none, as the pipeline computes them."""
        draws = torch.rand(2, len(chosen), generator=generator)
        prompts = []
        for scene, which, left_out in zip(chosen.tolist(), *draws.tolist(), strict=True):
            texts = scenes.texts[scene]
            prompts.append("" if left_out < _UNPROMPTED else texts[int(which * len(texts))])
        ids = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            return self.encoder(ids.to(self.accelerator.device))[0]

    def _save(self, scenes: LatentScenes) -> None:
        """The state, the pipeline with the averaged weights, and what it draws of the first prompts."""
        if not self.accelerator.is_main_process:
            return
        losses: Any = self.accelerator.unwrap_model(self.losses)
        state = {"model": losses.state_dict(), "optimizer": self.optimizer.state_dict()}
        save_state(state | {"average": self.average.state_dict(), "step": self.step}, self.state_file)
        unet = losses.unet
        self.average.store(unet.parameters())
        self.average.copy_to(unet.parameters())
        pipeline = diffusion_model.pipeline(self.vae, unet, self.options.clip)
        pipeline.save_pretrained(self.options.folder / "pipeline")
        pipeline.set_progress_bar_config(disable=True)
        prompts = [texts[0] for texts in scenes.texts[:24]]
        generators = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
        arguments: dict[str, Any] = {"num_inference_steps": NANO_STEPS, "guidance_scale": NANO_GUIDANCE}
        drawn = pipeline(prompts, generator=generators, output_type="pt", **arguments).images
        self.average.restore(unet.parameters())
        side_by_side(self.options.folder / "samples.png", 2 * drawn.float() - 1)


if __name__ == "__main__":
    main()
