"""The scene world as plugins: a source invents scenes, a renderer draws them, a filter checks captions by pixels."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from mmsynth.errors import SampleError
from mmsynth.facts import Facts
from mmsynth.image import Image
from mmsynth.sample import Result, Sample
from mmsynth.seeds import rng_for
from mmsynth.sources.base import Slice, Source
from mmsynth.stage import Filter, Renderer
from mmsynth_renderers.scenes import grammar, judge, pixels
from mmsynth_renderers.scenes.draw import Scene, draw, lay_out
from mmsynth_renderers.scenes.layout import GAP, MIN_PIXELS
from mmsynth_renderers.scenes.vocabulary import MAX_GROUPS


class SceneSource(Source):
    """Invent random scenes: the facts of each, and a prompt that states them. `SceneRenderer` draws them.

    Scene i depends on `seed` and i alone, so a longer run starts with the scenes of a shorter one.
    """

    main: ClassVar[str] = "n"

    n: int = Field(ge=1, description="how many scenes")
    seed: int = 0
    world: Literal["whole", "nano"] = Field("whole", description="nano: the part that nano-diffusion can draw")
    max_groups: int = Field(MAX_GROUPS, ge=1, le=MAX_GROUPS, description="the most groups of like objects in a scene")

    def count(self) -> int:
        return self.n

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        for start in range(0, self.n, samples_per_slice):
            stop = min(start + samples_per_slice, self.n)
            yield Slice({"start": start, "stop": stop}, stop - start)

    def read(self, payload: Any) -> Iterator[Sample]:
        for index in range(payload["start"], payload["stop"]):
            yield self.sample(index)

    def keys(self, one: Slice) -> Iterator[str]:
        return (f"{index:09d}" for index in range(one.payload["start"], one.payload["stop"]))

    def sample(self, index: int) -> Sample:
        """Scene number `index`, not drawn yet."""
        key = f"{index:09d}"
        rng = rng_for(self.seed, "scenes", key)
        world = grammar.WORLDS[self.world]
        world = world._replace(max_groups=min(self.max_groups, world.max_groups))
        facts = grammar.random_facts(rng, world)
        source = {"kind": "scenes", "seed": self.seed, "index": index}
        sample = Sample(key, record={"facts": facts.model_dump(mode="json"), "source": source})
        return sample.with_caption(grammar.prompt(facts, rng), origin="prompt")


class SceneRenderer(Renderer):
    """Draw exactly `record["facts"]`, and write the box of every object into them.

    Pictures have `size` × `size` pixels, antialiased. The sample's own seed decides the places of objects, which are
    the same at any size up to rounding. Raises SampleError: `no_facts`, or `scene_not_drawable` for words that this
    world does not have, contradictory relations, or more objects than fit.
    """

    size: int = Field(64, ge=MIN_PIXELS, description="width and height in pixels; below 32, objects would touch")
    gap: int = Field(GAP, ge=GAP, le=16, description="free space between any two objects, in 64ths of the side")

    def prepare(self, sample: Sample) -> Scene:
        if not sample.record.get("facts"):
            raise SampleError("no_facts", "the scenes renderer draws record['facts']; start from the source 'scenes'")
        try:
            facts = Facts.model_validate(sample.record["facts"])
        except ValidationError as error:
            raise SampleError("scene_not_drawable", f"not facts: {error.errors()[0]['msg']}") from error
        return lay_out(facts, self.seed_of(sample), self.gap)

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[Scene]) -> list[Result]:
        return [self._drawn(sample, scene) for sample, scene in zip(batch, prepared, strict=True)]

    def _drawn(self, sample: Sample, scene: Scene) -> Sample:
        picture, facts = draw(scene, self.size)
        drawn = sample.with_image(Image.from_pixels(picture))
        return drawn.with_record(facts=facts.model_dump(mode="json"))


class SceneTruth(Filter):
    """Score the share of a caption's statements about a scene that are true of its pixels, from 0 to 1, as `truth`.

    Uses connected components, colours and silhouettes, without any learned part, so it can judge what learned models
    draw and say. Knows the words and looks of the scene world only: a caption that states nothing about it scores 0.
    The record keeps the counts: `record["truth"] = {"stated": 7, "true": 6}`. Reason: `truth_below_min`. Without `min`
    it only scores. With it, a sample without a caption is dropped as `no_caption`. Samples without an image fail as
    `no_image`.
    """

    min: float | None = Field(None, ge=0, le=1, description="drop below this share; None: score only")

    def score_names(self) -> tuple[str, ...]:
        return ("truth",)

    def prepare(self, sample: Sample) -> Facts:
        return pixels.facts_of(sample.required_image().pixels())

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[Facts]) -> list[Result]:
        return [self._judged(sample, facts) for sample, facts in zip(batch, prepared, strict=True)]

    def _judged(self, sample: Sample, facts: Facts) -> Result:
        if sample.text is None:
            return self.without_caption(sample)
        verdicts = [true for _, true in judge.statements(judge.read(sample.text), facts)]
        share = sum(verdicts) / max(1, len(verdicts))
        return self.judged(sample, {"truth": share}, {"truth": {"stated": len(verdicts), "true": sum(verdicts)}})
