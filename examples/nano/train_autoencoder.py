"""Train nano-diffusion's autoencoder on shards that mmsynth wrote. Stops and goes on with the same folder.

    python -m examples.nano.train_autoencoder
    torchrun --nproc-per-node 2 -m examples.nano.train_autoencoder     # on two cores, or two GPUs

A variational autoencoder, and two things that a small denoiser needs of its latents: what stands in
each cell can be read off them (after Yao et al. 2025, who align latents with a vision model; here the drawer knows),
and the decoder forgives some noise in them, so that a latent that is nearly right still becomes a clean shape.
The last steps are the decoder's alone: the latents stay as they are, and a denoiser may be learning them already.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from examples.nano import diffusion_model
from examples.nano.clip_model import schedule
from examples.nano.fact_heads import FactHeads, FactTargets, cells_of
from examples.nano.muon import Muon
from examples.nano.options import training_options
from examples.nano.ranks import save_state
from examples.nano.scene_pairs import normalised, read_scenes
from mmsynth.facts import Facts

_KL_WEIGHT, _CELL_WEIGHT = 1e-3, 0.01
#: pixels that are not background count so much more: a fifth of them are
_OBJECT_WEIGHT = 3.0
#: the most noise the decoder is taught to forgive; the latents have a deviation of some 1.5
_NOISE = 0.5
_HEAD_WIDTH = 64


def main() -> None:
    parser = training_options(
        "Train nano-diffusion's autoencoder.",
        shards=Path("runs/nano/scenes_diffusion"),
        folder=Path("runs/nano/diffusion"),
        steps=5000,
        batch=16,
        lr=2e-3,
    )
    parser.add_argument("--start", type=Path, help="an autoencoder to begin with, where there is no state")
    parser.add_argument("--decoder-steps", type=int, default=4000, help="after them, of the decoder alone")
    options = parser.parse_args()

    stop_at = time.monotonic() + 60 * options.minutes
    accelerator = joined()
    pixels, records = read_scenes(options.shards, options.limit)
    accelerator.print(f"{len(pixels):,} pictures")
    options.folder.mkdir(parents=True, exist_ok=True)
    facts = [Facts.model_validate(record["facts"]) for record in records]
    Training(options, accelerator).run(pixels, facts, stop_at)


def joined() -> accelerate.Accelerator:
    """This process among those that torchrun started; not every parameter has a gradient in every step."""
    kwargs = accelerate.DistributedDataParallelKwargs(find_unused_parameters=True)
    return accelerate.Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[kwargs])


class Losses(nn.Module):
    """The autoencoder and what it is asked of: everything that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.vae = diffusion_model.autoencoder()
        self.look = nn.Sequential(nn.Conv2d(diffusion_model.CHANNELS, _HEAD_WIDTH, 3, padding=1), nn.SiLU())
        self.heads = FactHeads(1, _HEAD_WIDTH)

    def forward(
        self, pictures: Tensor, cells: Tensor, targets: FactTargets, decoder_only: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.set_grad_enabled(not decoder_only):
            seen = self.vae.encode(pictures).latent_dist
            latents = seen.sample()
        level = _NOISE * torch.rand(len(latents), 1, 1, 1, device=latents.device)
        drawn = self.vae.decode(latents + level * torch.randn_like(latents)).sample
        # a corner pixel is background in every scene; the second tone of a pattern counts as an object, and may
        there = (pictures - pictures[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.2
        weight = 1 + (_OBJECT_WEIGHT - 1) * there
        # absolute, not squared: scenes are flat colours, and edges should be hard
        error = ((drawn - pictures).abs() * weight).sum() / (3 * weight.sum())
        if decoder_only:
            return drawn, {"error": error}
        kl = _KL_WEIGHT * seen.kl().mean() / latents[0].numel()
        return drawn, {
            "error": error,
            "kl": kl,
            "cells": _CELL_WEIGHT * self.heads.cell_loss(self.look(latents), cells, targets),
        }


class Training:
    """The loop; `autoencoder.pt` holds where it is, `vae/` the weights, `autoencoder.png` what it makes of pictures."""

    def __init__(self, options: argparse.Namespace, accelerator: accelerate.Accelerator) -> None:
        self.options, self.accelerator = options, accelerator
        torch.manual_seed(options.seed)
        losses = Losses()
        if options.start:
            losses.vae.load_state_dict(AutoencoderKL.from_pretrained(options.start).state_dict())
        losses = losses.to(memory_format=torch.channels_last)
        optimizer = Muon(losses, options.lr, weight_decay=0.01)
        self.step, self.state_file = 0, options.folder / "autoencoder.pt"
        if self.state_file.exists():
            state = torch.load(self.state_file, map_location="cpu", weights_only=True)
            losses.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
        self.losses, self.optimizer = accelerator.prepare(losses, optimizer)

    def run(self, pixels: Tensor, facts: list[Facts], stop_at: float) -> None:
        targets, cells = FactTargets.of(facts), cells_of(facts)
        started, first = time.monotonic(), self.step
        while self.step < self._steps() and not any_process(self.accelerator, time.monotonic() > stop_at):
            pictures, drawn, losses = self._train_step(pixels, targets, cells)
            if self.step % 20 == 0 or self.step == self._steps():
                rate = (self.step - first) * self.options.batch / (time.monotonic() - started)
                said = {name: round(float(loss.detach()), 5) for name, loss in losses.items()}
                self.accelerator.print(
                    json.dumps({"step": self.step, **said, "pictures_per_second": round(rate)}), flush=True
                )
            if self.step % 100 == 0:
                self._save(pictures, drawn.detach())
        if self.step > first:
            self._save(pictures, drawn.detach())

    def _train_step(
        self, pixels: Tensor, targets: FactTargets, cells: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        device, ranks = self.accelerator.device, self.accelerator.num_processes
        seed = (self.options.seed * 1_000_003 + self.step) * ranks + self.accelerator.process_index
        torch.manual_seed(seed)
        chosen = torch.randint(len(pixels), (self.options.batch // ranks,))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * self._schedule()
        pictures = normalised(pixels[chosen]).to(device, memory_format=torch.channels_last)
        there = cells[chosen].long().to(device), targets.of_scenes(chosen, str(device))
        drawn, losses = self.losses(pictures, *there, decoder_only=self.step >= self.options.steps)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(sum(losses.values(), start=torch.zeros((), device=device)))
        self.accelerator.clip_grad_norm_(self.losses.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return pictures, drawn, losses

    def _steps(self) -> int:
        return int(self.options.steps + self.options.decoder_steps)

    def _schedule(self) -> float:
        steps = self.options.steps
        if self.step < steps:
            return schedule(self.step, steps)
        return schedule(self.step - steps, self.options.decoder_steps)

    def _save(self, pictures: Tensor, drawn: Tensor) -> None:
        if not self.accelerator.is_main_process:
            return
        losses: Any = self.accelerator.unwrap_model(self.losses)
        state = {"model": losses.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        save_state(state, self.state_file)
        vae: AutoencoderKL = losses.vae
        vae.save_pretrained(self.options.folder / "vae")
        side_by_side(self.options.folder / "autoencoder.png", torch.cat([pictures[:8], drawn[:8]]))


def side_by_side(file: Path, pictures: Tensor, columns: int = 8) -> None:
    """Pictures [n, 3, 64, 64] from -1 to 1 as one, four times as large."""
    rows = pictures.clamp(-1, 1).unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    sheet = PIL.Image.fromarray(((rows.cpu().numpy() + 1) * 127.5).round().astype(np.uint8))
    sheet.resize((4 * sheet.width, 4 * sheet.height), PIL.Image.Resampling.NEAREST).save(file)


def any_process(accelerator: accelerate.Accelerator, here: bool) -> bool:
    """Whether it is so in any process."""
    flag = torch.tensor([float(here)], device=accelerator.device)
    return bool(accelerator.reduce(flag).item())


if __name__ == "__main__":
    main()
