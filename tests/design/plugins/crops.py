"""One picture → four crops."""

from collections.abc import Sequence
from typing import ClassVar

import mmsynth as mm


class Crops(mm.Grouping):
    """Cut each picture into four quarters: `k_0` to `k_3`."""

    opens_groups: ClassVar[bool] = True

    def process(self, batch: Sequence[mm.Sample]) -> list[list[mm.Sample]]:
        return [[s.with_image(quarter) for quarter in quarters(s.image)] if s.image else [] for s in batch]


def quarters(image: mm.Image) -> list[mm.Image]:
    picture, (x, y) = image.pixels(), (image.width // 2, image.height // 2)
    boxes = [(0, 0, x, y), (x, 0, 2 * x, y), (0, y, x, 2 * y), (x, y, 2 * x, 2 * y)]
    return [mm.Image.from_pixels(picture.crop(box)) for box in boxes]
