"""Train nano CLIP on shards that mmsynth wrote. Stops and goes on: run it again with the same folder.

    mmsynth run examples/nano/scenes_train.yaml
    python -m examples.nano.train_clip --minutes 60

open_clip gives the model, the tokenizer wrapper and the format. The loop is ours and short, because the loss needs
one thing that open_clip_train does not do: every picture also sees almost-true captions of itself (one colour, shape,
count or relation changed) among the texts it must not choose, after NegCLIP (Yuksekgonul et al. 2023).
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from examples.nano import clip_model
from examples.nano.evaluate_clip import evaluate
from examples.nano.scene_pairs import ScenePairs, read_pairs


def main() -> None:
    parser = argparse.ArgumentParser(description="Train nano CLIP.")
    parser.add_argument("--shards", type=Path, default=Path("runs/nano/scenes_train"))
    parser.add_argument("--heldout", type=Path, default=Path("runs/nano/scenes_heldout"))
    parser.add_argument("--folder", type=Path, default=Path("runs/nano/clip"), help="weights and state, to go on from")
    parser.add_argument("--steps", type=int, default=1600, help="of the whole schedule")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long; run again to go on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    pairs = read_pairs(options.shards)
    print(f"{len(pairs):,} scenes")
    if not (options.folder / "open_clip_config.json").exists():
        torch.manual_seed(options.seed)
        clip_model.create_folder(options.folder, (text for texts in pairs.captions for text in texts))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    Training(options, pairs, device).run(read_pairs(options.heldout, limit=1000))


class Training:
    """Model, optimizer and step; everything that a checkpoint holds."""

    def __init__(self, options: argparse.Namespace, pairs: ScenePairs, device: str) -> None:
        self.options, self.pairs, self.device = options, pairs, device
        self.model, tokenizer = clip_model.load(options.folder)
        self.model.to(device)
        self.tokens = TokenizedScenes(pairs, tokenizer)
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        rest = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98), eps=1e-6)
        self.step = 0
        self.state_file = options.folder / "training.pt"
        if self.state_file.exists():
            state = torch.load(self.state_file, map_location=device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def run(self, heldout: ScenePairs) -> None:
        stop = time.monotonic() + 60 * self.options.minutes
        self.model.train()
        started, first = time.monotonic(), self.step
        while self.step < self.options.steps and time.monotonic() < stop:
            loss = self._train_step()
            if self.step % 20 == 0:
                rate = (self.step - first) * self.options.batch / (time.monotonic() - started)
                self._log(step=self.step, loss=round(loss, 4), scenes_per_second=round(rate, 1))
            if self.step % 20 == 0:
                self._save()
            if self.step % 200 == 0:
                self._log(step=self.step, **evaluate(self.options.folder, heldout))
        self._save()
        self._log(step=self.step, **evaluate(self.options.folder, heldout))

    def _train_step(self) -> float:
        """One step. Its scenes come from the seed and the step number, so going on is as if never stopped."""
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + self.step)
        chosen = torch.randint(len(self.pairs), (self.options.batch,), generator=generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * schedule(self.step, self.options.steps)
        pictures = normalised(self.pairs.pixels[chosen]).to(self.device)
        texts = self.tokens.batch(chosen.tolist(), generator).to(self.device)
        loss = negclip_loss(self.model, pictures, texts)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        self.step += 1
        return float(loss.detach())

    def _save(self) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        part = self.state_file.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.state_file)
        clip_model.save_weights(self.options.folder, self.model, torch.float16)

    def _log(self, **values: Any) -> None:
        print(json.dumps(values), flush=True)
        with (self.options.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(values) + "\n")


#: colours are learned from the other scenes of a batch; what is harder is practised more
NEGATIVE_WEIGHTS = {"colour": 1.0, "shape": 3.0, "count": 3.0, "relation": 3.0}


class TokenizedScenes:
    """Every caption as token ids, made once."""

    def __init__(self, pairs: ScenePairs, tokenizer: Any) -> None:
        self._true = [tokenizer(texts).to(torch.int16) for texts in pairs.captions]
        self._false = [tokenizer(list(texts.values())).to(torch.int16) for texts in pairs.negatives]
        self._weights = [torch.tensor([NEGATIVE_WEIGHTS[change] for change in texts]) for texts in pairs.negatives]

    def batch(self, scenes: list[int], generator: torch.Generator) -> torch.Tensor:
        """[3·batch, tokens]: a true caption of each scene, then two almost-true ones of each; cut to the longest."""
        rows = [self._true[i][int(torch.randint(len(self._true[i]), (1,), generator=generator))] for i in scenes]
        for i in scenes:
            chosen = torch.multinomial(self._weights[i], 2, generator=generator)
            rows += [self._false[i][int(j)] for j in chosen]
        texts = torch.stack(rows).long()
        # after the longest caption there is only padding, which a causal tower never looks at
        return texts[:, : int((texts != 0).sum(1).max())]


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (clip_model.MEAN, clip_model.STD))
    return (pixels.float() / 255 - mean) / std


def encode_text(model: Any, texts: torch.Tensor) -> torch.Tensor:
    """open_clip's `encode_text(normalize=True)` for texts cut shorter than the context."""
    length = texts.shape[1]
    x = model.token_embedding(texts) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    ends = x[torch.arange(len(x), device=x.device), texts.argmax(dim=-1)]
    return functional.normalize(ends @ model.text_projection, dim=-1)


def negclip_loss(model: Any, pictures: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Pictures against all texts, true and almost true; true texts against all pictures."""
    batch = len(pictures)
    image_features = model.encode_image(pictures, normalize=True)
    text_features = encode_text(model, texts)
    logits = model.logit_scale.exp() * image_features @ text_features.T
    truth = torch.arange(batch, device=logits.device)
    return (functional.cross_entropy(logits, truth) + functional.cross_entropy(logits[:, :batch].T, truth)) / 2


def schedule(step: int, steps: int, warmup: int = 100) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


if __name__ == "__main__":
    main()
