"""Scenes from shards that mmsynth wrote, whole in memory: pictures as bytes, true and almost-true captions as text."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
import torch
import webdataset as wds

CHANGES = ("colour", "shape", "count", "relation")


@dataclass
class ScenePairs:
    """`pixels` is uint8 [n, 3, 64, 64]; `captions[i]` and `negatives[i]` belong to picture i."""

    pixels: torch.Tensor
    captions: list[list[str]] = field(default_factory=list)
    negatives: list[dict[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.captions)


def read_pairs(folder: str | Path, limit: int | None = None) -> ScenePairs:
    """All the scenes of a run's shards, or its first `limit`."""
    pictures: list[np.ndarray] = []
    pairs = ScenePairs(torch.empty(0))
    for sample in _samples(folder):
        pictures.append(np.asarray(PIL.Image.open(io.BytesIO(sample["jpg"])).convert("RGB")))
        record = json.loads(sample["json"])
        pairs.captions.append([entry["text"] for entry in record["captions"]])
        pairs.negatives.append(record["negatives"])
        if len(pairs) == limit:
            break
    pairs.pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return pairs


def _samples(folder: str | Path) -> Iterator[dict[str, bytes]]:
    shards = sorted(str(path) for path in Path(folder).glob("*.tar"))
    yield from wds.WebDataset(shards, shardshuffle=False)
