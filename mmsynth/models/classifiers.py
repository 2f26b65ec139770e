"""Classifiers of transformers, of images or of texts: finding one with the labels asked for, and loading it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mmsynth.errors import ModelError, PluginError
from mmsynth.models import ModelFiles, find_model, loading_quietly

if TYPE_CHECKING:
    import torch

Kind: TypeAlias = Literal["image", "text"]

#: without a word on it, transformers would ask the person at the terminal whether to run a checkpoint's own code
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


def find_classifier(kind: Kind, model: str, revision: str | None, labels: Sequence[str]) -> ModelFiles:
    """The folder of a classifier with these labels; nothing is loaded. Raises ModelError, PluginError."""
    try:
        import transformers
    except ImportError as error:
        raise PluginError(f"model '{model}' needs 'transformers': pip install 'mmsynth[vlm]'") from error
    known_kinds = {
        "image": transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        "text": transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    }
    found = find_model(model, revision=revision, patterns=_FILES)
    try:
        config = transformers.AutoConfig.from_pretrained(found.folder, **_LOCAL)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model '{model}' has no configuration that can be read in {found.folder}") from error
    if type(config) not in known_kinds[kind]:
        raise ModelError(f"model '{model}' is a '{config.model_type}', which is no {kind} classifier of transformers")
    if not any(found.folder.glob("*.safetensors")):
        raise ModelError(f"model '{model}' has no safetensors weights in {found.folder}; others are not loaded")
    known = [str(label) for label in (config.id2label or {}).values()]
    if unknown := [label for label in labels if label not in known]:
        raise ModelError(f"model '{model}' has no label '{unknown[0]}'; its labels: {', '.join(known)}")
    return found


class HubClassifier:
    """A classifier on its device, in its dtype, with its processor or tokenizer."""

    @loading_quietly("transformers")
    def __init__(self, kind: Kind, found: ModelFiles, labels: Sequence[str], device: str, dtype: "torch.dtype") -> None:
        import transformers

        classes: dict[Kind, tuple[Any, Any]] = {
            "image": (transformers.AutoModelForImageClassification, transformers.AutoImageProcessor),
            "text": (transformers.AutoModelForSequenceClassification, transformers.AutoTokenizer),
        }
        model_class, processor_class = classes[kind]
        try:
            self.processor: Any = processor_class.from_pretrained(found.folder, **_LOCAL)
            model: Any = model_class.from_pretrained(found.folder, dtype=dtype, use_safetensors=True, **_LOCAL)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(f"model '{found.id}' cannot be loaded: {str(error).strip().splitlines()[0]}") from error
        self.model: Any = model.to(device).eval()
        self.config: Any = model.config
        # not label2id, which configurations may leave out
        column = {str(label): int(i) for i, label in self.config.id2label.items()}
        self._columns = [column[label] for label in labels]

    def logits(self, **inputs: "torch.Tensor") -> "torch.Tensor":
        """[inputs, labels] in float32, of all labels of the model. In inference mode."""
        logits: torch.Tensor = self.model(**inputs).logits.float()
        return logits

    def probabilities(self, logits: "torch.Tensor", *, each_by_itself: bool) -> "torch.Tensor":
        """[inputs, labels] of the labels asked for."""
        return self.chosen(logits.sigmoid() if each_by_itself else logits.softmax(dim=-1))

    def chosen(self, values: "torch.Tensor") -> "torch.Tensor":
        """The columns of the labels asked for."""
        return values[:, self._columns]

    @property
    def is_multi_label(self) -> bool:
        return bool(self.config.problem_type == "multi_label_classification")
