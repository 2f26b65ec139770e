"""Stage: what happens to samples between the source and the shards.

A stage is a frozen pydantic model. Its fields are its parameters. They are checked when the stage is built, and written
into recipes and provenance. The simplest stage takes a batch and returns one result for each sample, in the same order:

    class ShortSide(mm.Filter):
        \"\"\"Drop samples whose shorter side is below min_px.\"\"\"

        min_px: int = 256

        def process(self, batch):
            return [s if min(s.image.width, s.image.height) >= self.min_px else mm.Dropped("side_below_min")
                    for s in batch]

A stage has one of three shapes, by the method that it defines:

| shape | defines                              | gets                                                               |
| ----- | ------------------------------------ | ------------------------------------------------------------------ |
| batch | `process` or `process_prepared`      | up to `batch_size` samples                                         |
| one   | `async process_one`                  | one sample; it may await anything, any number of times             |
| group | `process_group`                      | all samples that one earlier stage made of one sample (or a block) |

A result is the sample (changed or not), `Dropped(reason)`, `Failed(reason, detail)`, or a list of samples with the
sample's own key. A list opens a group, and the engine gives its members the keys `k_0`, `k_1`, …

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

#: 0.1's names of methods → their names now; the old names are free for parameters
_RENAMED = {"seed": "seed_of", "rng": "rng_of", "label": "step_name"}


class Stage(BaseModel):
    """One step of a pipeline. Subclass Captioner, Renderer, Filter or Grouping, and define one of the three shapes."""

    # a bound of NaN or infinity would silently let everything through
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), validate_default=True, allow_inf_nan=False
    )

    #: the recipe's word for this kind of stage: caption, render, filter; empty if the stage's own name is the word
    verb: ClassVar[str]
    #: if the stage's own name is the word, the parameter whose value stands beside it in a recipe
    main: ClassVar[str] = ""
    #: fields of the record that it writes, beside captions and scores; `calibrate` looks for a writer of `negatives`
    record_fields: ClassVar[frozenset[str]] = frozenset()
    #: arrays that it can give → what to set for that on the command line
    can_give_arrays: ClassVar[Mapping[str, str]] = {}
    #: increase it when the same parameters give another result; it is part of the provenance
    version: ClassVar[str] = "1"
    #: parameters that change only the speed; fingerprint and provenance leave them out
    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size", "concurrency"})
    #: set it if results are lists: then every result opens a group, a single sample too, and `best_of` may follow
    opens_groups: ClassVar[bool] = False
    #: for the shape group, what makes a group: the samples that a stage made of one sample, or all samples of a block
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
        """Raise, before any work is done, if this stage cannot run (a missing model). Loads nothing."""

    def setup(self, device: str) -> None:
        """Load models onto `device` ("cpu", "cuda:0"). Runs once in each process, before the first batch.

        Report each model with `record_model`.
        """

    def prepare(self, sample: Sample) -> Any:
        """Do per-sample CPU work (decode, resize, tokenize). Threads run it ahead of the batch.

        The engine passes the result to `process_prepared(batch, prepared)`, `process_one(sample, prepared)` or
        `process_group(samples, prepared)`. May raise SampleError: that sample becomes a `failed` row, and its
        neighbours go on.
        """

    def assemble(self, batch: Sequence[Sample], prepared: Sequence[Any]) -> Any:
        """Turn the results of `prepare` for a batch into the `prepared` that `process_prepared` gets.

        Runs in a thread, one batch ahead. Pad, stack and pin here, so that the device finds its tensors ready.
        """
        return prepared

    def process(self, batch: Sequence[Sample]) -> list[Any]:
        """One Result for each sample of the batch, in order."""
        return self.process_prepared(batch, self.assemble(batch, [self.prepare(sample) for sample in batch]))

    def process_prepared(self, batch: Sequence[Sample], prepared: Any) -> list[Any]:
        """Like `process`, with the results of `prepare` (and `assemble`). Define this one if you define `prepare`."""
        if type(self).process is Stage.process:
            raise TypeError(f"{type(self).__name__} must define process(), process_one() or process_group()")
        return self.process(batch)

    async def process_one(self, sample: Sample) -> Result:
        """The Result for one sample. Other samples run at the same time, so never block: await, or use `prepare`.

        `batch_size` samples run at once if the stage's chat model runs in this process, else `concurrency`.
        """
        raise NotImplementedError

    def process_group(self, samples: Sequence[Sample]) -> list[Any]:
        """One Result for each sample of a group, in order. This closes the group."""
        raise NotImplementedError

    def window(self) -> int | None:
        """For groups of a block, the most samples in one group. None makes the whole block one group."""
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
        """Report, in setup(), that this model was loaded. It goes into provenance and run.json."""
        if model not in self._models:
            self._models.append(model)

    def sub_stage(self, stage: StageT) -> StageT:
        """`stage` as a part of this one, with this stage's seeds and name. Its models enter this stage's provenance."""
        part = stage.bound(self.step_name, self._run_seed)
        self._sub_stages.append(part)
        return part

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """Every model that setup() loaded, including those of sub-stages."""
        return tuple(dict.fromkeys([*self._models, *(m for part in self._sub_stages for m in part.models)]))

    # -- what the engine uses ----------------------------------------------------------------------------------------

    def bound(self, step_name: str, run_seed: int) -> Self:
        """A copy with its name and seed in a run. It has loaded nothing yet."""
        stage = self.model_copy()
        stage._step_name, stage._run_seed, stage._models, stage._sub_stages = step_name, run_seed, [], []
        return stage

    @property
    def shape(self) -> Shape:
        """batch, one or group, by the method that the class defines."""
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
        """Raise RecipeError if the stage cannot come after `before`, the earlier stages of its recipe."""

    def parameters(self) -> dict[str, Any]:
        """The parameters that differ from their defaults, as JSON values, without those that change only the speed."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude=set(self.speed_only))

    if not TYPE_CHECKING:  # otherwise mypy would accept every name

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
    """Scores samples, and drops those out of bounds. See `mmsynth.bounds`."""

    verb: ClassVar[str] = "filter"
    #: what its scores and arrays say something about: "caption", "image" or both. When a later stage changes that, they
    #: are removed from the sample (arrays of both go with the image); where nothing is declared they stay
    judges: ClassVar[frozenset[str]] = frozenset()


class Grouping(Stage):
    """Makes several samples of one, or chooses or joins samples that belong together.

    Its registered name is its word in a recipe, followed by the value of its `main` parameter: `repeat: 4`.
    """

    verb: ClassVar[str] = ""
