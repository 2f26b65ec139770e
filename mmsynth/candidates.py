"""Several candidates for one input, and choosing among them: the two steps that are not one sample in, one out.

    mm.prompts("prompts.txt").repeat(4).render("diffusion").filter("clip").best_of("clip").write("best/")

In a recipe: `- repeat: 4` and, after a stage that scores, `- best_of: clip`. The engine carries them out.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from mmsynth.sample import Result, Sample
from mmsynth.stage import Stage


class CandidateStep(Stage):
    """A step of the engine's own. In a recipe its one parameter stands beside its verb."""

    #: the parameter that the recipe's word gives
    value: ClassVar[str]

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        raise TypeError(f"{self.verb} is not done batch by batch: run it in a pipeline")


class Repeat(CandidateStep):
    """Make `times` candidates of each sample: keys `k_0`, `k_1`, …, so that each draws from a seed of its own.

    Each record gets `candidate: {of: k, number: i}`. Stages that draw nothing at random (greedy captions) give all
    candidates the same. From here on every candidate is a row of its own, in counts and in `max_failures` too.
    """

    verb = "repeat"
    value = "times"

    times: int = Field(ge=2, le=1000, description="candidates of each sample")


class BestOf(CandidateStep):
    """Of the candidates that the last open `repeat` made, keep the one with the highest score.

    The others are dropped as `not_best` and keep their scores in the parquet file; of equals the first stays.
    """

    verb = "best_of"
    value = "score"

    score: str = Field(min_length=1, description="the score's name, such as clip")


STEPS: dict[str, type[CandidateStep]] = {"repeat": Repeat, "best_of": BestOf}
