"""Public fakes and checks, for our tests and those of plugin authors.

Offers real stages that do something small and exact, not mocks, and `check_stage`, the contract of every stage.
"""

import asyncio
import copy
import hashlib
import json
import pickle
from collections.abc import Sequence
from typing import Any, ClassVar

from mmsynth.errors import SampleError
from mmsynth.image import Image
from mmsynth.models.chat import BatchChatModel, ChatModel, ModelSpec, Reply, Request, Usage
from mmsynth.models.files import ModelInfo
from mmsynth.record import has_shape
from mmsynth.sample import Dropped, Failed, Result, Sample
from mmsynth.stage import Captioner, Filter, Renderer, Stage


class EchoCaptioner(Captioner):
    """Captions every sample with its own key, and the prompt if there is one."""

    prompt: str = ""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [s.with_caption(f"{self.prompt} {s.key}".strip(), prompt=self.prompt or None) for s in batch]


class ColourRenderer(Renderer):
    """Draws one plain colour, chosen by the sample's own seed."""

    size: int = 32

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [s.with_image(plain_image(self.seed_of(s), self.size)) for s in batch]


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


class EchoChatEngine:
    """A chat engine that needs no model: `engine="mmsynth.testing:EchoChatEngine"`. It answers in batches."""

    def check(self, spec: ModelSpec) -> None:
        """Accepts every model."""

    def load(self, spec: ModelSpec, device: str) -> "EchoChat":
        return EchoChat(spec.model)


class EchoChat(BatchChatModel):
    """Repeats the last text, plus digits that depend on the whole conversation, its pictures, and the seed if sampling.

    Fails on a request whose last text contains "break".
    """

    def __init__(self, model: str) -> None:
        self.info = ModelInfo(model, "echo", "none")
        #: the number of requests in each batch
        self.batch_sizes: list[int] = []

    def assemble(self, requests: Sequence[Request]) -> list[Reply | Exception]:
        return [echoed(request) for request in requests]

    def answer(self, requests: Sequence[Request], assembled: list[Reply | Exception]) -> list[Reply | Exception]:
        self.batch_sizes.append(len(requests))
        return assembled


class WaitingEchoChatEngine:
    """A chat engine like a server. It gives EchoChat's answers, to each request by itself, after `wait_s`."""

    wait_s: ClassVar[float] = 0.01

    def check(self, spec: ModelSpec) -> None:
        """Accepts every model."""

    def load(self, spec: ModelSpec, device: str) -> "WaitingEchoChat":
        return WaitingEchoChat(spec.model, self.wait_s)


class WaitingEchoChat(ChatModel):
    """Answers each request by itself, after a while."""

    def __init__(self, model: str, wait_s: float) -> None:
        self.info, self._wait_s = ModelInfo(model, "echo", "none"), wait_s
        #: requests so far, and the most that waited at once
        self.asked = self.most_at_once = 0
        self._waiting = 0

    async def chat(self, request: Request) -> Reply:
        self.asked += 1
        self._waiting += 1
        self.most_at_once = max(self.most_at_once, self._waiting)
        await asyncio.sleep(self._wait_s)
        self._waiting -= 1
        reply = echoed(request)
        if isinstance(reply, Exception):
            raise reply
        return reply


def echoed(request: Request) -> Reply | Exception:
    """The answer of the chat models here. Each word counts as a token."""
    parts = [part for message in request.messages for part in message["content"]]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    last = texts[-1] if texts else ""
    if "break" in last:
        return ValueError(f"was told to break: {last}")
    try:
        images = [request.images[part["image"]] for part in parts if part["type"] == "image"]
        pictures = [hashlib.blake2b(image.pixels().tobytes()).hexdigest() for image in images]
    except SampleError as error:
        return error
    drawn = request.seed if request.temperature > 0 else None
    roles = [message["role"] for message in request.messages]
    said = json.dumps([roles, texts, pictures, drawn]).encode()
    digest = hashlib.blake2b(said, digest_size=4).hexdigest()
    usage = Usage(sum(len(text.split()) for text in texts), 1)
    if request.choices:
        first = int(digest, 16) / 2**32
        others = dict.fromkeys(request.choices[1:], (1 - first) / max(1, len(request.choices) - 1))
        return Reply("", usage=usage, choice_probabilities={request.choices[0]: first, **others})
    words = [digest, *last.split()]
    written = words[: request.max_tokens]
    finish = "stop" if len(written) == len(words) else "length"
    return Reply(" ".join(written), finish, Usage(usage.prompt, len(written)))


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


def run_stage(stage: Stage, samples: Sequence[Sample]) -> list[list[Result]]:
    """Run `stage`, whose setup() has run, as the engine does. Gives the results of each sample, mostly one.

    The samples are one block. For stages of the shape group they are also one group.
    """
    from mmsynth.blocks import Block, Edge, Flow, Item
    from mmsynth.engine.chain import run_stage as running
    from mmsynth.engine.resources import resources

    group = ("group",) if stage.shape == "group" else ()
    items = [Item(sample.key, sample, groups=group, number=number) for number, sample in enumerate(samples)]
    block = Block(0, None, len(items))
    flow: list[Flow] = [Edge(block, is_end=False), *items, Edge(block, is_end=True)]
    results: list[list[Result]] = [[] for _ in samples]
    with resources(2, None, with_loop=stage.shape == "one") as on:
        for entry in running(flow, stage, on):
            if isinstance(entry, Item):
                results[entry.number].append(_result(entry))
    return results


def _result(item: Any) -> Result:
    if item.status == "kept":
        kept: Sample = item.sample
        return kept
    return Dropped(item.reason, item.sample) if item.status == "dropped" else Failed(item.reason, item.detail)


def check_stage(stage: Stage, samples: Sequence[Sample], device: str = "cpu") -> list[Result]:
    """Assert that `stage` keeps the contract on `samples` (at least 3), and return its results.

    The contract: order kept, inputs not mutated, the same result for any batch size, picklable, documented.
    """
    assert len(samples) >= 3, "the contract needs at least three samples"
    assert type(stage).__doc__, f"{type(stage).__name__} has no docstring"
    assert type(pickle.loads(pickle.dumps(stage))) is type(stage), "stages travel to worker processes"
    stage = stage.bound(stage.step_name, run_seed=7)
    stage.check()
    stage.setup(device)
    before = copy.deepcopy([_visible(sample) for sample in samples])
    together = run_stage(stage, samples)
    assert [_visible(sample) for sample in samples] == before, "a stage must not change its inputs"
    if stage.shape == "batch":
        _check_batch(stage, samples)
    if stage.shape != "group":
        alone = [run_stage(stage, [sample])[0] for sample in samples]
        for other in run_stage(stage, samples[::-1])[::-1], alone:
            for a, b in zip(together, other, strict=True):
                assert len(a) == len(b), "a sample's results must not depend on its batch"
                for one, same in zip(a, b, strict=True):
                    assert_same(one, same)
    for result in (result for results in together for result in results):
        for name, value in result.record.items() if isinstance(result, Sample) else ():
            assert has_shape(name, value), f"record['{name}'] is not what docs/record.md says: {value!r}"
    return [result for results in together for result in results]


def _check_batch(stage: Stage, samples: Sequence[Sample]) -> None:
    results = stage.process(list(samples))
    assert len(results) == len(samples), "one result for each sample"
    for sample, result in zip(samples, results, strict=True):
        assert isinstance(result, Sample | Dropped | Failed | list), f"no result: {result!r}"
        assert not isinstance(result, Sample) or result.key == sample.key, "results must be in the samples' order"


def assert_same(a: Result, b: Result, tolerance: float = 1e-4) -> None:
    """Assert that two results agree: text and encoded images exactly, numbers to `tolerance`.

    Batched arithmetic rounds differently, so newly drawn pictures may differ by 2 of 255.
    """
    if isinstance(a, Sample) and isinstance(b, Sample):
        _assert_close(_visible(a), _visible(b), tolerance)
    elif isinstance(a, list) and isinstance(b, list):
        assert len(a) == len(b), f"{a} is not {b}"
        for one, other in zip(a, b, strict=True):
            assert_same(one, other, tolerance)
    else:
        assert type(a) is type(b) and getattr(a, "reason", "") == getattr(b, "reason", ""), f"{a} is not {b}"  # noqa: PT018


def _visible(sample: Sample) -> dict[str, Any]:
    image = sample.image
    record, members = dict(sample.record), dict(sample.members)
    return {
        "key": sample.key,
        "image": image,
        "images": dict(sample.images),
        "caption": sample.caption,
        "record": record,
        "members": members,
    }


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
