"""From conversations to a model's inputs: chat models through their template, plain ones through their processor.

Knows the prompt format and the padding of each model family. Does not know how text is generated.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mmsynth.errors import SampleError
from mmsynth.models.chat.base import CAPTION_PROMPT
from mmsynth.models.chat.checkpoints import Checkpoint, first_line
from mmsynth.models.chat.literal import Literal
from mmsynth.models.chat.processors import sizes_leak, wanted_image_token

if TYPE_CHECKING:
    import PIL.Image

#: plain models that caption only if asked; the others (BLIP, GIT, BLIP-2) caption without a prompt
_PLAIN_CAPTION = {
    "paligemma": "caption en",
    "instructblip": CAPTION_PROMPT,
    "florence2": "<CAPTION>",
    "kosmos-2": "An image of",
}
#: plain models trained on questions in a special form; the others take the question as it is
_PLAIN_QUESTION = {"paligemma": "answer en {question}", "blip-2": "Question: {question} Answer:"}
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation in the model's format. Only rows with the same `batch_key` may share a batch."""

    text: str | None
    pictures: tuple["PIL.Image.Image", ...] = ()
    batch_key: Hashable = 0


class Prompts(Protocol):
    """How one model is prompted."""

    #: whether it takes conversations
    is_chat: bool
    #: makes special tokens in texts plain text
    literal: Literal
    #: what a prompt may begin with to say where its picture is
    leading_place: str

    def caption(self) -> str | None:
        """The prompt for a caption if the recipe gives none, or None if the model needs no prompt."""

    def question(self, question: str, instruction: str) -> str:
        """The prompt for a question. `instruction` says in which form to answer."""

    def row(self, messages: Messages, pictures: Sequence["PIL.Image.Image"], *, is_literal: bool = True) -> Row:
        """The conversation as the model reads it, its pictures in order. Raises SampleError if it takes none such.

        `is_literal`: special tokens in its texts are plain text.
        """

    def inputs(self, rows: Sequence[Row]) -> Any:
        """The model's inputs for rows of one batch."""


def prompts_for(loaded: Checkpoint) -> Prompts:
    """Chat prompts if there is a chat template, else plain ones."""
    if loaded.processor is None:
        return TextPrompts(loaded.tokenizer, _template_of(loaded.tokenizer))
    template = _image_template(loaded.processor)
    if template is not None:
        return ChatPrompts(loaded.processor, template, loaded.model)
    return PlainPrompts(loaded.processor, loaded.model_type, loaded.model)


def picture_names(messages: Messages) -> list[str]:
    """The names of the pictures that a conversation shows, in order."""
    return [part.get("image", "") for message in messages for part in _parts(message) if part["type"] == "image"]


class ChatPrompts:
    """SmolVLM, Qwen-VL, LLaVA, Gemma, …: a conversation in the model's own template."""

    is_chat = True
    leading_place = ""

    def __init__(self, processor: Any, template: str, model: Any) -> None:
        self._processor, self._template = processor, template
        self.literal = Literal(processor)
        self._sizes_apart = sizes_leak(processor, model)
        # the first new token must follow the prompt's last one, so rows are filled up on the left
        processor.tokenizer.padding_side = "left"

    def caption(self) -> str | None:
        return CAPTION_PROMPT

    def question(self, question: str, instruction: str) -> str:
        return f"{question} {instruction}".strip()

    def row(self, messages: Messages, pictures: Sequence["PIL.Image.Image"], *, is_literal: bool = True) -> Row:
        # templates look for the part's type, and some for its keys: a picture's name is ours alone
        turns = [
            {"role": message["role"], "content": [_without_name(part) for part in _parts(message)]}
            for message in (_literally(messages, self.literal) if is_literal else messages)
        ]
        # processors take pictures for all rows of a batch or for none
        sizes = tuple(picture.size for picture in pictures) if self._sizes_apart else ()
        text = _render(self._processor, self._template, turns)
        return Row(text, tuple(pictures), batch_key=(bool(pictures), sizes))

    def inputs(self, rows: Sequence[Row]) -> Any:
        texts = [row.text or "" for row in rows]
        bos = self._processor.tokenizer.bos_token
        # a template that writes the bos token itself must not get a second one
        special = {"add_special_tokens": False} if bos and texts[0].startswith(bos) else {}
        shown = {"images": [list(row.pictures) for row in rows]} if rows[0].pictures else {}
        return self._processor(**shown, text=texts, padding=True, return_tensors="pt", **special)


class TextPrompts:
    """Llama, Qwen, Mistral, …: text alone, in the model's chat template. Without one, the model continues a text."""

    leading_place = ""

    def __init__(self, tokenizer: Any, template: str | None) -> None:
        self._tokenizer, self._template = tokenizer, template
        self.is_chat = template is not None
        self.literal = Literal(tokenizer)
        tokenizer.padding_side = "left"

    def caption(self) -> str | None:
        return CAPTION_PROMPT if self.is_chat else None

    def question(self, question: str, instruction: str) -> str:
        return f"{question} {instruction}".strip() if self.is_chat else question

    def row(self, messages: Messages, pictures: Sequence["PIL.Image.Image"], *, is_literal: bool = True) -> Row:
        if pictures:
            raise SampleError("no_images_taken", "the model reads text alone, and the request has a picture")
        if is_literal:
            messages = _literally(messages, self.literal)
        if self._template is None:
            return Row(_only_text(messages))
        # these templates concatenate a message's content with strings
        turns = [{"role": message["role"], "content": _text_of(message) or ""} for message in messages]
        return Row(_render(self._tokenizer, self._template, turns))

    def inputs(self, rows: Sequence[Row]) -> Any:
        return self._tokenizer(
            [row.text or "" for row in rows],
            padding=True,
            return_tensors="pt",
            return_token_type_ids=False,
            add_special_tokens=not self.is_chat,  # templates write special tokens themselves
        )


class PlainPrompts:
    """BLIP, GIT, PaliGemma, Florence, base models: the processor takes the image and the prompt unchanged."""

    is_chat = False

    def __init__(self, processor: Any, model_type: str, model: Any) -> None:
        self._processor, self._type = processor, model_type
        self.literal = Literal(processor, named_only=True)
        self._sizes_apart = sizes_leak(processor, model)
        self.leading_place = wanted_image_token(processor) or ""
        if self.leading_place:  # a chat model's base: large images may take more tokens than small ones
            processor.tokenizer.padding_side = "left"

    def caption(self) -> str | None:
        return _PLAIN_CAPTION.get(self._type)

    def question(self, question: str, instruction: str) -> str:
        return _PLAIN_QUESTION.get(self._type, "{question}").format(question=question)

    def row(self, messages: Messages, pictures: Sequence["PIL.Image.Image"], *, is_literal: bool = True) -> Row:
        text = _only_text(messages)
        if text is not None and self.leading_place:
            text = text.removeprefix(self.leading_place)  # where it is put anyway
        if text is not None and is_literal:
            text = self.literal(text)
        if len(pictures) != 1:
            raise SampleError("not_one_image", f"the model takes one picture, and the request has {len(pictures)}")
        # several of these models ignore the padding mask, or count positions through the padding, so only rows whose
        # prompts have the same length share a batch and need no padding
        length = 0 if text is None else len(self._processor.tokenizer(text)["input_ids"])
        return Row(text, tuple(pictures), batch_key=(length, pictures[0].size if self._sizes_apart else None))

    def inputs(self, rows: Sequence[Row]) -> Any:
        images = [row.pictures[0] for row in rows]
        if not self.leading_place and rows[0].text is None:
            return self._processor(images=images, return_tensors="pt")
        texts = [self.leading_place + (row.text or "") for row in rows]
        shown = [[image] for image in images] if self.leading_place else images
        inputs = self._processor(images=shown, text=texts, padding=True, return_tensors="pt")
        inputs.pop("labels", None)  # PaliGemma's processor adds them for training
        if self._type == "git":
            # GIT continues the prompt, but its tokenizer ends it as if the text were complete
            for name in {"input_ids", "attention_mask", "token_type_ids"} & inputs.keys():
                inputs[name] = inputs[name][:, :-1]
        return inputs


def _template_of(part: Any) -> str | None:
    template = getattr(part, "chat_template", None)
    return template.get("default") if isinstance(template, dict) else template


def _image_template(processor: Any) -> str | None:
    """The chat template of a processor, or of its tokenizer if that template has a place for images."""
    template = getattr(processor, "chat_template", None)
    if template is not None:
        return _template_of(processor)
    template = _template_of(processor.tokenizer)
    return template if "image" in str(template) else None


def _render(part: Any, template: str, turns: list[dict[str, Any]]) -> str:
    """The conversation up to the start of the model's answer."""
    from jinja2 import TemplateError

    # ask models that can reason aloud (Qwen3-VL, GLM) for the answer alone
    quiet = {"enable_thinking": False} if "enable_thinking" in template else {}
    try:
        text = part.apply_chat_template(
            turns, chat_template=template, add_generation_prompt=True, tokenize=False, **quiet
        )
    except TemplateError as error:  # some templates require alternating roles, or no system message
        raise SampleError("conversation_refused", f"the model's chat template says: {first_line(error)}") from error
    return str(text)


def _parts(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _literally(messages: Messages, literal: Literal) -> Messages:
    return [
        {
            **message,
            "content": [
                {**part, "text": literal(part["text"])} if part["type"] == "text" else part for part in _parts(message)
            ],
        }
        for message in messages
    ]


def _without_name(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "image"} if part["type"] == "image" else dict(part)


def _text_of(message: Mapping[str, Any]) -> str | None:
    texts = [part["text"] for part in _parts(message) if part["type"] == "text"]
    return "\n".join(texts) if texts else None


def _only_text(messages: Messages) -> str | None:
    """The text of a conversation of one user message. Models without a chat template take nothing else."""
    if len(messages) != 1 or messages[0]["role"] != "user":
        raise SampleError(
            "no_chat_template", "the model has no chat template: it takes one user message, and no system prompt"
        )
    return _text_of(messages[0])
