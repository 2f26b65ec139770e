"""Measure nano CLIP on scenes it has not seen: retrieval, and telling true captions from almost-true ones.

    python -m examples.nano.evaluate_clip --model nano --json figures.json

`recall_at_1`: of n scenes with full captions, how many pictures find their own caption among all n. `auc_…`: how often
a picture scores its own caption above an almost-true one of any scene, by what was changed; `auc_random` against
another scene's caption. `lost` and `kept_random`: the share of true pairs below the minimum that the demo uses, and of
pairs with another scene's caption above it. `wins_…`: how often its own caption scores above its own almost-true one.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from examples.nano import clip_model
from examples.nano.scene_pairs import CHANGES, ScenePairs, normalised, read_pairs

#: the cosine that the demo and the example filter ask for
MINIMUM = 0.35


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure nano CLIP.")
    parser.add_argument("--model", default="nano", help="nano (the shipped one), or a folder")
    parser.add_argument("--heldout", type=Path, default=Path("runs/nano/scenes_heldout"))
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    figures = evaluate(model_folder(options.model), read_pairs(options.heldout, options.scenes))
    for name, value in figures.items():
        print(f"{name:14} {value:.4f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def model_folder(model: str) -> Path:
    if model != "nano":
        return Path(model)
    import mmsynth_filters

    return Path(mmsynth_filters.__file__).parent / "nano_clip"


def evaluate(folder: Path, pairs: ScenePairs) -> dict[str, float]:
    """All figures, from the folder's weights as they would be loaded by anyone."""
    model, tokenizer = clip_model.load(folder)
    model.eval()
    started = time.monotonic()
    pictures = encode_pictures(model, pairs.pixels)
    # the second caption of each scene is the full one
    true = encode_texts(model, tokenizer, [captions[1] for captions in pairs.captions])
    rate = len(pairs) / (time.monotonic() - started)
    scores = pictures @ true.T
    own = scores.diagonal()
    shifted = (pictures * true.roll(1, 0)).sum(-1)
    figures = {
        "recall_at_1": float((scores.argmax(1) == torch.arange(len(scores))).float().mean()),
        "text_recall_at_1": float((scores.argmax(0) == torch.arange(len(scores))).float().mean()),
        "auc_random": auc(own, shifted),
        "lost": float((own < MINIMUM).float().mean()),
        "kept_random": float((shifted >= MINIMUM).float().mean()),
    }
    for change in CHANGES:
        having = [i for i, negatives in enumerate(pairs.negatives) if change in negatives]
        texts = encode_texts(model, tokenizer, [pairs.negatives[i][change] for i in having])
        false = (pictures[having] * texts).sum(-1)
        figures[f"auc_{change}"] = auc(own[having], false)
        figures[f"wins_{change}"] = float((own[having] > false).float().mean())
    return {name: round(value, 4) for name, value in figures.items()} | {"pairs_per_second": round(rate, 1)}


def auc(true: torch.Tensor, false: torch.Tensor) -> float:
    labels = np.concatenate([np.ones(len(true)), np.zeros(len(false))])
    return float(roc_auc_score(labels, torch.cat([true, false]).numpy()))


@torch.inference_mode()
def encode_pictures(model: Any, pixels: torch.Tensor, batch: int = 250) -> torch.Tensor:
    parts = [model.encode_image(normalised(part), normalize=True) for part in pixels.split(batch)]
    return torch.cat(parts)


@torch.inference_mode()
def encode_texts(model: Any, tokenizer: Any, texts: list[str], batch: int = 250) -> torch.Tensor:
    parts = [model.encode_text(tokenizer(texts[i : i + batch]), normalize=True) for i in range(0, len(texts), batch)]
    return torch.cat(parts)


if __name__ == "__main__":
    main()
