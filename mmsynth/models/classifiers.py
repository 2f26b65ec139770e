"""Image and text classifiers of transformers: finds them, checks their labels, loads them, and runs them.

Does not know samples, nor what a label means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from mmsynth.errors import ModelError, PluginError
from mmsynth.models.devices import dtype_name
from mmsynth.models.files import ModelFiles, ModelInfo, find_model
from mmsynth.models.loading import loading_quietly
from mmsynth.models.weights import check_files, in_one_line, loaded_whole

if TYPE_CHECKING:
    import PIL.Image
    import torch

Kind: TypeAlias = Literal["image", "text"]

#: set explicitly, or transformers would ask at the terminal whether to run a checkpoint's own code
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_FILES = ["*.json", "model*.safetensors", "*.txt", "*.model"]
_IGNORED = [f"*/{pattern}" for pattern in _FILES]


def find_classifier(kind: Kind, model: str, revision: str | None, labels: Sequence[str]) -> ModelFiles:
    """The folder of a classifier with these labels. Loads nothing. Raises ModelError, PluginError."""
    try:
        import transformers
    except ImportError as error:
        raise PluginError(
            f"the classifier '{model}' needs 'transformers', which is not installed: pip install 'mmsynth[vlm]'"
        ) from error
    known_kinds = {
        "image": transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        "text": transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    }
    found = find_model(model, revision=revision, patterns=_FILES, ignored=_IGNORED)
    try:
        config = transformers.AutoConfig.from_pretrained(found.folder, **_LOCAL)
    except Exception as error:  # transformers and the libraries below it raise a dozen kinds
        raise ModelError(f"model '{model}' has no readable configuration in {found.folder}") from error
    if type(config) not in known_kinds[kind]:
        raise ModelError(f"model '{model}' is a '{config.model_type}', which has no {kind} classifier in transformers")
    weights = sorted(found.folder.glob("model*.safetensors"))
    if not weights and not any(found.folder.glob("model*.safetensors.index.json")):
        raise ModelError(f"model '{model}' has no safetensors weights in {found.folder}; mmsynth loads no others")
    check_files(model, found.folder, weights)
    known = [str(label) for label in (config.id2label or {}).values()]
    if unknown := [label for label in labels if label not in known]:
        raise ModelError(f"model '{model}' has no label '{unknown[0]}'; its labels: {', '.join(known)}")
    return found


class ImageScorer(Protocol):
    """A model that gives numbers to pictures: an ImageClassifier, or a head over CLIP embeddings."""

    info: ModelInfo

    def pixels_for(self, picture: "PIL.Image.Image") -> Any:
        """One picture in the model's input format. Safe to call in threads."""

    def scores(self, prepared: Sequence[Any]) -> list[list[float]]:
        """The scores of each prepared picture, in the order of the labels."""


class _Classifier:
    """A classifier on its device, in its dtype, with its processor or tokenizer."""

    @loading_quietly("transformers")
    def __init__(self, kind: Kind, found: ModelFiles, labels: Sequence[str], device: str, dtype: "torch.dtype") -> None:
        import transformers

        classes: dict[Kind, tuple[Any, Any]] = {
            "image": (transformers.AutoModelForImageClassification, transformers.AutoImageProcessor),
            "text": (transformers.AutoModelForSequenceClassification, transformers.AutoTokenizer),
        }
        model_class, processor_class = classes[kind]
        try:  # transformers and its libraries raise many kinds of errors for broken files
            self.processor: Any = processor_class.from_pretrained(found.folder, **_LOCAL)
            loaded = model_class.from_pretrained(
                found.folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **_LOCAL
            )
        except Exception as error:
            raise ModelError(f"model '{found.id}' could not be loaded: {in_one_line(error)}") from error
        model: Any = loaded_whole(found.id, "", loaded)
        self.model: Any = model.to(device).eval()
        self.info = ModelInfo(found.id, found.revision, dtype_name(dtype))
        config: Any = model.config
        self.is_multi_label = bool(config.problem_type == "multi_label_classification")
        self.has_one_output = bool(config.num_labels == 1)
        # not label2id, which configurations may lack
        column = {str(label): int(i) for i, label in config.id2label.items()}
        self._columns = [column[label] for label in labels]

    def logits(self, **inputs: "torch.Tensor") -> "torch.Tensor":
        """Logits [inputs, labels] in float32, for all labels of the model. Runs in inference mode."""
        logits: torch.Tensor = self.model(**inputs).logits.float()
        return logits

    def probabilities(self, logits: "torch.Tensor", *, each_by_itself: bool) -> "torch.Tensor":
        """Probabilities [inputs, labels] of the chosen labels."""
        return self.chosen(logits.sigmoid() if each_by_itself else logits.softmax(dim=-1))

    def chosen(self, values: "torch.Tensor") -> "torch.Tensor":
        """The columns of the chosen labels."""
        return values[:, self._columns]


class ImageClassifier:
    """An image classifier of transformers. An ImageScorer.

    A score is the label's probability: the label's own if the model is multi-label, else from the softmax. A model with
    one output gives its raw value.
    """

    def __init__(self, found: ModelFiles, labels: Sequence[str], device: str, dtype: "torch.dtype") -> None:
        self._classifier = _Classifier("image", found, labels, device, dtype)
        self.info = self._classifier.info

    def pixels_for(self, picture: "PIL.Image.Image") -> "torch.Tensor":
        """One picture in the model's input format. Safe to call in threads."""
        pixels: torch.Tensor = self._classifier.processor(images=picture, return_tensors="pt")["pixel_values"]
        return pixels

    def scores(self, prepared: Sequence["torch.Tensor"]) -> list[list[float]]:
        """The scores of each prepared picture, in the order of the labels."""
        import torch

        own = self._classifier
        pixels = torch.cat(list(prepared)).to(own.model.device, own.model.dtype)
        with torch.inference_mode():
            logits = own.logits(pixel_values=pixels)
            if own.has_one_output and not own.is_multi_label:
                found = own.chosen(logits)  # a raw value, not a probability
            else:
                found = own.probabilities(logits, each_by_itself=own.is_multi_label)
            scores: list[list[float]] = found.tolist()
        return scores


@dataclass(frozen=True, slots=True)
class TextScores:
    """The labels' probabilities for one text, and whether its end was cut to fit the model's context."""

    scores: tuple[float, ...]
    truncated: bool


class TextClassifier:
    """A sequence classifier of transformers.

    A score is the label's probability: the label's own if the model is multi-label or has one output, else from the
    softmax.
    """

    def __init__(self, found: ModelFiles, labels: Sequence[str], device: str, dtype: "torch.dtype") -> None:
        self._classifier = _Classifier("text", found, labels, device, dtype)
        self.info = self._classifier.info
        self._tokenizer = self._classifier.processor
        config = self._classifier.model.config
        positions = getattr(config, "max_position_embeddings", None) or self._tokenizer.model_max_length
        # RoBERTa-like models reserve the first positions for padding, and only the tokenizer says so
        self._context = int(min(positions, self._tokenizer.model_max_length))

    def scores(self, texts: Sequence[str]) -> list[TextScores]:
        """The scores of each text, in the order of the labels."""
        import torch

        if not texts:
            return []
        own = self._classifier
        longer = [len(ids) > self._context for ids in self._tokenizer(list(texts), verbose=False)["input_ids"]]
        inputs = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._context, return_tensors="pt"
        ).to(own.model.device)
        with torch.inference_mode():
            logits = own.logits(**inputs)
            found = own.probabilities(logits, each_by_itself=own.is_multi_label or own.has_one_output).tolist()
        return [TextScores(tuple(row), cut) for row, cut in zip(found, longer, strict=True)]
