"""One process or several that train together: torchrun starts them, this is all that a training loop needs of them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Ranks:
    """This process among `count`, and its device."""

    rank: int
    count: int
    device: str

    @classmethod
    def join(cls) -> "Ranks":
        """As torchrun's environment says; alone without it."""
        rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        device = "cpu"
        if torch.cuda.is_available():
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        if count > 1:
            distributed.init_process_group("nccl" if device != "cpu" else "gloo")
        return cls(rank, count, device)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def say(self, text: str) -> None:
        if self.first:
            print(text, flush=True)

    def wait(self) -> None:
        if self.count > 1:
            distributed.barrier()

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if self.count == 1:
            return here
        flag = torch.tensor([float(here)], device=self.device)
        distributed.all_reduce(flag)
        return bool(flag.item())

    def save(self, state: dict[str, Any], file: Path) -> None:
        """The first process writes it, whole or not at all."""
        if self.first:
            save_state(state, file)

    def average_gradients(self, module: nn.Module) -> None:
        """The mean over all processes, in one message."""
        if self.count == 1:
            return
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def save_state(state: dict[str, Any], file: Path) -> None:
    """Whole or not at all."""
    part = file.with_suffix(".part")
    torch.save(state, part)
    part.replace(file)
