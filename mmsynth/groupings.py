"""Stages that make several samples of one, or choose and join among samples that belong together.

They are `repeat`, `best_of` and `pair`:

    mm.prompts("prompts.txt").repeat(4).render("diffusion").filter("clip").best_of("clip").write("best/")

In a recipe: `- repeat: 4` and, after a stage that scores, `- best_of: clip`. They are plugins like any other.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from mmsynth.errors import RecipeError
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Grouping, Stage


class Repeat(Grouping):
    """Make `times` candidates of each sample, with keys `k_0`, `k_1`, …, so that each has a seed of its own.

    Stages without randomness (greedy captions) give the same result for all candidates. From here on, every candidate
    has a row of its own.
    """

    main: ClassVar[str] = "times"
    opens_groups: ClassVar[bool] = True

    times: int = Field(ge=2, le=1000, description="candidates per sample")

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [[sample] * self.times for sample in batch]


class BestOf(Grouping):
    """Keep the candidate with the highest score among those that one earlier stage made of a sample.

    The others are dropped as `not_best` and keep their scores in the parquet file. On a tie the first stays. A missing
    score or NaN loses to any other.
    """

    main: ClassVar[str] = "score"

    score: str = Field(min_length=1, description="the score's name, such as clip")

    def process_group(self, samples: Sequence[Sample]) -> list[Result]:
        best = max(range(len(samples)), key=lambda i: self._score(samples[i]))
        return [sample if i == best else Dropped("not_best", sample) for i, sample in enumerate(samples)]

    def check_place(self, before: Sequence[Stage]) -> None:
        among = since_group_opened(before)
        if among is None:
            raise RecipeError(f"best_of: {self.score} has nothing to choose among: put a repeat before it")
        scores = {name for stage in among for name in stage.score_names()}
        if self.score not in scores:
            known = ", ".join(sorted(scores)) or "none"
            raise RecipeError(f"no stage between repeat and best_of writes '{self.score}'. Scores: {known}")

    def _score(self, sample: Sample) -> float:
        scores = sample.record.get("scores")
        score = scores.get(self.score) if isinstance(scores, dict) else None
        return float(score) if isinstance(score, int | float) and not math.isnan(score) else -math.inf


class Pair(Grouping):
    """Make a group of each sample and `with_others` other samples of its block, drawn from the sample's own seed.

    Members have the keys `k_0` (the sample itself), `k_1`, …; a stage of the shape group then makes something of them.
    The block is cut into windows of `within` samples, the last of up to twice as many, and the others come from the
    sample's own window. A sample that has too few others is dropped as `no_other`.
    """

    main: ClassVar[str] = "with_others"
    opens_groups: ClassVar[bool] = True
    group_of: ClassVar[Literal["sample", "block"]] = "block"

    with_others: int = Field(ge=1, le=100, description="other samples beside each")
    within: int = Field(1000, ge=2, description="samples of one window, from which the others come")

    def process_group(self, samples: Sequence[Sample]) -> list[Result]:
        return [self._with_others(samples, i) for i in range(len(samples))]

    def _with_others(self, samples: Sequence[Sample], own: int) -> Result:
        others = [i for i in range(len(samples)) if i != own]
        if len(others) < self.with_others:
            return Dropped("no_other", samples[own])
        drawn = self.rng_of(samples[own]).sample(others, self.with_others)
        return [samples[own], *(replace(samples[i], key=samples[own].key) for i in drawn)]

    def window(self) -> int | None:
        return self.within


def since_group_opened(stages: Sequence[Stage]) -> list[Stage] | None:
    """The stages since the innermost open group was opened, or None if no group is open.

    Stages of groups that are closed again count too: the chosen sample keeps what they gave it.
    """
    open_groups: list[list[Stage]] = [[]]
    for stage in stages:
        if stage.shape == "group" and stage.group_of == "sample" and len(open_groups) > 1:
            closed = open_groups.pop()
            open_groups[-1] += closed
        open_groups[-1].append(stage)
        if stage.opens_groups:
            open_groups.append([])
    return open_groups[-1] if len(open_groups) > 1 else None
