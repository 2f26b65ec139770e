"""Before contrast: each tower of nano CLIP alone learns what a scene's facts are. One on each core, at the same time.

    python -m examples.nano.train_towers image & python -m examples.nano.train_towers text & wait

`train_clip` goes on from what they leave in the folder. Alone they take many small steps in the time in which both
together take few large ones, and small steps are what it takes to find out what left and right are.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.nano import clip_model
from examples.nano.claims import Claims
from examples.nano.fact_heads import FactHeads, FactTargets, cells_of
from examples.nano.options import training_options
from examples.nano.ranks import Ranks
from examples.nano.scene_pairs import ScenePairs, normalised, read_pairs

TOWERS = ("image", "text")
#: moments in a caption at which its text is asked what it has just claimed
_MOMENTS = 4


def main() -> None:
    parser = training_options(
        "Train one tower of nano CLIP on facts.",
        shards=Path("runs/nano/scenes_train"),
        folder=Path("runs/nano/clip"),
        steps=4000,
        batch=64,
        lr=1e-3,
    )
    parser.add_argument("tower", choices=TOWERS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = read_pairs(options.shards, options.limit)
    clip_model.create_if_missing(options.folder, pairs, options.seed)
    TowerTraining(options, pairs).run()


def state_file(folder: Path, tower: str) -> Path:
    return folder / f"{tower}_tower.pt"


class TowerTraining(nn.Module):
    """A CLIP model of which one tower learns, its heads, the optimizer and the step."""

    def __init__(self, options: argparse.Namespace, pairs: ScenePairs) -> None:
        super().__init__()
        torch.manual_seed(options.seed)
        self.options = options
        self.model, tokenizer = clip_model.load(options.folder)
        self.heads = FactHeads(*clip_model.widths(self.model))
        self.lesson = _LESSONS[options.tower](pairs, tokenizer)
        self.optimizer = torch.optim.AdamW(self.parameters(), lr=options.lr, weight_decay=0.05, betas=(0.9, 0.98))
        self.step, self.state_file = 0, state_file(options.folder, options.tower)
        if self.state_file.exists():
            state = torch.load(self.state_file, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.heads.load_state_dict(state["heads"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def run(self) -> None:
        self.train()
        started, first = time.monotonic(), self.step
        stop_at = started + 60 * self.options.minutes
        while self.step < self.options.steps and time.monotonic() < stop_at:
            loss = self._train_step()
            if self.step % 100 == 0 or self.step == self.options.steps:
                rate = (self.step - first) * self.options.batch / (time.monotonic() - started)
                print(
                    json.dumps({"step": self.step, "loss": round(loss, 4), "scenes_per_second": round(rate)}),
                    flush=True,
                )
                self._save()

    def _train_step(self) -> float:
        """One step. Its scenes come from the seed and the step number, so going on is as if never stopped."""
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * clip_model.schedule(self.step, self.options.steps)
        loss = self.lesson.loss(self.model, self.heads, self.options.batch, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def _save(self) -> None:
        state: dict[str, Any] = {"model": self.model.state_dict(), "heads": self.heads.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "step": self.step}
        Ranks(rank=0, count=1, device="cpu").save(state, self.state_file)


class ImageLesson:
    """Pictures: their embedding is asked for the facts, and every cell of their map for what stands there."""

    def __init__(self, pairs: ScenePairs, _tokenizer: Any) -> None:
        self._pixels, self._targets, self._cells = pairs.pixels, FactTargets.of(pairs.facts), cells_of(pairs.facts)

    def loss(self, model: Any, heads: FactHeads, batch: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(self._pixels), (batch,), generator=generator)
        targets = self._targets.of_scenes(chosen, "cpu")
        embedded, seen = clip_model.encode_with_cells(model, normalised(self._pixels[chosen]))
        return heads.embedding_loss(embedded, targets) + heads.cell_loss(seen, self._cells[chosen].long(), targets)


class TextLesson:
    """Captions, true or almost true: asked for their claims at their end, and where a claim has just been made."""

    def __init__(self, pairs: ScenePairs, tokenizer: Any) -> None:
        captions = [text for own in pairs.captions for text in own]
        captions += [text for own in pairs.negatives for text in own.values()]
        self._claims = Claims.of(captions, tokenizer.tokenizer)
        self._tokens = clip_model.token_ids(tokenizer, captions)

    def loss(self, model: Any, heads: FactHeads, batch: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(self._tokens), (batch,), generator=generator)
        ids = self._tokens[chosen].long()
        embedded = functional.normalize(clip_model.text_features(model, ids) @ model.text_projection, dim=-1)
        ends = embedded[torch.arange(batch), ids.argmax(1)]
        loss = heads.embedding_loss(ends, self._claims.by_end.of_scenes(chosen, "cpu"))
        which, at, looks, sides = self._claims.moments(chosen, _MOMENTS, generator)
        return loss + heads.side_loss(embedded[which, at], looks, sides)


_LESSONS = {"image": ImageLesson, "text": TextLesson}


if __name__ == "__main__":
    main()
