"""Image-text-to-text models of transformers: loading them, and generating text for many images at once.

Gives the text of each row as if it had been generated alone: no prompt, nothing after the stop token. Does not know
what the text is for; how prompts are written is `prompting`'s business, how tokens are drawn `sampling`'s.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mmsynth.errors import ModelError, PluginError
from mmsynth.models.chat.prompting import Prompts, prompts_for
from mmsynth.models.chat.sampling import PromptColumns, RepetitionPenalty, TokenChoice
from mmsynth.models.files import ModelFiles, find_model, nano_files
from mmsynth.models.loading import loading_quietly

if TYPE_CHECKING:
    import PIL.Image
    import torch

_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
#: what a checkpoint's generation config may still say: special tokens and what must not be written. How tokens are
#: chosen (sampling, beams, lengths) is the recipe's to say
_KEPT = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
    *("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens"),
    *("bad_words_ids", "no_repeat_ngram_size"),
)


def find_checkpoint(model: str, revision: str | None, trust_remote_code: bool) -> ModelFiles:
    """The folder of an image-text-to-text model in safetensors, checked without loading it. Raises ModelError."""
    if model == "nano":
        return nano_files("chat")
    found = find_model(model, revision=revision, patterns=[*_FILES, "*.py"] if trust_remote_code else _FILES)
    if not (found.folder / "config.json").is_file():
        raise ModelError(f"model '{model}' has no config.json in {found.folder}: not a transformers model")
    if not any(found.folder.glob("*.safetensors")):
        raise ModelError(f"model '{model}' has no safetensors weights in {found.folder}; others are not loaded")
    _model_class(found, trust_remote_code)
    return found


def _model_class(found: ModelFiles, trust_remote_code: bool) -> Any:
    """The class that loads a checkpoint. Raises ModelError for models that do not turn images into text."""
    try:
        from transformers import (
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
            AutoConfig,
            AutoModelForImageTextToText,
            BlipForQuestionAnswering,
        )
    except ImportError as error:
        raise PluginError(
            f"models that write text need '{error.name or error}', which is not installed: pip install 'mmsynth[vlm]'"
        ) from error
    try:
        config = AutoConfig.from_pretrained(found.folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"model '{found.id}' comes with code of its own: read it, then set trust_remote_code: true to run it"
            ) from error
        raise ModelError(f"model '{found.id}' has a configuration that cannot be read: {_line(error)}") from error
    # BLIP's answering model has the model type of its captioner, and other weights
    if "BlipForQuestionAnswering" in (config.architectures or ()):
        return BlipForQuestionAnswering
    by_remote_code = trust_remote_code and "AutoModelForImageTextToText" in (getattr(config, "auto_map", None) or ())
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not by_remote_code:
        raise ModelError(
            f"model '{found.id}' is a '{config.model_type}', which is no image-text-to-text model of transformers"
        )
    return AutoModelForImageTextToText


@loading_quietly("transformers")
def load_checkpoint(found: ModelFiles, device: str, dtype: "torch.dtype", trust_remote_code: bool) -> tuple[Any, Any]:
    """The model on `device`, cast once to `dtype`, and its processor. Raises ModelError."""
    from transformers import AutoProcessor

    model_class = _model_class(found, trust_remote_code)
    processor_class: Any = AutoProcessor
    options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    try:
        processor = processor_class.from_pretrained(found.folder, **options)
        model = model_class.from_pretrained(found.folder, dtype=dtype, use_safetensors=True, **options)
    except ImportError as error:  # processors name the package they miss (SmolVLM's needs num2words)
        raise PluginError(f"model '{found.id}' needs a package that is not installed: {_line(error)}") from error
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model '{found.id}' cannot be loaded: {_line(error)}") from error
    if getattr(processor, "tokenizer", None) is None:
        raise ModelError(f"model '{found.id}' has no processor with a tokenizer")
    return model.to(device).eval(), processor


class TextGenerator:
    """A loaded model that writes text about images."""

    def __init__(self, model: Any, processor: Any, decoding: TokenChoice, system: str | None = None) -> None:
        self.model, self.processor, self.decoding = model, processor, decoding
        self.prompts: Prompts = prompts_for(processor, model.config.model_type, system)
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        self._repetition_penalty = float(getattr(model.generation_config, "repetition_penalty", None) or 1.0)
        _leave_choosing_to(decoding, model, processor.tokenizer)
        self._stop_ids = _stop_ids(model)

    def generate(
        self,
        images: Sequence["PIL.Image.Image"],
        prompts: Sequence[str | None],
        seeds: Sequence[int],
        batch_size: int,
    ) -> list[str]:
        """The text for each image and prompt, in order. `seeds` count only when sampling."""
        texts = [""] * len(images)
        for rows in self._batches(prompts, batch_size):
            written = self._generate_batch(
                [images[i] for i in rows], [prompts[i] for i in rows], [seeds[i] for i in rows]
            )
            for i, text in zip(rows, written, strict=True):
                texts[i] = text
        return texts

    def _batches(self, prompts: Sequence[str | None], batch_size: int) -> Iterator[list[int]]:
        """Row numbers, at most `batch_size` together, only such as may share a batch."""
        groups: dict[int, list[int]] = {}
        keys = {prompt: self.prompts.batch_key(prompt) for prompt in set(prompts)}
        for i, prompt in enumerate(prompts):
            groups.setdefault(keys[prompt], []).append(i)
        for group in groups.values():
            yield from (group[start : start + batch_size] for start in range(0, len(group), batch_size))

    def _generate_batch(
        self, images: Sequence["PIL.Image.Image"], prompts: Sequence[str | None], seeds: Sequence[int]
    ) -> list[str]:
        import torch
        from transformers import LogitsProcessorList

        # only floating inputs are cast
        inputs = self.prompts.inputs(images, prompts).to(self.model.device, self.model.dtype)
        prompt_columns = PromptColumns()
        processors: list[Any] = [prompt_columns]
        if self._repetition_penalty != 1:
            mask = None if self.model.config.is_encoder_decoder else inputs.get("attention_mask")
            processors.append(RepetitionPenalty(self._repetition_penalty, mask))
        processors += self.decoding.processors(seeds, self.model.device)
        with torch.inference_mode():
            sequences = self.model.generate(**inputs, logits_processor=LogitsProcessorList(processors))
        new = sequences[:, prompt_columns.count :].tolist()
        return [self._decode(row) for row in new]

    def _decode(self, ids: list[int]) -> str:
        """The text up to the first stop token, stripped."""
        end = next((i for i, token in enumerate(ids) if token in self._stop_ids), len(ids))
        text = self.processor.tokenizer.decode(ids[:end], skip_special_tokens=True)
        return str(text).replace("\0", "").strip()


def _leave_choosing_to(decoding: TokenChoice, model: Any, tokenizer: Any) -> None:
    """Replace the generation config of a model and its parts: checkpoints come with sampling or beams turned on."""
    from transformers import GenerationConfig

    config_class: Any = GenerationConfig
    for part in model.modules():
        shipped = getattr(part, "generation_config", None)
        if shipped is None:
            continue
        kept = {name: getattr(shipped, name) for name in _KEPT if getattr(shipped, name, None) is not None}
        kept.setdefault("eos_token_id", tokenizer.eos_token_id)
        kept.setdefault("pad_token_id", tokenizer.pad_token_id)
        part.generation_config = config_class(
            **kept, do_sample=False, num_beams=1, max_new_tokens=decoding.max_new_tokens
        )


def _stop_ids(model: Any) -> set[int]:
    """The tokens at which this model stops."""
    if model.config.model_type == "blip":
        return {model.config.text_config.sep_token_id}  # BLIP's own generate stops there, whatever the config says
    # these hand generation to the language model inside
    part = model.language_model if model.config.model_type in {"blip-2", "instructblip"} else model
    ids = part.generation_config.eos_token_id
    return set(ids) if isinstance(ids, list) else {ids}


def _line(error: Exception) -> str:
    """The first line of an error of transformers, which are often paragraphs."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
