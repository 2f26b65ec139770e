"""Bounds: which parameters of a filter bound which of its scores, and which samples they drop. One rule for all.

- A score below its minimum drops the sample as `<score>_below_min`, one above its maximum as `<score>_above_max`. The
  filter compares the score as it is written, so `select` decides the same later.
- A score that is NaN or infinite drops the sample as `<score>_not_finite`, with or without a bound.
- Without a bound, a filter only scores.
- Filters that judge captions drop a sample without a caption as `no_caption` if a bound is set. If none is set, the
  sample goes on unscored.

Dropped samples keep their scores. Bounds are inclusive.

    class Sharpness(mm.Filter):
        \"\"\"Drop blurred images.\"\"\"

        min: float | None = None

        def score_names(self):
            return ("sharpness",)

        def prepare(self, sample):
            return sharpness_of(sample.required_image().pixels())

        def process_prepared(self, batch, prepared):
            return [self.judged(s, {"sharpness": round(found, 4)}) for s, found in zip(batch, prepared)]

Parameters called `min` and `max` bound the first of `score_names`. Filters with other names, or with several bounded
scores, write `bounds`:

        def bounds(self):
            return (Bound("faces", min="min_faces", max="max_faces"), Bound("face_area", max="max_area"))
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, model_validator

from mmsynth.sample import Dropped, Sample


@dataclass(frozen=True, slots=True)
class Bound:
    """The names of the parameters for a score's minimum and maximum, or None if there is no such parameter."""

    score: str
    min: str | None = None
    max: str | None = None


class Bounded(BaseModel):
    """The part of every Filter that handles bounds."""

    # -- what a filter may override ----------------------------------------------------------------------------------

    def score_names(self) -> tuple[str, ...]:
        """Names of the scores that this filter gives."""
        return ()

    def bounds(self) -> tuple[Bound, ...]:
        """Which parameters bound which scores, in the order of judging."""
        low, high = (name if name in type(self).model_fields else None for name in ("min", "max"))
        return tuple(Bound(score, low, high) for score in self.score_names()[:1]) if low or high else ()

    def bound_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that let the filter drop samples. Each is None by default."""
        return tuple(name for bound in self.bounds() for name in (bound.min, bound.max) if name is not None)

    # -- what it may use ---------------------------------------------------------------------------------------------

    @property
    def is_bounded(self) -> bool:
        """Whether any bound is set."""
        return any(getattr(self, name) is not None for name in self.bound_parameters())

    def judged(
        self, sample: Sample, scores: Mapping[str, float], record: Mapping[str, Any] | None = None
    ) -> Sample | Dropped:
        """The sample with these scores and record fields added, or Dropped if a score is out of bounds."""
        finite = {name: score for name, score in scores.items() if math.isfinite(score)}
        scored = sample.with_scores(**finite)
        if record:
            scored = scored.with_record(**record)
        if len(finite) < len(scores):
            return Dropped(f"{next(name for name in scores if name not in finite)}_not_finite", scored)
        for bound in self.bounds():
            low, high = (None if name is None else getattr(self, name) for name in (bound.min, bound.max))
            if low is not None and scores[bound.score] < low:
                return Dropped(f"{bound.score}_below_min", scored)
            if high is not None and scores[bound.score] > high:
                return Dropped(f"{bound.score}_above_max", scored)
        return scored

    def without_caption(self, sample: Sample) -> Sample | Dropped:
        """The result for a sample without a caption, from a filter that judges captions."""
        return Dropped("no_caption", sample) if self.is_bounded else sample

    def without_bounds(self) -> Self:
        """A copy that only scores."""
        return self.model_copy(update=dict.fromkeys(self.bound_parameters()))

    @model_validator(mode="after")
    def _max_is_at_least_min(self) -> Self:
        names = self.bound_parameters()
        for low_name in (name for name in names if name.startswith("min")):
            high_name = f"max{low_name.removeprefix('min')}"
            low, high = getattr(self, low_name), getattr(self, high_name) if high_name in names else None
            if low is not None and high is not None and high < low:
                raise ValueError(
                    f"{high_name} must be at least {low_name}, got {low_name}={low} and {high_name}={high}"
                )
        return self
