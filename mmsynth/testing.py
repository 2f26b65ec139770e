"""Public fakes and checks for tests: ours and plugin authors'.

Real stages that do something small and exact, not mocks; and `check_stage`, the contract that every stage keeps.
"""

import copy
import pickle
from collections.abc import Sequence
from typing import Any

from mmsynth.image import Image
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Captioner, Filter, Renderer, Stage


class EchoCaptioner(Captioner):
    """Captions every sample with its own key, and the prompt if there is one."""

    prompt: str = ""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [s.with_caption(f"{self.prompt} {s.key}".strip(), prompt=self.prompt or None) for s in batch]


class ColourRenderer(Renderer):
    """Draws one plain colour from the sample's own seed."""

    size: int = 32

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [s.with_image(plain_image(self.seed(s), self.size)) for s in batch]


class KeyFilter(Filter):
    """Drop samples whose key contains `text`; raise for those whose key contains `breaks_on`."""

    text: str = "drop"
    breaks_on: str = "break"

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        for sample in batch:
            if self.breaks_on in sample.key:
                raise ValueError(f"KeyFilter was told to break on {sample.key}")
        return [Dropped("key_contains_text") if self.text in s.key else s.with_scores(length=len(s.key)) for s in batch]

    def score_names(self) -> tuple[str, ...]:
        return ("length",)


def plain_image(seed: int, size: int = 32) -> Image:
    """A drawn image of one colour."""
    import PIL.Image

    return Image.from_pixels(PIL.Image.new("RGB", (size, size), ((seed >> 16) & 255, (seed >> 8) & 255, seed & 255)))


def photo_samples(n: int, size: int = 48) -> list[Sample]:
    """`n` samples with gradient images that all differ, encoded as PNG, each with a caption."""
    import numpy as np
    import PIL.Image

    ramp = np.linspace(0, 255, size, dtype=np.uint8)
    samples = []
    for i in range(n):
        blue = np.full((size, size), i * 37 % 256)
        pixels = np.stack([np.tile(ramp, (size, 1)), np.tile(ramp[:, None], (1, size)), blue], axis=-1)
        image = Image.from_pixels(PIL.Image.fromarray(pixels.astype(np.uint8))).encoded("png")
        samples.append(Sample(f"photo-{i:03d}", image=image, caption=f"a gradient with blue at {i * 37 % 256}"))
    return samples


def check_stage(stage: Stage, samples: Sequence[Sample], device: str = "cpu") -> list[Result]:
    """Assert that `stage` keeps the contract on `samples` (at least 3), and give its results.

    Order kept, one result each, inputs not mutated, the same result for any batch size, picklable, documented.
    """
    assert len(samples) >= 3, "the contract needs at least three samples"
    assert type(stage).__doc__, f"{type(stage).__name__} has no docstring"
    assert type(pickle.loads(pickle.dumps(stage))) is type(stage), "stages travel to worker processes"
    stage = stage.bound(stage.label, run_seed=7)
    stage.check()
    stage.setup(device)
    before = copy.deepcopy([_visible(sample) for sample in samples])
    together = stage.process(list(samples))
    assert [_visible(sample) for sample in samples] == before, "a stage must not change its inputs"
    assert len(together) == len(samples), "one result for each sample"
    for sample, result in zip(samples, together, strict=True):
        assert isinstance(result, Sample | Dropped), f"neither a Sample nor Dropped: {result!r}"
        assert not isinstance(result, Sample) or result.key == sample.key, "results must be in the samples' order"
    alone = [stage.process([sample])[0] for sample in samples]
    pairs = [stage.process(list(samples[::-1]))[::-1], alone]
    for other in pairs:
        for a, b in zip(together, other, strict=True):
            assert_same(a, b)
    return together


def assert_same(a: Result, b: Result, tolerance: float = 1e-4) -> None:
    """Assert that two results agree: text and encoded images exactly, numbers to `tolerance`.

    Batched arithmetic rounds, so pictures just drawn may differ by 2 of 255.
    """
    if isinstance(a, Dropped) or isinstance(b, Dropped):
        assert a == b or getattr(a, "reason", None) == getattr(b, "reason", ""), f"{a} is not {b}"
        return
    _assert_close(_visible(a), _visible(b), tolerance)


def _visible(sample: Sample) -> dict[str, Any]:
    image = sample.image
    record, members = dict(sample.record), dict(sample.members)
    return {"key": sample.key, "image": image, "caption": sample.caption, "record": record, "members": members}


def _assert_close(a: Any, b: Any, tolerance: float) -> None:
    if isinstance(a, Image) and isinstance(b, Image):
        _assert_same_picture(a, b)
    elif isinstance(a, float) and isinstance(b, float):
        assert abs(a - b) <= tolerance, f"{a} is not {b} within {tolerance}"
    elif isinstance(a, dict) and isinstance(b, dict):
        assert a.keys() == b.keys(), f"{a.keys()} are not {b.keys()}"
        for key in a:
            _assert_close(a[key], b[key], tolerance)
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple):
        assert len(a) == len(b), f"{a} is not {b}"
        for x, y in zip(a, b, strict=True):
            _assert_close(x, y, tolerance)
    else:
        assert a == b, f"{a!r} is not {b!r}"


def _assert_same_picture(a: Image, b: Image) -> None:
    import numpy as np

    if a == b:
        return
    assert all((a.is_drawn, b.is_drawn)), "an image that came encoded must stay as it came"
    one, other = (np.asarray(image.pixels(), dtype=np.int16) for image in (a, b))
    assert one.shape == other.shape, f"{one.shape} is not {other.shape}"
    worst = int(abs(one - other).max())
    assert worst <= 2, f"pictures differ by {worst} of 255"
