"""The interface between stages and chat engines: a Request, a Reply, and the models that turn one into the other.

A stage says what to ask, and the engine of its model decides how to send it. A ChatModel (a server, vLLM) answers each
request as it comes. A BatchChatModel runs in this process and answers batches, which the block engine gathers
(`Collector`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from mmsynth.image import Image
from mmsynth.models.files import ModelInfo

CAPTION_PROMPT = "Describe this image in one sentence."


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a chat model.

    - `messages`: the conversation in the form that chat templates read: `{"role", "content": [{"type": "image",
      "image": name}, {"type": "text", "text": …}]}`. Plain captioners take one user message: an image and optional text
    - `images`: the pictures that messages name; the main picture's name is ""
    - `seed`: counts only where text is drawn at random
    - `max_tokens`, `temperature`, `top_p`, `top_k`: how it is drawn; at temperature 0 the likeliest token is taken
    - `choices`: answers to choose among by the first token: the reply has their probabilities, no text is written
    - `schema`: a JSON schema that the text has to keep, for engines that can hold a model to one
    - `stop`: strings before which the text ends, beside what the model itself stops at
    - `is_literal`: special tokens in the texts (`<image>`, `</s>`) reach the model as plain text, so that a caption
      cannot steer it; False for texts that come from a recipe and may want them
    """

    messages: Sequence[Mapping[str, Any]]
    images: Mapping[str, Image] = field(default_factory=dict)
    seed: int = 0
    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    choices: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    stop: tuple[str, ...] = ()
    is_literal: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens used by a reply, or by all requests of a sample."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.prompt + other.prompt, self.completion + other.completion)


@dataclass(frozen=True, slots=True)
class Reply:
    """A chat model's answer.

    - `finish`: "stop" where the model ended by itself, "length" where `max_tokens` cut it off
    - `reasoning`: what the model thought before it answered, where it says so; the text is the answer alone, and empty
      where the thought has no end
    - `choice_probabilities`: choice → probability, adding up to 1, where the request gave choices
    """

    text: str
    finish: str = "stop"
    usage: Usage = Usage()
    choice_probabilities: Mapping[str, float] = field(default_factory=dict)
    reasoning: str = ""

    @property
    def is_cut(self) -> bool:
        """Whether `max_tokens` cut it off."""
        return self.finish == "length"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The model that an engine should find and load, and how."""

    model: str
    revision: str | None = None
    dtype: str = "auto"
    trust_remote_code: bool = False


class ChatModel(ABC):
    """A model that answers requests."""

    #: the loaded model, for provenance
    info: ModelInfo
    #: whether it takes conversations, with a system message and several turns (plain captioners do not)
    is_chat: bool = True
    #: whether it takes pictures; text-only models do not
    takes_images: bool = True

    @abstractmethod
    async def chat(self, request: Request) -> Reply:
        """The answer. Raises SampleError for a request that fails for good.

        Called in the event loop of the blocks under way; a worker has another loop later, so keep no connection
        beyond one.
        """

    def caption_prompt(self) -> str | None:
        """The prompt for a caption if the recipe gives none, or None if the model needs no prompt."""
        return CAPTION_PROMPT

    def question_prompt(self, question: str, instruction: str = "") -> str:
        """The prompt for a question. `instruction` says in which form to answer."""
        return f"{question} {instruction}".strip()

    def check_choices(self, choices: Sequence[str]) -> None:  # noqa: B027 - most models need nothing for it
        """Raise ModelError if the model cannot choose among these `choices`."""

    def check_prompt(self, text: str) -> None:  # noqa: B027 - most models need nothing for it
        """Raise ModelError if a recipe's own `text` cannot be put to this model, whatever is asked with it."""

    def check_request(self, request: Request) -> None:  # noqa: B027 - asking a server costs something
        """Raise ModelError, in one line, if the model can never answer requests such as this one."""


class BatchChatModel(ChatModel):
    """A model in this process. It answers the requests of all samples of a batch together."""

    @abstractmethod
    def assemble(self, requests: Sequence[Request]) -> Any:
        """Make the model's inputs for these requests, in a thread, while the device works on others."""

    @abstractmethod
    def answer(self, requests: Sequence[Request], assembled: Any) -> Sequence[Reply | Exception]:
        """The replies, in order, each as if asked alone. Only this method uses the device.

        An exception in place of a reply is raised where that reply is awaited, and does not affect the others.
        """

    async def chat(self, request: Request) -> Reply:
        collector = _collector.get()
        if collector is not None:
            return await collector.ask(request)
        reply = self.answer([request], self.assemble([request]))[0]
        if isinstance(reply, Exception):
            raise reply
        return reply


class ChatEngine(Protocol):
    """Finds and runs models. Each entry point in `mmsynth.chat_engines` names such a class, built without arguments."""

    def check(self, spec: ModelSpec) -> None:
        """Raise ModelError or PluginError, before any work is done, if the model is not found. Loads nothing."""

    def load(self, spec: ModelSpec, device: str) -> ChatModel:
        """The model, ready on `device`."""


class Collector(Protocol):
    """Gathers the requests of samples in progress. The block engine has one per sample."""

    async def ask(self, request: Request) -> Reply:
        """Add the request to a batch, and wait for the reply."""

    def count(self, usage: Usage) -> None:
        """Note that the sample has used these tokens."""


_collector: ContextVar[Collector | None] = ContextVar("mmsynth_collector", default=None)
_counting: ContextVar[Collector | None] = ContextVar("mmsynth_counting", default=None)


@contextmanager
def collecting(collector: Collector, *, in_batches: bool) -> Iterator[None]:
    """Within the block, count tokens with `collector`. With `in_batches`, also send it the requests."""
    tokens = (_counting.set(collector), _collector.set(collector if in_batches else None))
    try:
        yield
    finally:
        _counting.reset(tokens[0])
        _collector.reset(tokens[1])


async def ask(model: ChatModel, request: Request) -> Reply:
    """The model's reply. Counts its tokens for the sample that asked."""
    reply = await model.chat(request)
    if (counting := _counting.get()) is not None:
        counting.count(reply.usage)
    return reply
