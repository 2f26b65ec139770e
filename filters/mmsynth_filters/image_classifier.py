"""The filter `image_classifier`: scores by any image classifier of transformers, or a small head over CLIP embeddings.

Watermark, aesthetic and safety models are of one of these kinds. Knows labels and bounds; the models are in
`mmsynth.models`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from mmsynth.bounds import Bound
from mmsynth.models import classifiers, resolve_dtype
from mmsynth.models.clip.find import find_clip
from mmsynth.models.clip.head import ClipHead, head_layers
from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter


class ImageClassifier(Filter):
    """Score each image with a classifier, and drop it if one label's score is out of bounds.

    Without `head`, `model` is an image classifier of transformers by hub id or local folder, such as
    `Falconsai/nsfw_image_detection`. Each of `labels` gets the score `<name>_<label>`, its probability: the label's own
    if the model is multi-label, else from the softmax. A model with one output gives its raw value.

    With `head`, `model` is an open_clip model (nano, a local folder, NAME/PRETRAINED or hf-hub:owner/name), and `head`
    is a safetensors file with `weight` (scores × embedding) and an optional `bias`. The score is weight · e + bias for
    the image's embedding e of length 1, as in LAION's aesthetic predictor. A small head has several such layers, with
    the names of torch's Sequential (`0.weight`, `layers.2.weight`, …) and `head_activation` between them. A single
    score is called `<name>`. Several are called `<name>_<label>`, with `labels` in the order of the rows.

    `min` and `max` bound one label: `bound_label`, or the only one. Reasons: `<score>_below_min`, `<score>_above_max`,
    and `<score>_not_finite` for a NaN in any score. Without a bound it only scores. Samples without an image fail as
    `no_image`.
    """

    judges = frozenset({"image"})

    model: str = Field(min_length=1, description="a hub id or a local folder; with head, an open_clip model")
    labels: list[str] = Field(default_factory=list, description="the labels to score; without head at least one")
    head: str | None = Field(None, description="a safetensors file: a head over the embeddings of a CLIP model")
    head_activation: Literal["none", "relu", "gelu"] = Field("none", description="between the layers of a head")
    bound_label: str | None = Field(None, description="the label that min and max bound; default: the only one")
    min: float | None = Field(None, description="drop below this score")
    max: float | None = Field(None, description="drop above this score")
    name: str = Field("image", pattern=r"^[a-z][a-z0-9_]*$", description="the scores' name, or its prefix")
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    _scorer: classifiers.ImageScorer | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _labels_are_clear(self) -> Self:
        if not self.labels and self.head is None:
            raise ValueError("labels must name at least one of the model's labels")
        names = [_slug(label) for label in self.labels]
        if len(set(names)) < len(names) or not all(names):
            raise ValueError(f"labels must differ in their letters and digits, got {', '.join(self.labels)}")
        if self.bound_label is not None and self.bound_label not in self.labels:
            raise ValueError(f"bound_label '{self.bound_label}' is not among labels")
        if self.is_bounded and self.bound_label is None and len(self.labels) > 1:
            raise ValueError(f"bound_label must say which of {', '.join(self.labels)} min and max judge")
        return self

    def check(self) -> None:
        if self.head is None:
            classifiers.find_classifier("image", self.model, self.revision, self.labels)
        else:
            find_clip(self.model, self.revision)
            head_layers(Path(self.head).expanduser(), self.labels)

    def setup(self, device: str) -> None:
        dtype = resolve_dtype(self.dtype, device)
        if self.head is None:
            found = classifiers.find_classifier("image", self.model, self.revision, self.labels)
            self._scorer = classifiers.ImageClassifier(found, self.labels, device, dtype)
        else:
            clip = find_clip(self.model, self.revision)
            self._scorer = ClipHead(clip, Path(self.head).expanduser(), self.head_activation, device, dtype)
        self.record_model(self._scorer.info)

    def prepare(self, sample: Sample) -> Any:
        """Decode, resize and crop."""
        return self._ready.pixels_for(sample.required_image().pixels())

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[Any]) -> list[Result]:
        names, found = self.score_names(), self._ready.scores(prepared)
        rounded = [{name: round(score, 6) for name, score in zip(names, own, strict=True)} for own in found]
        return [self.judged(sample, scores) for sample, scores in zip(batch, rounded, strict=True)]

    def score_names(self) -> tuple[str, ...]:
        if self.head is not None and not self.labels:
            return (self.name,)
        return tuple(f"{self.name}_{_slug(label)}" for label in self.labels)

    def bounds(self) -> tuple[Bound, ...]:
        place = self.labels.index(self.bound_label) if self.bound_label in self.labels else 0
        return tuple(Bound(score, min="min", max="max") for score in self.score_names()[place : place + 1])

    @property
    def _ready(self) -> classifiers.ImageScorer:
        if self._scorer is None:
            raise RuntimeError(f"{type(self).__name__}.setup() must run before the first batch")
        return self._scorer


def _slug(label: str) -> str:
    """A label as part of a score's name."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
