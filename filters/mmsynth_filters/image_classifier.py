"""The filter `image_classifier`: scores by any image classifier of transformers, or a small head over CLIP embeddings.

Watermark, aesthetic and safety models are of one of these two kinds. Knows no model by name.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from pydantic import Field, PrivateAttr, model_validator

from mmsynth.errors import SampleError
from mmsynth.models import ModelFiles, ModelInfo, resolve_dtype
from mmsynth.models.classifiers import HubClassifier, find_classifier
from mmsynth.models.clip.head import ClipHead, head_layers
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Filter

if TYPE_CHECKING:
    import PIL.Image
    import torch

    from mmsynth.models.clip.find import Found


class ImageClassifier(Filter):
    """Score each image with a classifier, and drop it when one label's score is out of bounds.

    Without `head`, `model` is an image classifier of transformers by hub id or local folder, such as
    `Falconsai/nsfw_image_detection`; each of `labels` gets the score `<name>_<label>`: its probability, each label's
    own where the model says multi-label, else the softmax's. A model with one output gives its value as it is.

    With `head`, `model` is an open_clip model (nano, a local folder, NAME/PRETRAINED or hf-hub:owner/name) and `head` a
    safetensors file with `weight` (scores × embedding) and maybe `bias`: the score is weight · e + bias for the image's
    embedding e of length 1, as LAION's aesthetic predictor makes it. A small head has several such layers, named as
    torch's Sequential names them (`0.weight`, `layers.2.weight`, …), with `head_activation` between them. One score is
    called `<name>`; several are called `<name>_<label>` by `labels`, in the order of the rows.

    `min` and `max` judge one label: `bound_label`, or the only one. Reasons: `<name>_below_min`, `<name>_above_max`,
    and `<name>_not_finite` for a NaN in any score. Without a bound it only scores. Samples without an image fail as
    `no_image`.
    """

    model: str = Field(min_length=1, description="a hub id or a local folder; with head, an open_clip model")
    labels: list[str] = Field(default_factory=list, description="the labels that are scored; without head at least one")
    head: str | None = Field(None, description="a safetensors file: a head over the embeddings of a CLIP model")
    head_activation: Literal["none", "relu", "gelu"] = Field("none", description="between the layers of a head")
    bound_label: str | None = Field(None, description="the label that min and max judge; the only one when left out")
    min: float | None = Field(None, description="drop below this score")
    max: float | None = Field(None, description="drop above this score")
    name: str = Field("image", pattern=r"^[a-z][a-z0-9_]*$", description="what the scores are called")
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    _scorer: "Scorer | None" = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _labels_and_bounds(self) -> Self:
        if not self.labels and self.head is None:
            raise ValueError("labels must name at least one of the model's labels")
        names = [_slug(label) for label in self.labels]
        if len(set(names)) < len(names) or not all(names):
            raise ValueError(f"labels must differ in their letters and digits, got {', '.join(self.labels)}")
        if self.bound_label is not None and self.bound_label not in self.labels:
            raise ValueError(f"bound_label '{self.bound_label}' is not among labels")
        bounded = self.min is not None or self.max is not None
        if bounded and self.bound_label is None and len(self.labels) > 1:
            raise ValueError(f"bound_label must say which of {', '.join(self.labels)} min and max judge")
        if self.min is not None and self.max is not None and self.max < self.min:
            raise ValueError(f"max must be at least min, got min={self.min} and max={self.max}")
        return self

    def check(self) -> None:
        if self.head is None:
            find_classifier("image", self.model, self.revision, self.labels)
        else:
            from mmsynth.models.clip.find import find

            find(self.model, self.revision)
            head_layers(Path(self.head).expanduser(), self.labels)

    def setup(self, device: str) -> None:
        dtype = resolve_dtype(self.dtype, device)
        found: ModelFiles | Found
        if self.head is None:
            found = find_classifier("image", self.model, self.revision, self.labels)
            self._scorer = TransformersClassifier(found, self.labels, device, dtype)
        else:
            from mmsynth.models.clip.find import find

            found = find(self.model, self.revision)
            self._scorer = ClipHead(found, Path(self.head).expanduser(), self.head_activation, device, dtype)
        self.record_model(ModelInfo(found.id, found.revision, str(dtype).removeprefix("torch.")))

    def prepare(self, sample: Sample) -> Any:
        """Decode, resize and crop."""
        if sample.image is None:
            raise SampleError("no_image", f"{self.name} is scored by the image")
        return self._ready.pixels_for(sample.image.pixels())

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[Any]) -> list[Result]:
        scores = self._ready.scores(prepared)
        return [self._judged(sample, own) for sample, own in zip(batch, scores, strict=True)]

    def score_names(self) -> tuple[str, ...]:
        if self.head is not None and not self.labels:
            return (self.name,)
        return tuple(f"{self.name}_{_slug(label)}" for label in self.labels)

    @property
    def _ready(self) -> "Scorer":
        if self._scorer is None:
            raise RuntimeError(f"{type(self).__name__}.setup() must run before the first batch")
        return self._scorer

    def _judged(self, sample: Sample, scores: Sequence[float]) -> Result:
        if not all(map(math.isfinite, scores)):
            return Dropped(f"{self.name}_not_finite", sample)
        rounded = {name: round(score, 6) for name, score in zip(self.score_names(), scores, strict=True)}
        scored = sample.with_scores(**rounded)
        judged = scores[self.labels.index(self.bound_label) if self.bound_label is not None else 0]
        if self.min is not None and judged < self.min:
            return Dropped(f"{self.name}_below_min", scored)
        if self.max is not None and judged > self.max:
            return Dropped(f"{self.name}_above_max", scored)
        return scored


class Scorer(Protocol):
    """A model that gives numbers to pictures."""

    def pixels_for(self, picture: "PIL.Image.Image") -> Any:
        """One picture as the model wants it; runs in threads."""

    def scores(self, prepared: Sequence[Any]) -> list[list[float]]:
        """For each prepared picture its scores, in the order of the labels."""


class TransformersClassifier:
    """An image classifier of transformers."""

    def __init__(self, found: ModelFiles, labels: Sequence[str], device: str, dtype: "torch.dtype") -> None:
        self._classifier = HubClassifier("image", found, labels, device, dtype)

    def pixels_for(self, picture: "PIL.Image.Image") -> "torch.Tensor":
        pixels: torch.Tensor = self._classifier.processor(images=picture, return_tensors="pt")["pixel_values"]
        return pixels

    def scores(self, prepared: Sequence["torch.Tensor"]) -> list[list[float]]:
        import torch

        own = self._classifier
        pixels = torch.cat(list(prepared)).to(own.model.device, own.model.dtype)
        with torch.inference_mode():
            logits = own.logits(pixel_values=pixels)
            if own.config.num_labels == 1 and not own.is_multi_label:
                found = own.chosen(logits)  # a value, no probability
            else:
                found = own.probabilities(logits, each_by_itself=own.is_multi_label)
            scores: list[list[float]] = found.tolist()
        return scores


def _slug(label: str) -> str:
    """A label as part of a score's name."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
