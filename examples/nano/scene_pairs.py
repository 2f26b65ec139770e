"""Scenes from shards that mmsynth wrote, whole in memory: pictures, true and almost-true captions, facts."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import webdataset as wds

from mmsynth.facts import Facts

CHANGES = ("colour", "shape", "count", "relation")


@dataclass
class ScenePairs:
    """`pixels` is uint8 [n, 3, 64, 64]; `captions[i]`, `negatives[i]` and `facts[i]` belong to picture i."""

    pixels: torch.Tensor
    captions: list[list[str]] = field(default_factory=list)
    negatives: list[dict[str, str]] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.captions)


def read_pairs(folder: str | Path, limit: int | None = None, shared: bool = False) -> ScenePairs:
    """All the scenes of a run's shards, or its first `limit`; `shared`: torchrun's processes have some shards each."""
    pixels, records = read_scenes(folder, limit, shared)
    return ScenePairs(
        pixels,
        [[entry["text"] for entry in record["captions"]] for record in records],
        [record["negatives"] for record in records],
        [Facts.model_validate(record["facts"]) for record in records],
    )


def read_scenes(
    folder: str | Path, limit: int | None = None, shared: bool = False
) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """The same as pixels, uint8 [n, 3, 64, 64], and whole records."""
    pictures, records = [], []
    for sample in _samples(folder, shared):
        pictures.append(np.asarray(PIL.Image.open(io.BytesIO(sample["jpg"])).convert("RGB")))
        records.append(json.loads(sample["json"]))
        if len(records) == limit:
            break
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), records


def _samples(folder: str | Path, shared: bool) -> Iterator[dict[str, bytes]]:
    shards = sorted(str(path) for path in Path(folder).glob("*.tar"))
    yield from wds.WebDataset(shards, shardshuffle=False, nodesplitter=wds.split_by_node if shared else iter)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 to floats from -1 to 1, as the nano models take them."""
    return pixels.float() / 127.5 - 1
