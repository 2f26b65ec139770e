"""A source for the engine's tests: gradient pictures whose keys say what should happen to them."""

from collections.abc import Iterator
from typing import Any

from mmsynth.image import Image
from mmsynth.sample import Sample
from mmsynth.sources.base import Slice, Source, Unreadable
from mmsynth.testing import photo_samples


class Gradients(Source):
    """`n` gradients; those whose number is in `broken` cannot be read, those in `truncated` are cut short."""

    n: int = 23
    broken: tuple[int, ...] = ()
    truncated: tuple[int, ...] = ()
    knows_sizes: bool = True

    def count(self) -> int | None:
        return self.n if self.knows_sizes else None

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        for start in range(0, self.n, samples_per_slice):
            stop = min(start + samples_per_slice, self.n)
            yield Slice({"start": start, "stop": stop}, stop - start if self.knows_sizes else None)

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        samples = photo_samples(self.n)
        for i in range(payload["start"], payload["stop"]):
            sample = samples[i].with_record(source={"kind": "gradients", "path": f"gradient {i}"})
            if i in self.broken:
                yield Unreadable(sample.key, "broken", "made to be", f"gradient {i}")
            elif i in self.truncated:
                assert sample.image is not None
                yield sample.with_image(Image(sample.image.data[:90]))
            else:
                yield sample
