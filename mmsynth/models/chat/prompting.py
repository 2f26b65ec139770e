"""From images and prompts to a model's inputs: chat models through their template, plain ones through their processor.

Knows how each family wants its prompt written and its batch padded. Does not know how text is generated.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mmsynth.errors import ModelError

if TYPE_CHECKING:
    import PIL.Image

CAPTION_PROMPT = "Describe this image in one sentence."

#: plain models that caption only when asked; the others (BLIP, GIT, BLIP-2) caption what they see without a prompt
_PLAIN_CAPTION = {
    "paligemma": "caption en",
    "instructblip": CAPTION_PROMPT,
    "florence2": "<CAPTION>",
    "kosmos-2": "An image of",
}
#: plain models that were trained on questions in a form of their own; the others take the question as it is
_PLAIN_QUESTION = {"paligemma": "answer en {question}", "blip-2": "Question: {question} Answer:"}
#: processors that put the image's place into the text themselves
_PLACES_IMAGE_ITSELF = {"blip-2", "instructblip", "kosmos-2", "florence2"}


class Prompts(Protocol):
    """How one model is prompted."""

    def caption(self) -> str | None:
        """The prompt for a caption when the recipe gives none. None: the model wants no prompt."""

    def question(self, question: str, instruction: str) -> str:
        """The prompt for a question; `instruction` says in which form to answer."""

    def batch_key(self, prompt: str | None) -> int:
        """Only rows with the same key may share a batch."""

    def inputs(self, images: Sequence["PIL.Image.Image"], prompts: Sequence[str | None]) -> Any:
        """The model's inputs, one row for each image and prompt."""


def prompts_for(processor: Any, model_type: str, system: str | None) -> Prompts:
    """Chat prompts where the processor has a chat template, else plain ones."""
    template = chat_template(processor)
    if template is not None:
        return ChatPrompts(processor, template, system)
    if system is not None:
        raise ModelError("system is for chat models, and this model has no chat template: leave system out")
    return PlainPrompts(processor, model_type)


def chat_template(processor: Any) -> str | None:
    """The chat template of a processor, or of its tokenizer if that one has a place for images."""
    template = getattr(processor, "chat_template", None)
    if template is None:
        template = getattr(getattr(processor, "tokenizer", None), "chat_template", None)
        template = template if "image" in str(template) else None
    return template.get("default") if isinstance(template, dict) else template


class ChatPrompts:
    """SmolVLM, Qwen-VL, LLaVA, Gemma, …: a conversation of one turn, in the model's own template."""

    def __init__(self, processor: Any, template: str, system: str | None) -> None:
        self._processor, self._template, self._system = processor, template, system
        # the first new token must follow the prompt's last one, so rows are filled up on the left
        processor.tokenizer.padding_side = "left"

    def caption(self) -> str | None:
        return CAPTION_PROMPT

    def question(self, question: str, instruction: str) -> str:
        return f"{question} {instruction}".strip()

    def batch_key(self, prompt: str | None) -> int:
        return 0

    def inputs(self, images: Sequence["PIL.Image.Image"], prompts: Sequence[str | None]) -> Any:
        rendered = {prompt: self._render(prompt or "") for prompt in set(prompts)}
        texts = [rendered[prompt] for prompt in prompts]
        bos = self._processor.tokenizer.bos_token
        # a template that writes the bos token itself must not get a second one
        special = {"add_special_tokens": False} if bos and texts[0].startswith(bos) else {}
        nested = [[image] for image in images]
        return self._processor(images=nested, text=texts, padding=True, return_tensors="pt", **special)

    def _render(self, prompt: str) -> str:
        """One user turn with the image first, up to where the model begins to answer."""
        system = [{"role": "system", "content": [{"type": "text", "text": self._system}]}] if self._system else []
        user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
        # models that can reason aloud (Qwen3-VL, GLM) are asked for the answer alone
        quiet = {"enable_thinking": False} if "enable_thinking" in self._template else {}
        text = self._processor.apply_chat_template(
            [*system, user], chat_template=self._template, add_generation_prompt=True, tokenize=False, **quiet
        )
        return str(text)


class PlainPrompts:
    """BLIP, GIT, PaliGemma, Florence, base models: the processor takes the image and the prompt as they are."""

    def __init__(self, processor: Any, model_type: str) -> None:
        self._processor, self._type = processor, model_type
        token = getattr(processor, "image_token", None)
        self._image_token = "" if token is None or model_type in _PLACES_IMAGE_ITSELF else str(token)
        if self._image_token:  # a chat model's base: large images may take more tokens than small ones
            processor.tokenizer.padding_side = "left"

    def caption(self) -> str | None:
        return _PLAIN_CAPTION.get(self._type)

    def question(self, question: str, instruction: str) -> str:
        return _PLAIN_QUESTION.get(self._type, "{question}").format(question=question)

    def batch_key(self, prompt: str | None) -> int:
        # several of these models ignore the padding mask, or count positions through the padding: rows whose prompts
        # have the same length need none
        return 0 if prompt is None else len(self._processor.tokenizer(prompt)["input_ids"])

    def inputs(self, images: Sequence["PIL.Image.Image"], prompts: Sequence[str | None]) -> Any:
        if not self._image_token and prompts[0] is None:
            return self._processor(images=list(images), return_tensors="pt")
        texts = [self._with_image(prompt or "") for prompt in prompts]
        shown = [[image] for image in images] if self._image_token else list(images)
        inputs = self._processor(images=shown, text=texts, padding=True, return_tensors="pt")
        inputs.pop("labels", None)  # PaliGemma's processor gives them for training
        if self._type == "git":
            # GIT goes on from the prompt; its tokenizer ends the prompt as if the text were complete
            for name in {"input_ids", "attention_mask", "token_type_ids"} & inputs.keys():
                inputs[name] = inputs[name][:, :-1]
        return inputs

    def _with_image(self, prompt: str) -> str:
        return prompt if self._image_token in prompt else self._image_token + prompt
