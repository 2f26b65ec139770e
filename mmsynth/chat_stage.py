"""ChatStage: what all stages that use a chat model share: its parameters, finding it, loading it, asking it.

    class Rewrite(WritesText, mm.Captioner):
        \"\"\"Say each caption in plain words.\"\"\"

        async def process_one(self, sample):
            reply = await self.ask(f"Say this in plain words: {sample.caption}", sample)
            return sample.with_caption(reply.text, model=self.model)

ChatStage is the base of all such stages. WritesText adds the parameters of sampling. Neither knows the questions, nor
how the engine answers them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import PIL.Image
from pydantic import Field, PrivateAttr, field_validator, model_validator

from mmsynth import registry
from mmsynth.errors import ModelError
from mmsynth.image import Image
from mmsynth.models.chat import BatchChatModel, ChatEngine, ChatModel, ModelSpec, Reply, Request, ask
from mmsynth.models.loading import tell_of_nano
from mmsynth.sample import Sample
from mmsynth.stage import Stage

NANO = "nano"
_TRIAL_SIZE, _TRIAL_COLOUR = (96, 64), (128, 96, 64)
IN_PROCESS = "transformers"
REAL = "HuggingFaceTB/SmolVLM-256M-Instruct"


class ChatStage(Stage):
    """A stage that asks a chat model. Its shape is one.

    Derive from WritesText if the model should write text, and from this if it only chooses (`choices`).
    """

    model: str = Field(NANO, description="hub id, local folder, or nano")
    engine: str = Field(IN_PROCESS, description="the engine that runs the model; transformers runs in this process")
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    trust_remote_code: bool = Field(False, description="run code that comes with the model")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    system: str | None = Field(None, description="system prompt, for chat models")
    concurrency: int = Field(16, ge=1, description="samples in progress at once, if the engine batches by itself")

    _chat_model: ChatModel | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _revision_of_a_hub_model(self) -> Self:
        if self.model == NANO and self.revision is not None:
            raise ValueError("revision goes with a hub model, and model is 'nano'")
        return self

    def check(self) -> None:
        # a recipe may name an engine by its import path, but may not import it
        self._engine(may_import=False).check(self._spec())

    def setup(self, device: str) -> None:
        if self.model == NANO and self.engine == IN_PROCESS:
            tell_of_nano(self.step_name, REAL)
        # imports are allowed here: the process that started this one has checked the engine
        model = self._engine(may_import=True).load(self._spec(), device)
        if self.system is not None and not model.is_chat:
            raise ModelError("system is for chat models, and this model has no chat template: leave system out")
        self._chat_model = model
        self.record_model(model.info)
        self._try_out()

    # -- what such a stage may use -----------------------------------------------------------------------------------

    @property
    def chat_model(self) -> ChatModel:
        """The model that setup() loaded."""
        if self._chat_model is None:
            raise RuntimeError(f"{type(self).__name__}.setup() must run before the first sample")
        return self._chat_model

    def trial(self) -> Request:
        """A request like those to come, made in setup() to find out once what would fail for every sample.

        Write it where a stage always shows pictures, or has a prompt of its own.
        """
        return self.trial_of("What is this?", images=[""] if self.chat_model.takes_images else [])

    def trial_of(self, text: str | None, *, images: Sequence[str] = (), **options: Any) -> Request:
        """`ask` with a small picture."""
        sample = Sample("trial", Image.from_pixels(PIL.Image.new("RGB", _TRIAL_SIZE, _TRIAL_COLOUR)), "a picture")
        return self.request([self.user(text, images)], sample, seed=0, **options)

    async def chat(self, request: Request) -> Reply:
        """The model's reply to any request."""
        return await ask(self.chat_model, request)

    async def ask(
        self, text: str | None, sample: Sample, *, images: Sequence[str] = (), seed: int | None = None, **options: Any
    ) -> Reply:
        """The model's reply to one user message: the pictures of `sample` called `images`, then `text`.

        `seed` defaults to the sample's own. `options` are those of Request, such as `choices`.
        Raises SampleError(`no_image`) if the sample has no such picture.
        """
        return await self.chat(self.request([self.user(text, images)], sample, seed=seed, **options))

    def request(
        self, messages: Sequence[Mapping[str, Any]], sample: Sample, *, seed: int | None = None, **options: Any
    ) -> Request:
        """A Request with this stage's parameters: the system prompt, then `messages` and the pictures they name."""
        system = [{"role": "system", "content": [{"type": "text", "text": self.system}]}] if self.system else []
        return Request(
            messages=[*system, *messages],
            images=_pictures(messages, sample),
            seed=self.seed_of(sample) if seed is None else seed,
            **{**self.decoding(), **options},
        )

    @staticmethod
    def user(text: str | None, images: Sequence[str] = ()) -> dict[str, Any]:
        """A user message: pictures by their names in the sample ("" is the main one), then the text."""
        shown: list[dict[str, str]] = [{"type": "image", "image": name} for name in images]
        return {"role": "user", "content": [*shown, *([] if text is None else [{"type": "text", "text": text}])]}

    @staticmethod
    def assistant(text: str) -> dict[str, Any]:
        """The model's answer as a message of the conversation."""
        return {"role": "assistant", "content": [{"type": "text", "text": text}]}

    def decoding(self) -> dict[str, Any]:
        """This stage's parameters as options of Request."""
        return {}

    # -- what the engine uses ----------------------------------------------------------------------------------------

    def batch_model(self) -> BatchChatModel | None:
        model = self.chat_model
        return model if isinstance(model, BatchChatModel) else None

    def _try_out(self) -> None:
        if self.system is not None:
            self.chat_model.check_prompt(self.system)
        self.chat_model.check_request(self.trial())

    def _engine(self, may_import: bool) -> ChatEngine:
        engine: ChatEngine = registry.load("chat_engine", self.engine, may_import=may_import)()
        return engine

    def _spec(self) -> ModelSpec:
        return ModelSpec(self.model, self.revision, self.dtype, self.trust_remote_code)


class WritesText(ChatStage):
    """A ChatStage whose model writes text, with the parameters of sampling."""

    max_new_tokens: int = Field(64, ge=1, description="longest text, in tokens")
    temperature: float = Field(0, ge=0, allow_inf_nan=False, description="0 takes the likeliest token, more samples")
    top_p: float | None = Field(None, gt=0, le=1, description="sample from the likeliest tokens up to this probability")
    top_k: int | None = Field(None, ge=1, description="sample from this many likeliest tokens")

    stop: list[str] | None = Field(None, min_length=1, description="strings before which the text ends")

    @field_validator("stop")
    @classmethod
    def _stops_somewhere(cls, stop: list[str] | None) -> list[str] | None:
        if any(not string for string in stop or ()):
            raise ValueError("a stop string must not be empty")
        return stop

    @model_validator(mode="after")
    def _sampling_needs_temperature(self) -> Self:
        given = [name for name in ("top_p", "top_k") if getattr(self, name) is not None]
        if given and self.temperature == 0:
            raise ValueError(f"{' and '.join(given)} need a temperature above 0, such as temperature: 0.7")
        return self

    def decoding(self) -> dict[str, Any]:
        return {
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "stop": tuple(self.stop or ()),
        }

    @property
    def samples(self) -> bool:
        """Whether text is sampled, with the sample's seed."""
        return self.temperature > 0


def _pictures(messages: Sequence[Mapping[str, Any]], sample: Sample) -> dict[str, Image]:
    contents = [message["content"] for message in messages if not isinstance(message["content"], str)]
    names = (part.get("image", "") for content in contents for part in content if part["type"] == "image")
    return {name: sample.required_image(name) for name in names}
