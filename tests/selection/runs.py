"""Runs to decide from: photographs with captions and scores as given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmsynth as mm
from mmsynth.blocks import Block, Item
from mmsynth.sample import Sample
from mmsynth.shards.folder import RunFolder
from mmsynth.shards.writer import ShardWriter
from mmsynth.testing import photo_samples
from tests.engine.run_files import rows


def write_run(folder: Path, samples: Sequence[Sample], scores: Sequence[str] = ("clip",), per_shard: int = 10) -> Path:
    """A run as the engine leaves it, with scores as given."""
    made = RunFolder(folder)
    made.start(mm.scenes(len(samples)).recipe, "cpu")
    for index, start in enumerate(range(0, len(samples), per_shard)):
        writer = ShardWriter(made.storage, Block(index, None, None), scores, [])
        for sample in samples[start : start + per_shard]:
            writer.add(Item(sample.key, sample))
        made.add(index, writer.commit())
    made.finish(mm.scenes(len(samples)).recipe, "cpu")
    return folder


def scored(n: int = 30, **more: Any) -> list[Sample]:
    """Photographs with captions of i + 1 words and the CLIP score i / 100."""
    return [
        Sample(f"k{i:03d}", photo.image, " ".join(["word"] * (i + 1))).with_scores(clip=i / 100).with_record(**more)
        for i, photo in enumerate(photo_samples(n))
    ]


def kept(folder: Path) -> set[str]:
    return {row["key"] for row in rows(folder)}
