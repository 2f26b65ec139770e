"""The filter `image_size`: reads only the header, and decodes no picture."""

from collections.abc import Sequence

from pydantic import Field

from mmsynth.bounds import Bound
from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter


class ImageSize(Filter):
    """Drop images that are too small, too large, or too long and narrow.

    The scores are `short_side` and `long_side`, in pixels as displayed (EXIF rotation applied), and `aspect`, the
    longer side over the shorter, 1 for a square. Reasons: `short_side_below_min`, `long_side_above_max`,
    `aspect_above_max`. Without a bound it only scores. Samples without an image fail as `no_image`.
    DataComp's basic filter is `min_side: 200, max_aspect: 3` (arXiv 2304.14108).
    """

    judges = frozenset({"image"})

    min_side: int | None = Field(None, ge=1, description="pixels: drop when the shorter side is below")
    max_side: int | None = Field(None, ge=1, description="pixels: drop when the longer side is above")
    max_aspect: float | None = Field(None, ge=1, description="drop when longer / shorter side is above")

    def prepare(self, sample: Sample) -> tuple[int, int]:
        """Width and height. A broken header fails this sample only."""
        image = sample.required_image()
        return image.width, image.height

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[tuple[int, int]]) -> list[Result]:
        return [self._judged(sample, *size) for sample, size in zip(batch, prepared, strict=True)]

    def score_names(self) -> tuple[str, ...]:
        return ("short_side", "long_side", "aspect")

    def bounds(self) -> tuple[Bound, ...]:
        return (
            Bound("short_side", min="min_side"),
            Bound("long_side", max="max_side"),
            Bound("aspect", max="max_aspect"),
        )

    def _judged(self, sample: Sample, width: int, height: int) -> Result:
        shorter, longer = sorted((width, height))
        return self.judged(sample, {"short_side": shorter, "long_side": longer, "aspect": round(longer / shorter, 4)})
