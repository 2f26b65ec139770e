"""Stage: what happens to samples between the source and the shards.

A stage is a frozen pydantic model: its fields are its parameters, checked when it is built, written into recipes and
provenance. It takes a batch and gives back one result for each sample, in the same order:

    class ShortSide(mm.Filter):
        \"\"\"Drop samples whose shorter side is below min_px.\"\"\"

        min_px: int = 256

        def process(self, batch):
            return [s if min(s.image.width, s.image.height) >= self.min_px else mm.Dropped("side_below_min")
                    for s in batch]

Stages do not know of shards, workers or resuming. They must not change their inputs, and a sample's result must not
depend on the rest of its batch.
"""

import random
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from mmsynth.models import ModelInfo
from mmsynth.sample import Result, Sample
from mmsynth.seeds import seed_for


class Stage(BaseModel):
    """One step of a pipeline. Subclass Captioner, Renderer or Filter, and write `process`."""

    # a bound of NaN or infinity would let everything through without a word
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), validate_default=True, allow_inf_nan=False
    )

    #: the recipe's word for this kind of stage: caption, render or filter
    verb: ClassVar[str]
    #: raise it when the same parameters give another result; it is part of the provenance
    version: ClassVar[str] = "1"
    #: parameters that change the speed and never the output: left out of fingerprint and provenance
    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    batch_size: int = Field(32, ge=1, description="samples that go through the model together")

    _label: str = PrivateAttr(default="")
    _run_seed: int = PrivateAttr(default=0)
    _loaded: tuple[ModelInfo, ...] = PrivateAttr(default=())

    # -- what a stage writes -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise before any work is done if this stage cannot run (a model that is not there). Loads nothing."""

    def setup(self, device: str) -> None:
        """Load what is needed onto `device` ("cpu", "cuda:0"): once in each process, before the first batch."""

    def prepare(self, sample: Sample) -> Any:
        """Per-sample CPU work (decode, resize, tokenize), run ahead in threads. Handed to `process_prepared`.

        May raise SampleError: that sample becomes a `failed` row, its neighbours go on.
        """

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        """One result for each sample, in order: the sample (changed or not) or Dropped(reason)."""
        return self.process_prepared(batch, [self.prepare(sample) for sample in batch])

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[Any]) -> list[Result]:
        """Like `process`, with what `prepare` gave for each sample. Write this one if you write `prepare`."""
        if type(self).process is Stage.process:
            raise TypeError(f"{type(self).__name__} must define process() or process_prepared()")
        return self.process(batch)

    def score_names(self) -> tuple[str, ...]:
        """Names of the scores that this stage gives: the parquet columns `score_<name>`."""
        return ()

    # -- what a stage may use ----------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """This stage's name in provenance, such as `caption:vlm`; the second of its kind is `caption:vlm#2`."""
        return self._label or f"{self.verb}:{type(self).__name__}"

    @property
    def loaded(self) -> tuple[ModelInfo, ...]:
        """The models that setup() loaded, with revisions: set `self._loaded` there."""
        return self._loaded

    def seed(self, sample: Sample) -> int:
        """This sample's own seed in this stage: blake2b(run seed, stage, key)."""
        return seed_for(self._run_seed, self.label, sample.key)

    def rng(self, sample: Sample) -> random.Random:
        """A random.Random from `seed(sample)`."""
        return random.Random(self.seed(sample))  # noqa: S311 - reproducible on purpose

    # -- what the engine uses ----------------------------------------------------------------------------------------

    def bound(self, label: str, run_seed: int) -> Self:
        """A copy that knows its place in a run."""
        stage = self.model_copy()
        stage._label, stage._run_seed = label, run_seed
        return stage

    @property
    def prepares(self) -> bool:
        return type(self).prepare is not Stage.prepare

    def parameters(self) -> dict[str, Any]:
        """The parameters that differ from their defaults, as JSON values, without those that only change speed."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude=set(self.speed_only))


class Captioner(Stage):
    """Writes text: captions or question-answer pairs."""

    verb: ClassVar[str] = "caption"


class Renderer(Stage):
    """Draws images: gives each sample `with_image(Image.from_pixels(picture))`."""

    verb: ClassVar[str] = "render"


class Filter(Stage):
    """Judges samples: scores them, and drops those out of bounds."""

    verb: ClassVar[str] = "filter"
