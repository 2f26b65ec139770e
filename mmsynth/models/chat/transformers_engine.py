"""The chat engine `transformers`: runs models in this process and answers in batches.

Takes image-text-to-text models with a chat template, plain captioners (BLIP, GIT, PaliGemma, Florence), and text-only
causal models. Each reply is the one that its request would get alone, without the prompt or text after the stop token.

Does not know how prompts are written (`prompting`) nor how tokens are drawn (`sampling`, `choices`).
"""

import copy
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmsynth.errors import SampleError
from mmsynth.models.chat.base import BatchChatModel, ModelSpec, Reply, Request, Usage
from mmsynth.models.chat.checkpoints import Checkpoint, find_checkpoint, load_checkpoint
from mmsynth.models.chat.choices import ChoiceScores, choice_tokens
from mmsynth.models.chat.prompting import Prompts, Row, picture_names, prompts_for
from mmsynth.models.chat.sampling import Decoding, PromptColumns, RepetitionPenalty
from mmsynth.models.devices import resolve_dtype
from mmsynth.models.files import ModelInfo

if TYPE_CHECKING:
    import PIL.Image
    import torch

#: the settings kept from a checkpoint's generation config: special tokens and forbidden tokens. The request decides how
#: to choose tokens (sampling, beams, lengths)
_KEPT = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
    *("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens"),
    *("bad_words_ids", "no_repeat_ngram_size"),
)
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
    batch_key: int


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows that go through the model together: their requests, and their inputs, still on the CPU."""

    how: _HowAnswered
    places: list[int]
    inputs: dict[str, Any]
    #: prompt tokens of each row, without padding
    prompt_tokens: list[int]


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
        self.is_chat = self.prompts.is_chat
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._repetition_penalty = float(getattr(self.model.generation_config, "repetition_penalty", None) or 1.0)
        self._configs = _leave_choosing_to_requests(self.model, self.tokenizer)
        self._stop_ids = _stop_ids(self.model)
        # a fast tokenizer must not pad in one thread while another uses it. So only one thread at a time makes inputs,
        # and decoding uses a copy, so that the device need not wait
        self._making_inputs = threading.Lock()
        self._writer = copy.deepcopy(self.tokenizer) if self.tokenizer.is_fast else self.tokenizer
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
                    row = self.prompts.row(request.messages, _shown(request, pictures))
                except SampleError as error:
                    errors[place] = error
                    continue
                how = _HowAnswered(_decoding(request), request.choices, row.batch_key)
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
        inputs = {name: _cast(value, self.model.dtype, is_pinned) for name, value in made.items()}
        return _Batch(how, [place for place, _ in rows], inputs, _prompt_tokens(made, len(rows)))

    # -- in the thread that owns the device --------------------------------------------------------------------------

    def answer(self, requests: Sequence[Request], assembled: _Assembled) -> list[Reply | Exception]:
        replies: dict[int, Reply | Exception] = dict(assembled.errors)
        for batch in assembled.batches:
            seeds = [requests[place].seed for place in batch.places]
            replies.update(zip(batch.places, self._answer(batch, seeds), strict=True))
        return [replies[place] for place in range(len(requests))]

    def _answer(self, batch: _Batch, seeds: Sequence[int]) -> list[Reply]:
        inputs = {name: _moved(value, self.model.device) for name, value in batch.inputs.items()}
        if batch.how.choices:
            scores = ChoiceScores(self._choice_tokens[batch.how.choices])
            self._generate(inputs, 1, [scores])
            return [
                Reply("", usage=Usage(tokens, 1), choice_probabilities=dict(zip(batch.how.choices, row, strict=True)))
                for row, tokens in zip(scores.probabilities(), batch.prompt_tokens, strict=True)
            ]
        decoding = batch.how.decoding
        choosing = decoding.processors(seeds, self.model.device)
        written = self._generate(inputs, decoding.max_new_tokens, choosing).tolist()
        return [self._reply(ids, tokens) for ids, tokens in zip(written, batch.prompt_tokens, strict=True)]

    def _generate(self, inputs: Mapping[str, Any], max_new_tokens: int, choosing: Sequence[Any]) -> "torch.Tensor":
        """The new tokens of each row."""
        import torch
        from transformers import LogitsProcessorList

        columns = PromptColumns()
        processors: list[Any] = [columns]
        if self._repetition_penalty != 1:
            mask = None if self.model.config.is_encoder_decoder else inputs.get("attention_mask")
            processors.append(RepetitionPenalty(self._repetition_penalty, mask))
        for config in self._configs:  # several models delegate generation to a part that reads its own config
            config.max_new_tokens = max_new_tokens
        with torch.inference_mode():
            sequences: torch.Tensor = self.model.generate(
                **inputs, logits_processor=LogitsProcessorList([*processors, *choosing])
            )
        return sequences[:, columns.count :]

    def _reply(self, ids: list[int], prompt_tokens: int) -> Reply:
        """The text up to the first stop token, stripped."""
        end = next((i for i, token in enumerate(ids) if token in self._stop_ids), None)
        text = str(self._writer.decode(ids[:end], skip_special_tokens=True)).replace("\0", "").strip()
        if end is None:
            return Reply(text, "length", Usage(prompt_tokens, len(ids)))
        return Reply(text, "stop", Usage(prompt_tokens, end + 1))


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


def _cast(value: Any, dtype: "torch.dtype", is_pinned: bool) -> Any:
    """Cast floating-point tensors to `dtype`, and pin them so that Python need not wait for the copy to the device."""
    import torch

    if isinstance(value, list | tuple):
        return type(value)(_cast(one, dtype, is_pinned) for one in value)
    if not isinstance(value, torch.Tensor):
        return value
    value = value.to(dtype) if value.is_floating_point() else value
    return value.pin_memory() if is_pinned else value


def _moved(value: Any, device: "torch.device") -> Any:
    import torch

    if isinstance(value, list | tuple):
        return type(value)(_moved(one, device) for one in value)
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value


def _prompt_tokens(inputs: Mapping[str, Any], rows: int) -> list[int]:
    """The number of prompt tokens of each row, without padding. 0 if the model reads no text."""
    mask = inputs.get("attention_mask")
    counts: list[int] = [0] * rows if mask is None else mask.sum(dim=-1).tolist()
    return counts


def _leave_choosing_to_requests(model: Any, tokenizer: Any) -> list[Any]:
    """Replace the generation configs of a model and its parts, because checkpoints may turn on sampling or beams."""
    from transformers import GenerationConfig

    config_class: Any = GenerationConfig
    configs = []
    for part in model.modules():
        shipped = getattr(part, "generation_config", None)
        if shipped is None:
            continue
        kept = {name: getattr(shipped, name) for name in _KEPT if getattr(shipped, name, None) is not None}
        kept.setdefault("eos_token_id", tokenizer.eos_token_id)
        kept.setdefault("pad_token_id", tokenizer.pad_token_id)
        part.generation_config = config_class(**kept, do_sample=False, num_beams=1, max_new_tokens=1)
        configs.append(part.generation_config)
    return configs


def _stop_ids(model: Any) -> set[int]:
    """The tokens at which this model stops."""
    if model.config.model_type == "blip":
        return {model.config.text_config.sep_token_id}  # BLIP's own generate stops there, whatever the config says
    # these models delegate generation to the language model inside
    part = model.language_model if model.config.model_type in {"blip-2", "instructblip"} else model
    ids = part.generation_config.eos_token_id
    return set(ids) if isinstance(ids, list) else {ids}
