"""The demo: nano-diffusion draws, nano-vlm captions and answers, one caption in five is swapped, nano CLIP filters.

Everything is offline and real: the models, the shards, and the two truths that measure the verdict, the planted swaps
and the pixels. The stages come from plugins by name, as in any recipe.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mmsynth as mm
from mmsynth import registry
from mmsynth.blocks import ON_DISK
from mmsynth.cli import show
from mmsynth.image import Image
from mmsynth.pipeline import Pipeline, source
from mmsynth.sample import Result, Sample
from mmsynth.stage import Captioner, Stage

#: lies between nano CLIP's scores of true and of swapped captions
MIN_SCORE = 0.35
_SHARE_SWAPPED = 0.2
_SCENES_SEED = 2026
#: the part of the scene world that nano-diffusion draws
_WORLD = "nano"
_QUESTIONS = ["What objects are there?", "How many objects are there?", "What is the background like?"]


class SwappedCaptions(Captioner):
    """Gives one sample in five the caption of another scene, and says so in `record["swapped"]`."""

    n: int
    scenes_seed: int = 0

    _source: Any = None
    _captioner: Stage | None = None

    def setup(self, device: str) -> None:
        self._source = registry.load("source", "scenes")(n=self.n, seed=self.scenes_seed, world=_WORLD)
        captioner: Stage = registry.load("caption", "facts")(qa=0)
        self._captioner = self.sub_stage(captioner)

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [self._swapped(sample) for sample in batch]

    def _swapped(self, sample: Sample) -> Sample:
        rng = self.rng_of(sample)
        if rng.random() >= _SHARE_SWAPPED:
            return sample.with_record(swapped=False)
        own = sample.record["source"]["index"]
        other = (own + rng.randrange(1, self.n)) % self.n
        stranger = next(iter(self._source.read({"start": other, "stop": other + 1})))
        assert self._captioner is not None, "setup() comes before process()"
        spoken = self._captioner.process([stranger])[0]
        assert isinstance(spoken, Sample), "every scene has facts to speak of"
        # remove the true captions, or the record would still hold a good pair
        swapped = replace(sample, caption=None).with_record(captions=[], qa=[], swapped=True)
        return swapped.with_caption(spoken.caption or "", model="swapped")


def demo_pipeline(n: int, out: Path) -> Pipeline:
    """The demo's recipe."""
    return (
        source("scenes", n, seed=_SCENES_SEED, world=_WORLD)
        .render("diffusion", batch_size=25)
        .caption("vlm", batch_size=32)
        .caption("ask", questions=_QUESTIONS, batch_size=32)
        .caption(SwappedCaptions(n=n, scenes_seed=_SCENES_SEED))
        .filter("scene_truth")
        .filter("clip", min=MIN_SCORE)
        .into(out, samples_per_shard=100)
    )


def run_demo(pipeline: Pipeline, n: int) -> None:
    """Run the demo, and print its results."""
    out = Path(pipeline.recipe.out.path or "")
    show.say(
        f"{n} prompts: drawn by nano-diffusion, captioned and asked about by nano-vlm, one caption in five swapped, "
        f"filtered by nano CLIP at {MIN_SCORE}"
    )
    with show.progress("samples") as on_progress:
        report = pipeline.run(on_progress=on_progress)
    show.report(report)
    show.say(str(verdict(out, n)))
    show.say(str(truth(out)))
    kept = read_back(out)
    sheet = out / "contact_sheet.png"
    _contact_sheet(kept, sheet)
    pairs = sum(len(sample.record.get("qa", ())) for sample in kept)
    show.say(f"webdataset reads back {len(kept)} pairs with {pairs} questions and answers from {out}")
    show.say(f"look at {sheet}, or: mmsynth info {out}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the filter did against the planted truth."""

    swapped: int
    found: int
    good: int
    lost: int

    def __str__(self) -> str:
        return (
            f"of {self.swapped} swapped captions the filter dropped {self.found} ({self.found / self.swapped:.0%}); "
            f"of {self.good} others it dropped {self.lost} ({self.lost / self.good:.1%})"
        )


def verdict(out: Path, n: int) -> Verdict:
    """Compare the samples kept with the captions swapped, which follow from seed and key."""
    stages = demo_pipeline(n, out).recipe.bound_stages()
    swapper = next(stage for stage in stages if isinstance(stage, SwappedCaptions))
    rows = _rows(out)
    swapped = {row["key"] for row in rows if swapper.rng_of(Sample(row["key"])).random() < _SHARE_SWAPPED}
    dropped = {row["key"] for row in rows if row["status"] == "dropped"}
    return Verdict(len(swapped), len(swapped & dropped), len(rows) - len(swapped), len(dropped - swapped))


@dataclass(frozen=True, slots=True)
class Truth:
    """How many pairs say nothing false of their picture, by connected components and colours, with no learned part."""

    pairs: int
    true: int
    kept: int
    kept_true: int

    def __str__(self) -> str:
        return (
            f"by their pixels, {self.true} of all {self.pairs} pairs are wholly true ({self.true / self.pairs:.0%}), "
            f"and {self.kept_true} of the {self.kept} kept ({self.kept_true / max(1, self.kept):.0%})"
        )


def truth(out: Path) -> Truth:
    judged = [row for row in _rows(out) if row["score_truth"] is not None]
    true = [row for row in judged if row["score_truth"] == 1]
    kept, kept_true = (sum(row["status"] == ON_DISK["kept"] for row in rows) for rows in (judged, true))
    return Truth(len(judged), len(true), kept, kept_true)


def _rows(out: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    columns = ["key", "status", "score_truth"]
    tables = [pq.read_table(path, columns=columns) for path in sorted(out.glob("*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def read_back(out: Path) -> list[Sample]:
    """Read the pairs as a trainer would, with the webdataset library."""
    import webdataset

    shards = sorted(str(path) for path in out.glob("*.tar"))
    return [
        mm.Sample(row["__key__"], Image(row["jpg"]), row["txt"].decode(), json.loads(row["json"]))
        for row in webdataset.WebDataset(shards, shardshuffle=False)
    ]


def _contact_sheet(samples: Sequence[Sample], path: Path) -> None:
    from mmsynth.shards.contact_sheet import write_contact_sheet

    write_contact_sheet(samples, path)
