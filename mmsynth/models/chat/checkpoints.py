"""Finds and loads transformers checkpoints that write text: image-text-to-text models and text-only models.

Gives the model, its processor and its tokenizer. Does not know what they are asked.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mmsynth.errors import MMSynthError, ModelError, PluginError
from mmsynth.models.files import ModelFiles, find_model, nano_files
from mmsynth.models.loading import loading_quietly
from mmsynth.models.weights import check_files, in_one_line, loaded_whole

if TYPE_CHECKING:
    import torch

#: what transformers reads, by the names that it gives to weights: consolidated.safetensors is the same model once more
FILES = ["*.json", "model*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
#: and not in folders (original/, onnx/), save for more chat templates
IGNORED = [f"*/{pattern}" for pattern in FILES if pattern != "*.jinja"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model. `processor` is None for text-only models, whose tokenizer makes all inputs."""

    id: str
    model: Any
    processor: Any
    tokenizer: Any

    @property
    def model_type(self) -> str:
        return str(self.model.config.model_type)


class _Classes(NamedTuple):
    """The classes that load a checkpoint. A text-only model has no processor."""

    model: Any
    processor: Any


def find_checkpoint(model: str, revision: str | None, trust_remote_code: bool) -> ModelFiles:
    """The folder of a model that writes text, in safetensors. Checks it without loading it. Raises ModelError."""
    if model == "nano":
        return nano_files("chat")
    patterns = [*FILES, "*.py"] if trust_remote_code else FILES
    found = find_model(model, revision=revision, patterns=patterns, ignored=IGNORED)
    if not (found.folder / "config.json").is_file():
        raise ModelError(f"model '{model}' has no config.json in {found.folder}: not a transformers model")
    weights = sorted(found.folder.glob("model*.safetensors"))
    if not weights and not any(found.folder.glob("model*.safetensors.index.json")):
        raise ModelError(f"model '{model}' has no safetensors weights in {found.folder}; others are not loaded")
    check_files(model, found.folder, weights)
    _classes(found, trust_remote_code)
    return found


@loading_quietly("transformers")
def load_checkpoint(found: ModelFiles, device: str, dtype: "torch.dtype", trust_remote_code: bool) -> Checkpoint:
    """The model on `device`, cast once to `dtype`, with its processor and tokenizer. Raises ModelError."""
    from transformers import AutoTokenizer

    classes = _classes(found, trust_remote_code)
    tokenizer_class: Any = AutoTokenizer
    options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    try:
        if classes.processor is None:
            processor, tokenizer = None, tokenizer_class.from_pretrained(found.folder, **options)
        else:
            processor = classes.processor.from_pretrained(found.folder, **options)
            tokenizer = getattr(processor, "tokenizer", None)
        model = loaded_whole(
            found.id,
            "",
            classes.model.from_pretrained(
                found.folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            ),
        )
    except MMSynthError:
        raise
    except ImportError as error:  # processors name the package they miss (SmolVLM's needs num2words)
        raise PluginError(f"model '{found.id}' needs a package that is not installed: {first_line(error)}") from error
    except Exception as error:  # transformers and the libraries below it raise a dozen kinds for broken files
        raise ModelError(f"model '{found.id}' cannot be loaded: {in_one_line(error)}") from error
    if tokenizer is None:
        raise ModelError(f"model '{found.id}' has no processor with a tokenizer")
    return Checkpoint(found.id, model.to(device).eval(), processor, tokenizer)


def _classes(found: ModelFiles, trust_remote_code: bool) -> _Classes:
    """The classes that load a checkpoint. Raises ModelError for models that do not write text."""
    try:
        from transformers import (
            MODEL_FOR_CAUSAL_LM_MAPPING,
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForImageTextToText,
            AutoProcessor,
            BlipForQuestionAnswering,
        )
    except ImportError as error:
        raise PluginError(
            f"models that write text need '{error.name or error}', which is not installed: pip install 'mmsynth[vlm]'"
        ) from error
    try:
        config = AutoConfig.from_pretrained(found.folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:  # of a dozen kinds
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"model '{found.id}' comes with code of its own: read it, then set trust_remote_code: true to run it"
            ) from error
        raise ModelError(f"model '{found.id}' has a configuration that cannot be read: {in_one_line(error)}") from error
    architectures: list[str] = config.architectures or []
    remote = getattr(config, "auto_map", None) or {} if trust_remote_code else {}
    # BLIP's question-answering model shares the model type of its captioner, but has other weights
    if "BlipForQuestionAnswering" in architectures:
        return _Classes(BlipForQuestionAnswering, AutoProcessor)
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or "AutoModelForImageTextToText" in remote:
        return _Classes(AutoModelForImageTextToText, AutoProcessor)
    # the mapping also lists encoders such as BERT as decoders, which they were not trained to be
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and any(
        name == loads.__name__ for name in architectures for loads in _each(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)])
    )
    if causal or "AutoModelForCausalLM" in remote:
        return _Classes(AutoModelForCausalLM, None)
    raise ModelError(
        f"model '{found.id}' is a '{config.model_type}', which is neither an image-text-to-text model nor a causal "
        "language model of transformers"
    )


def _each(classes: Any) -> tuple[Any, ...]:
    return classes if isinstance(classes, tuple) else (classes,)


def first_line(error: Exception) -> str:
    """The first line of an error. Those of transformers often have paragraphs."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
