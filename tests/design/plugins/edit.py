"""An edit that keeps the original."""

from collections.abc import Sequence

import PIL.ImageOps

import mmsynth as mm


class Negative(mm.Renderer):
    """Show each picture's negative, and keep what it was made from as `before`."""

    def process(self, batch: Sequence[mm.Sample]) -> list[mm.Result]:
        return [
            sample.with_image(sample.image, "before").with_image(
                mm.Image.from_pixels(PIL.ImageOps.invert(sample.image.pixels()))
            )
            if sample.image
            else mm.Failed("no_image")
            for sample in batch
        ]
