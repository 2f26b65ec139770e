"""Stage: what happens to samples between the source and the shards.

A stage is a frozen pydantic model: its fields are its parameters, checked when it is built, written into recipes and
provenance. The simplest takes a batch and gives back one result for each sample, in the same order:

    class ShortSide(mm.Filter):
        \"\"\"Drop samples whose shorter side is below min_px.\"\"\"

        min_px: int = 256

        def process(self, batch):
            return [s if min(s.image.width, s.image.height) >= self.min_px else mm.Dropped("side_below_min")
                    for s in batch]

A stage has one of three shapes, by the method that it writes:

| shape | writes                               | gets                                                               |
| ----- | ------------------------------------ | ------------------------------------------------------------------ |
| batch | `process` or `process_prepared`      | up to `batch_size` samples                                         |
| one   | `async process_one`                  | one sample; it may await what it likes, as often as it likes       |
| group | `process_group`                      | all samples that one earlier stage made of one sample (or a block) |

A result is the sample (changed or not), `Dropped(reason)`, `Failed(reason, detail)`, or a list of samples with the
sample's own key: it opens a group, and the engine gives its members the keys `k_0`, `k_1`, …

Stages do not know of shards, workers or resuming. They must not change their inputs, and a sample's result must not
depend on the rest of its batch.
"""

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from mmsynth.bounds import Bounded
from mmsynth.models.files import ModelInfo
from mmsynth.sample import Result, Sample
from mmsynth.seeds import seed_for

if TYPE_CHECKING:
    from mmsynth.models.chat import BatchChatModel

Shape = Literal["batch", "one", "group"]
StageT = TypeVar("StageT", bound="Stage")

#: what plugins written for 0.1 call by a name that is now free for parameters
_RENAMED = {"seed": "seed_of", "rng": "rng_of", "label": "step_name"}


class Stage(BaseModel):
    """One step of a pipeline. Subclass Captioner, Renderer, Filter or Grouping, and write one of the three shapes."""

    # a bound of NaN or infinity would let everything through without a word
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), validate_default=True, allow_inf_nan=False
    )

    #: the recipe's word for this kind of stage: caption, render, filter; empty where its own name is the word
    verb: ClassVar[str]
    #: the parameter whose value stands beside the stage's name in a recipe, where its own name is the word
    main: ClassVar[str] = ""
    #: fields of the record that it writes, beside captions and scores; `calibrate` looks for a writer of `negatives`
    record_fields: ClassVar[frozenset[str]] = frozenset()
    #: arrays that it can give → what to set for that on the command line
    can_give_arrays: ClassVar[Mapping[str, str]] = {}
    #: increase it when the same parameters give another result; it is part of the provenance
    version: ClassVar[str] = "1"
    #: parameters that change the speed and never the output: left out of fingerprint and provenance
    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size", "concurrency"})
    #: set it if results are lists: then every result opens a group, a single sample too, and `best_of` may follow
    opens_groups: ClassVar[bool] = False
    #: for stages of the shape group: what one earlier stage made of one sample, or all samples of a block
    group_of: ClassVar[Literal["sample", "block"]] = "sample"

    batch_size: int = Field(32, ge=1, description="samples that go through the model together")

    _step_name: str = PrivateAttr(default="")
    _run_seed: int = PrivateAttr(default=0)
    _models: list[ModelInfo] = PrivateAttr(default_factory=list)
    _sub_stages: list["Stage"] = PrivateAttr(default_factory=list)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if cls.process_one is not Stage.process_one and cls.process_group is not Stage.process_group:
            raise TypeError(f"{cls.__name__} defines both process_one() and process_group(): a stage has one shape")

    # -- what a stage writes -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise before any work is done if this stage cannot run (a model that is not there). Loads nothing."""

    def setup(self, device: str) -> None:
        """Load what is needed onto `device` ("cpu", "cuda:0"): once in each process, before the first batch.

        Say which models these are with `record_model`.
        """

    def prepare(self, sample: Sample) -> Any:
        """Per-sample CPU work (decode, resize, tokenize), run ahead in threads.

        What it gives is handed to `process_prepared(batch, prepared)`, `process_one(sample, prepared)` or
        `process_group(samples, prepared)`. May raise SampleError: that sample becomes a `failed` row, its neighbours
        go on.
        """

    def assemble(self, batch: Sequence[Sample], prepared: Sequence[Any]) -> Any:
        """What `process_prepared` gets as `prepared`, made of what `prepare` gave for each sample of the batch.

        Runs in a thread, one batch ahead: pad, stack and pin here, and the device finds its tensors ready.
        """
        return prepared

    def process(self, batch: Sequence[Sample]) -> list[Any]:
        """One Result for each sample of the batch, in order."""
        return self.process_prepared(batch, self.assemble(batch, [self.prepare(sample) for sample in batch]))

    def process_prepared(self, batch: Sequence[Sample], prepared: Any) -> list[Any]:
        """Like `process`, with what `prepare` (and `assemble`) gave. Write this one if you write `prepare`."""
        if type(self).process is Stage.process:
            raise TypeError(f"{type(self).__name__} must define process(), process_one() or process_group()")
        return self.process(batch)

    async def process_one(self, sample: Sample) -> Result:
        """The Result for one sample. Others are under way meanwhile, so block nothing: await, or use `prepare`.

        How many: `batch_size` where the stage's chat model runs in this process, else `concurrency`.
        """
        raise NotImplementedError

    def process_group(self, samples: Sequence[Sample]) -> list[Any]:
        """One Result for each of the samples that belong together, in order. Afterwards the group is closed."""
        raise NotImplementedError

    def window(self) -> int | None:
        """For groups of a block: at most so many samples make one group; None: the whole block does."""
        return None

    def score_names(self) -> tuple[str, ...]:
        """Names of the scores that this stage gives: the parquet columns `score_<name>`."""
        return ()

    def array_names(self) -> tuple[str, ...]:
        """Names of the arrays that this stage gives: the files `00000_<name>.npy`."""
        return ()

    # -- what a stage may use ----------------------------------------------------------------------------------------

    @property
    def step_name(self) -> str:
        """This stage's name in provenance, such as `caption:vlm`; the second of its kind is `caption:vlm#2`."""
        return self._step_name or f"{self.verb}:{type(self).__name__}".strip(":")

    @property
    def run_seed(self) -> int:
        """The run's seed."""
        return self._run_seed

    def seed_of(self, sample: Sample) -> int:
        """This sample's own seed in this stage: blake2b(run seed, stage, key)."""
        return seed_for(self._run_seed, self.step_name, sample.key)

    def rng_of(self, sample: Sample) -> random.Random:
        """A random.Random from `seed_of(sample)`."""
        return random.Random(self.seed_of(sample))  # noqa: S311 - reproducible on purpose

    def record_model(self, model: ModelInfo) -> None:
        """Say in setup() that this model was loaded: it goes into provenance and run.json."""
        if model not in self._models:
            self._models.append(model)

    def sub_stage(self, stage: StageT) -> StageT:
        """`stage` as a part of this one: with its seeds and name, and its models in this one's provenance."""
        part = stage.bound(self.step_name, self._run_seed)
        self._sub_stages.append(part)
        return part

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """Every model that setup() loaded, those of sub-stages too."""
        return tuple(dict.fromkeys([*self._models, *(m for part in self._sub_stages for m in part.models)]))

    # -- what the engine uses ----------------------------------------------------------------------------------------

    def bound(self, step_name: str, run_seed: int) -> Self:
        """A copy that knows its place in a run, and has loaded nothing yet."""
        stage = self.model_copy()
        stage._step_name, stage._run_seed, stage._models, stage._sub_stages = step_name, run_seed, [], []
        return stage

    @property
    def shape(self) -> Shape:
        """batch, one or group, by the method that the class writes."""
        if type(self).process_one is not Stage.process_one:
            return "one"
        return "batch" if type(self).process_group is Stage.process_group else "group"

    @property
    def prepares(self) -> bool:
        return type(self).prepare is not Stage.prepare

    @property
    def assembles(self) -> bool:
        return type(self).assemble is not Stage.assemble

    def batch_model(self) -> "BatchChatModel | None":
        """The model in this process that answers what `process_one` asks, a batch at a time; None if there is none."""
        return None

    def check_place(self, before: Sequence["Stage"]) -> None:
        """Raise RecipeError if the stage cannot come after these, the earlier ones of its recipe."""

    def parameters(self) -> dict[str, Any]:
        """The parameters that differ from their defaults, as JSON values, without those that only change speed."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude=set(self.speed_only))

    if not TYPE_CHECKING:  # or mypy would find every name

        def __getattr__(self, name: str) -> Any:
            if name in _RENAMED:
                warnings.warn(f"Stage.{name} is now Stage.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
                return getattr(self, _RENAMED[name])
            return super().__getattr__(name)


class Captioner(Stage):
    """Writes text: captions, question-answer pairs, conversations."""

    verb: ClassVar[str] = "caption"


class Renderer(Stage):
    """Draws images: gives each sample `with_image(Image.from_pixels(picture))`."""

    verb: ClassVar[str] = "render"


class Filter(Stage, Bounded):
    """Judges samples: scores them, and drops those out of bounds. `mmsynth.bounds` says how."""

    verb: ClassVar[str] = "filter"
    #: what its scores and arrays say something about: "caption", "image" or both. When a later stage changes that, they
    #: are removed from the sample (arrays of both go with the image); where nothing is declared they stay
    judges: ClassVar[frozenset[str]] = frozenset()


class Grouping(Stage):
    """Makes several samples of one, or chooses and joins among those that belong together.

    Its registered name is its word in a recipe, with the value of its `main` parameter beside it: `repeat: 4`.
    """

    verb: ClassVar[str] = ""
