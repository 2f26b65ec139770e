"""The chat engine `transformers`: runs models in this process and answers in batches.

Takes image-text-to-text models with a chat template, plain captioners (BLIP, GIT, PaliGemma, Florence), and text-only
causal models. Each reply is the one that its request would get alone, without the prompt or text after the stop token.

Does not know how prompts are written (`prompting`) nor how tokens are drawn (`sampling`, `choices`).
"""

import copy
import os
import threading
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mmsynth.errors import MMSynthError, ModelError, SampleError
from mmsynth.models.chat.base import BatchChatModel, ModelSpec, Reply, Request, Usage
from mmsynth.models.chat.checkpoints import Checkpoint, find_checkpoint, load_checkpoint
from mmsynth.models.chat.choices import ChoiceScores, choice_tokens
from mmsynth.models.chat.generation_configs import leave_choosing_to_requests, stop_ids
from mmsynth.models.chat.prompting import Prompts, Row, picture_names, prompts_for
from mmsynth.models.chat.replies import ReplyWriter, opens_thought
from mmsynth.models.chat.sampling import Decoding, FiniteScores, PromptColumns, RepetitionPenalty, StopStrings
from mmsynth.models.chat.tensors import cast, moved, prompt_tokens
from mmsynth.models.devices import resolve_dtype
from mmsynth.models.files import ModelInfo
from mmsynth.models.weights import in_one_line

if TYPE_CHECKING:
    import PIL.Image
    import torch

_MOST_DECODING_THREADS = 4


class TransformersEngine:
    """Finds models by hub id, folder or `nano`, and loads them into this process."""

    def check(self, spec: ModelSpec) -> None:
        find_checkpoint(spec.model, spec.revision, spec.trust_remote_code)

    def load(self, spec: ModelSpec, device: str) -> "TransformersChat":
        found = find_checkpoint(spec.model, spec.revision, spec.trust_remote_code)
        dtype = resolve_dtype(spec.dtype, device)
        loaded = load_checkpoint(found, device, dtype, spec.trust_remote_code)
        return TransformersChat(loaded, ModelInfo(found.id, found.revision, str(dtype).removeprefix("torch.")))


@dataclass(frozen=True, slots=True)
class _HowAnswered:
    """The settings that requests must share to go into one call of `generate`."""

    decoding: Decoding
    choices: tuple[str, ...]
    stop: tuple[str, ...]
    batch_key: Hashable


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows that go through the model together: their requests, and their inputs, still on the CPU."""

    how: _HowAnswered
    places: list[int]
    inputs: dict[str, Any]
    #: prompt tokens of each row, without padding
    prompt_tokens: list[int]
    #: of each row, whether its prompt has opened a thought
    is_thinking: list[bool]


@dataclass(frozen=True, slots=True)
class _Assembled:
    """The inputs for requests. `errors` maps the place of a request without inputs to the reason."""

    batches: list[_Batch]
    errors: dict[int, SampleError]


class TransformersChat(BatchChatModel):
    """A loaded model of transformers."""

    def __init__(self, loaded: Checkpoint, info: ModelInfo) -> None:
        self.info = info
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.prompts: Prompts = prompts_for(loaded)
        self.is_chat, self.takes_images = self.prompts.is_chat, loaded.processor is not None
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._repetition_penalty = float(getattr(self.model.generation_config, "repetition_penalty", None) or 1.0)
        self._stop_strings = _strings(getattr(self.model.generation_config, "stop_strings", None))
        self._configs = leave_choosing_to_requests(self.model, self.tokenizer)
        # a fast tokenizer must not pad in one thread while it reads or writes in another: one at a time makes inputs,
        # and what turns tokens into text has a copy of its own, so that the device waits for none of them
        self._making_inputs = threading.Lock()
        self._writing = copy.deepcopy(self.tokenizer) if self.tokenizer.is_fast else self.tokenizer
        self._writer = ReplyWriter(self._writing, stop_ids(self.model))
        self._decoders = ThreadPoolExecutor(
            min(_MOST_DECODING_THREADS, os.cpu_count() or 1), thread_name_prefix="mmsynth-pictures"
        )
        self._choice_tokens: dict[tuple[str, ...], list[list[int]]] = {}

    def caption_prompt(self) -> str | None:
        return self.prompts.caption()

    def question_prompt(self, question: str, instruction: str = "") -> str:
        return self.prompts.question(question, instruction)

    def check_choices(self, choices: Sequence[str]) -> None:
        with self._making_inputs:
            self._choice_tokens[tuple(choices)] = choice_tokens(self.info.id, self.tokenizer, choices)

    # -- in a thread, while the device works on others ---------------------------------------------------------------

    def assemble(self, requests: Sequence[Request]) -> _Assembled:
        pictures = self._decoded(requests)
        groups: dict[_HowAnswered, list[tuple[int, Row]]] = {}
        errors: dict[int, SampleError] = {}
        for choices in {request.choices for request in requests} - {(), *self._choice_tokens}:
            self.check_choices(choices)
        with self._making_inputs:
            for place, request in enumerate(requests):
                try:
                    row = self.prompts.row(request.messages, _shown(request, pictures), is_literal=request.is_literal)
                except SampleError as error:
                    errors[place] = error
                    continue
                stop = () if request.choices else tuple(dict.fromkeys((*request.stop, *self._stop_strings)))
                how = _HowAnswered(_decoding(request), request.choices, stop, row.batch_key)
                groups.setdefault(how, []).append((place, row))
            return _Assembled([self._batch(how, rows) for how, rows in groups.items()], errors)

    def _decoded(self, requests: Sequence[Request]) -> "dict[int, PIL.Image.Image | SampleError]":
        """id(image) → its pixels or an error. Decodes each image once, however many requests show it."""
        named = {
            id(image): image
            for request in requests
            for name in picture_names(request.messages)
            if (image := request.images.get(name)) is not None
        }
        return dict(zip(named, self._decoders.map(_pixels, named.values()), strict=True))

    def _batch(self, how: _HowAnswered, rows: Sequence[tuple[int, Row]]) -> _Batch:
        made = self.prompts.inputs([row for _, row in rows])
        is_pinned = self.model.device.type == "cuda"
        inputs = {name: cast(value, self.model.dtype, is_pinned) for name, value in made.items()}
        thinking = [opens_thought(row.text) for _, row in rows]
        return _Batch(how, [place for place, _ in rows], inputs, prompt_tokens(made, len(rows)), thinking)

    # -- in the thread that owns the device --------------------------------------------------------------------------

    def check_prompt(self, text: str) -> None:
        place = self.prompts.literal.place_in(text.removeprefix(self.prompts.leading_place))
        if place is not None:
            raise ModelError(
                f"model '{self.info.id}': the prompt holds '{place}', which stands for a picture in this model; "
                "leave it out, the picture is shown anyway"
            )

    def check_request(self, request: Request) -> None:
        """Make the inputs for one request and let the model write one token."""
        reason = f"model '{self.info.id}' ({self.model.config.model_type}) cannot be asked this"
        try:
            found = self.answer([request], self.assemble([replace(request, max_tokens=1, stop=())]))[0]
        except MMSynthError:
            raise
        except Exception as error:
            if "CUDA error" in str(error):  # the device's failure, and no word on the model
                raise
            raise ModelError(f"{reason}: {in_one_line(error)}") from error
        # what depends on the numbers is another sample's failure, or none
        if isinstance(found, SampleError) and found.reason != "not_finite":
            raise ModelError(f"{reason}: {found.detail}")

    def answer(self, requests: Sequence[Request], assembled: _Assembled) -> list[Reply | Exception]:
        replies: dict[int, Reply | Exception] = dict(assembled.errors)
        for batch in assembled.batches:
            seeds = [requests[place].seed for place in batch.places]
            replies.update(zip(batch.places, self._answer(batch, seeds), strict=True))
        return [replies[place] for place in range(len(requests))]

    def _answer(self, batch: _Batch, seeds: Sequence[int]) -> list[Reply | Exception]:
        inputs = {name: moved(value, self.model.device) for name, value in batch.inputs.items()}
        finite = FiniteScores()
        if batch.how.choices:
            scores = ChoiceScores(self._choice_tokens[batch.how.choices])
            self._generate(inputs, 1, [finite, scores])
            replies = [
                Reply("", usage=Usage(tokens, 1), choice_probabilities=dict(zip(batch.how.choices, row, strict=True)))
                for row, tokens in zip(scores.probabilities(), batch.prompt_tokens, strict=True)
            ]
        else:
            decoding = batch.how.decoding
            choosing = [finite, *decoding.processors(seeds, self.model.device)]
            written = self._generate(inputs, decoding.max_new_tokens, choosing, batch.how.stop).tolist()
            rows = zip(written, batch.prompt_tokens, batch.is_thinking, strict=True)
            replies = [
                self._writer.reply(ids, tokens, batch.how.stop, is_thinking=thinks) for ids, tokens, thinks in rows
            ]
        return [
            reply if all(steps[: reply.usage.completion]) else self._not_finite(steps.index(False))
            for reply, steps in zip(replies, finite.of_rows(), strict=True)
        ]

    def _not_finite(self, token: int) -> SampleError:
        return SampleError(
            "not_finite",
            f"the model's scores for token {token + 1} are not finite in {self.info.dtype}: its weights are broken, "
            "or it overflows (try another dtype)",
        )

    def _generate(
        self, inputs: Mapping[str, Any], max_new_tokens: int, choosing: Sequence[Any], stop: tuple[str, ...] = ()
    ) -> "torch.Tensor":
        """The new tokens of each row."""
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        columns = PromptColumns()
        processors: list[Any] = [columns]
        if self._repetition_penalty != 1:
            mask = None if self.model.config.is_encoder_decoder else inputs.get("attention_mask")
            processors.append(RepetitionPenalty(self._repetition_penalty, mask))
        for config in self._configs:  # several models delegate generation to a part that reads its own config
            config.max_new_tokens = max_new_tokens
        stopping: list[Any] = [StopStrings(self._writing, stop, columns)] if stop else []
        with torch.inference_mode():
            sequences: torch.Tensor = self.model.generate(
                **inputs,
                logits_processor=LogitsProcessorList([*processors, *choosing]),
                stopping_criteria=StoppingCriteriaList(stopping),
            )
        if columns.count is None:  # Janus: nothing would say where the answer begins, nor draw it from its own seed
            raise ModelError(
                f"model '{self.info.id}' ({self.model.config.model_type}) takes no logits processors in transformers: "
                "it cannot be used here"
            )
        return sequences[:, columns.count :]


def _strings(given: Any) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def _decoding(request: Request) -> Decoding:
    if request.choices:
        return Decoding(1)
    if request.temperature == 0:
        return Decoding(request.max_tokens)
    return Decoding(request.max_tokens, request.temperature, request.top_p, request.top_k)


def _pixels(image: Any) -> "PIL.Image.Image | SampleError":
    try:
        pixels: PIL.Image.Image = image.pixels()
    except SampleError as error:
        return error
    return pixels


def _shown(request: Request, pictures: "Mapping[int, PIL.Image.Image | SampleError]") -> "list[PIL.Image.Image]":
    """The pictures of a request in the order of its messages. Raises SampleError."""
    shown = []
    for name in picture_names(request.messages):
        if name not in request.images:
            raise SampleError("no_image", f"a message shows the image {name!r}, which the request does not have")
        picture = pictures[id(request.images[name])]
        if isinstance(picture, SampleError):
            raise picture
        shown.append(picture)
    return shown
