"""The filter `image_size`: by the header alone, no picture is decoded for it."""

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from mmsynth.errors import SampleError
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Filter


class ImageSize(Filter):
    """Drop images that are too small, too large or too long and narrow; score their shorter side and aspect.

    Sides are in pixels as displayed (EXIF rotation applied); the aspect is the longer side over the shorter, 1 for a
    square. Reasons: `side_below_min` (the shorter side), `side_above_max` (the longer side), `aspect_above_max`.
    Without a bound it only scores. DataComp's basic filter is `min_side: 200, max_aspect: 3` (arXiv 2304.14108).
    """

    min_side: int | None = Field(None, ge=1, description="pixels: drop when the shorter side is below")
    max_side: int | None = Field(None, ge=1, description="pixels: drop when the longer side is above")
    max_aspect: float | None = Field(None, ge=1, description="drop when longer / shorter side is above")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min_side is not None and self.max_side is not None and self.max_side < self.min_side:
            raise ValueError(f"max_side must be at least min_side, got {self.min_side} and {self.max_side}")
        return self

    def prepare(self, sample: Sample) -> tuple[int, int]:
        """Width and height; a broken header fails this sample and not its neighbours."""
        if sample.image is None:
            raise SampleError("no_image", "image_size needs an image")
        return sample.image.width, sample.image.height

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[tuple[int, int]]) -> list[Result]:
        return [self._judged(sample, *size) for sample, size in zip(batch, prepared, strict=True)]

    def score_names(self) -> tuple[str, ...]:
        return ("short_side", "aspect")

    def _judged(self, sample: Sample, width: int, height: int) -> Result:
        shorter, longer = sorted((width, height))
        aspect = longer / shorter
        scored = sample.with_scores(short_side=shorter, aspect=round(aspect, 4))
        if self.min_side is not None and shorter < self.min_side:
            return Dropped("side_below_min", scored)
        if self.max_side is not None and longer > self.max_side:
            return Dropped("side_above_max", scored)
        if self.max_aspect is not None and aspect > self.max_aspect:
            return Dropped("aspect_above_max", scored)
        return scored
