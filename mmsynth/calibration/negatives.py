"""Scores of a run's pairs, and of the same images with the wrong captions.

Knows how to give an image another caption, and which stage scored the run. `estimate` interprets the scores.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mmsynth import registry
from mmsynth.engine.run import items
from mmsynth.errors import PluginError, RecipeError
from mmsynth.layout import score_column
from mmsynth.pipeline import Pipeline
from mmsynth.recipe import Recipe
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.selection.rows import TABLE, Rows, quoted
from mmsynth.selection.source import Selection
from mmsynth.shards.folder import RunFolder
from mmsynth.sources.base import Slice, Unreadable
from mmsynth.stage import Captioner, Filter, Stage

Floats = npt.NDArray[np.float64]
#: score the almost-true captions of so many samples per kind; an AUC needs no more
_ALMOST_TRUE = 1000


@dataclass(frozen=True)
class Scored:
    """Scores of pairs, of permuted pairs, and of almost-true captions by what was changed."""

    pairs: Floats
    mismatched: Floats
    hard: dict[str, Floats]


class Permuted(Selection):
    """Samples of a run, each with another sample's caption. Every caption is used once."""

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        captions = self._captions()
        for piece in super().slices(samples_per_slice):
            picks = [[*pick, captions[pick[2]]] for pick in piece.payload["picks"]]
            yield Slice({"picks": [pick[:6] for pick in picks], "captions": [pick[6] for pick in picks]}, piece.size)

    def _captions(self) -> dict[str, str]:
        """Key → a caption of another sample that says something else, at random."""
        found = self.decided().rows.run(
            "SELECT kept.key, caption FROM kept JOIN samples USING (run_number, shard, key) ORDER BY place"
        )
        keyed = [(key, caption or "") for key, caption in found.fetchall()]
        captions = [caption for _, caption in keyed]
        random.Random(self.seed).shuffle(captions)  # noqa: S311 - reproducible on purpose
        return dict(zip((key for key, _ in keyed), _none_its_own([c for _, c in keyed], captions), strict=True))

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        for found, caption in zip(super().read(payload), payload["captions"], strict=True):
            yield found if isinstance(found, Unreadable) else _alone(found, caption)


class AlmostTrue(Captioner):
    """Give each sample its almost-true caption `record["negatives"][change]`. Drop samples without one."""

    change: str = Field(description="what is wrong in the caption, such as colour")

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        texts = [sample.record.get("negatives", {}).get(self.change) for sample in batch]
        return [
            _alone(sample, text) if text else Dropped("no_negative", sample)
            for sample, text in zip(batch, texts, strict=True)
        ]


def _none_its_own(own: list[str], captions: list[str]) -> list[str]:
    """`captions`, reordered so that, if possible, no sample gets a caption equal to its own."""
    captions = list(captions)
    for i, caption in enumerate(captions):
        if caption == own[i]:
            for j in range(len(captions)):
                if captions[j] not in (own[i], caption) and caption != own[j]:
                    captions[i], captions[j] = captions[j], captions[i]
                    break
    return captions


def _alone(sample: Sample, caption: str) -> Sample:
    """The sample with this caption only, so that a filter scores no other."""
    record = {name: value for name, value in sample.record.items() if name not in {"captions", "scores"}}
    return replace(sample, caption=caption, record=record)


def score_run(run: str, score: str, limit: int | None = None, seed: int = 0, device: str = "auto") -> Scored:
    """The run's own scores, and those that the same filter gives to permuted and almost-true captions."""
    rows = Rows([run])
    if score not in rows.scores:
        rows.check_columns(quoted(score), "score")
    column_name = score_column(score)
    column = quoted(column_name)
    found = rows.run(f"SELECT {column} FROM {TABLE} WHERE {column} IS NOT NULL AND status <> 'failed'").fetchall()
    pairs = np.array([value for (value,) in found], dtype=np.float64)
    rows.check_one_model(column_name, f"the score {score}")
    stage = _stage_of(run, score)
    mismatched = _scores(Permuted(runs=(run,), sample=limit, seed=seed), (stage,), score, device)
    source = Selection(runs=(run,), sample=min(limit or _ALMOST_TRUE, _ALMOST_TRUE), seed=seed)
    making, changes = _changes(run)
    hard = {change: _scores(source, (*making, AlmostTrue(change=change), stage), score, device) for change in changes}
    return Scored(pairs, mismatched, hard)


def _stage_of(run: str, score: str) -> Stage:
    """The filter that gave the run this score, with the same parameters but without bounds."""
    recipe = Recipe.from_dict(RunFolder(run).description()["recipe"])
    for stage in recipe.stages:
        if score in stage.score_names():
            return stage.without_bounds() if isinstance(stage, Filter) else stage
    if isinstance(recipe.source, Selection):
        return _stage_of(recipe.source.runs[0], score)
    raise RecipeError(
        f"no filter of {run} gives the score '{score}' (it came with the input): calibrate the run that scored it"
    )


def _changes(run: str, looked_at: int = 32) -> tuple[tuple[Stage, ...], list[str]]:
    """The stages that write almost-true captions, and the kinds of change found in the first records.

    Records that a captioner has written some into have them; those with facts have what they are made of.
    """
    source = Selection(runs=(run,), sample=looked_at)
    for making in (), _from_facts():
        kept = Pipeline(Recipe(source=source, stages=making)).take(looked_at)
        records = [sample.record for sample in kept if isinstance(sample, Sample)]
        if changes := sorted({change for record in records for change in record.get("negatives", {})}):
            return making, changes
    return (), []


def _from_facts() -> tuple[Stage, ...]:
    """An installed captioner that writes `negatives` into records, if there is one."""
    for name in registry.entry_points("caption"):
        with suppress(PluginError):
            plugin = registry.load("caption", name)
            if "negatives" in plugin.record_fields:
                return (plugin(),)
    return ()


def _scores(source: Selection, stages: tuple[Stage, ...], score: str, device: str) -> Floats:
    recipe = Recipe(source=source, stages=stages)
    recipe = recipe.model_copy(update={"run": recipe.run.model_copy(update={"device": device})})
    given = (item.sample.record.get("scores", {}).get(score) for item in items(recipe) if item.sample and item.is_live)
    return np.array([value for value in given if value is not None], dtype=np.float64)
