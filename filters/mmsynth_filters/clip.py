"""The filter `clip`: scores how well an image and its captions match, with any open_clip model.

Knows samples and their captions. `mmsynth.models.clip` has the models and turns captions into tokens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from mmsynth.models import resolve_dtype, tell_of_nano
from mmsynth.models.clip.find import find_clip
from mmsynth.models.clip.model import ClipModel, Embedding, Pixels, load_tokenizer
from mmsynth.models.clip.text import Caption, CaptionReader
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Filter


@dataclass(frozen=True, slots=True)
class Ready:
    """The model's input for one sample."""

    pixels: Pixels
    #: the sample's caption first, then the record's other captions, each text once; empty without a caption
    captions: tuple[Caption, ...]


class ClipScore(Filter):
    """Score the image against each of its captions with a CLIP model, and drop the sample if it is out of bounds.

    The score is the cosine of the two embeddings, unscaled. Every caption in `record["captions"]` gets
    `scores: {name: …}` in its entry. `min` and `max` bound the score of the sample's own caption. Reasons:
    `<name>_below_min`, `<name>_above_max`, `<name>_not_finite`. Without a bound it only scores. With one, a sample
    without a caption is dropped as `no_caption`. Samples without an image fail as `no_image`.

    Captions longer than the model's context are cut at sentence ends (else between words) into pieces that fit. The
    score is the mean of the pieces' cosines, weighted by their tokens, and the entry says `pieces: k`. With
    `long_captions: truncate`, the filter ignores the rest, and the entry says `truncated: true`. For a caption without
    an entry, the record itself says `clip_pieces` or `clip_truncated`.

    With `embeddings: true`, the normalized image embeddings of the kept samples lie beside each shard as
    `00000_image.npy` (`image_<name>` if `name` is not clip). Row i belongs to the i-th sample of the tar, as in
    clip-retrieval. `select` uses them to find near-duplicates.

    JPEGs are decoded no larger than the model needs, and pictures are resized with vectorized code, which changes the
    third digit of scores. `exact` avoids both, and makes `dtype: auto` float32, which gives open_clip's own scores.

    Radford et al. 2021 (CLIP, arXiv 2103.00020); models by open_clip.
    """

    judges = frozenset({"caption", "image"})

    model: str = Field(
        "nano", min_length=1, description="nano, a local open_clip folder, NAME/PRETRAINED, or hf-hub:owner/name"
    )
    min: float | None = Field(None, ge=-1, le=1, description="drop below this cosine")
    max: float | None = Field(None, ge=-1, le=1, description="drop above this cosine")
    name: str = Field("clip", pattern=r"^[a-z][a-z0-9_]*$", description="the score's name: column score_<name>")
    embeddings: bool = Field(False, description="write image embeddings beside each shard: 00000_image.npy, float16")
    long_captions: Literal["pieces", "truncate"] = Field("pieces", description="for captions over the model's context")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    exact: bool = Field(False, description="no approximations: decode fully, resize with PIL; auto is float32")
    revision: str | None = Field(None, description="branch, tag or commit of a hf-hub: model")
    batch_size: int = Field(64, ge=1, description="images, and captions, that go through the model together")

    can_give_arrays: ClassVar[Mapping[str, str]] = {"image": "--set embeddings=true"}
    #: 2: JPEGs decoded at reduced size
    version: ClassVar[str] = "2"

    _clip: ClipModel = PrivateAttr()
    _reader: CaptionReader = PrivateAttr()

    @model_validator(mode="after")
    def _revision_of_a_hub_model(self) -> Self:
        if self.revision is not None and not self.model.startswith("hf-hub:"):
            raise ValueError(f"revision goes with a hf-hub: model, and model is '{self.model}'")
        return self

    def check(self) -> None:
        load_tokenizer(find_clip(self.model, self.revision))

    def setup(self, device: str) -> None:
        found = find_clip(self.model, self.revision)
        if self.model == "nano":
            tell_of_nano(self.step_name, "ViT-B-32/laion2b_s34b_b79k")
        dtype = resolve_dtype("float32" if self.exact and self.dtype == "auto" else self.dtype, device)
        self._clip = ClipModel(found, device, dtype, exact=self.exact)
        self._reader = self._clip.reader(in_pieces=self.long_captions == "pieces")
        self.record_model(self._clip.info)

    def prepare(self, sample: Sample) -> Ready:
        """Decode, resize, crop and tokenize."""
        # decode first, because a broken image is a failure whatever its caption
        pixels = self._clip.pixels_of(sample.required_image())
        if sample.text is None:
            return Ready(pixels, ())
        texts = dict.fromkeys([sample.text, *(e["text"] for e in _entries(sample) if _is_scored(e))])
        return Ready(pixels, tuple(self._reader.read(text) for text in texts))

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[Ready]) -> list[Result]:
        is_embedded = [bool(one.captions) or (self.embeddings and not self.is_bounded) for one in prepared]
        ready = [one for one, embedded in zip(prepared, is_embedded, strict=True) if embedded]
        texts = [[piece.tokens for caption in one.captions for piece in caption.pieces] for one in ready]
        compared = iter(self._clip.compare([one.pixels for one in ready], texts, self.batch_size))
        return [
            self._result(sample, one, *next(compared)) if embedded else self.without_caption(sample)
            for sample, one, embedded in zip(batch, prepared, is_embedded, strict=True)
        ]

    @property
    def embeddings_name(self) -> str:
        """The array name of the files with the embeddings."""
        return "image" if self.name == "clip" else f"image_{self.name}"

    def score_names(self) -> tuple[str, ...]:
        return (self.name,)

    def array_names(self) -> tuple[str, ...]:
        return (self.embeddings_name,) if self.embeddings else ()

    def _result(self, sample: Sample, ready: Ready, cosines: Sequence[float], embedding: Embedding) -> Result:
        """The sample with its scores and embedding, or Dropped."""
        scored = self._scored(sample, ready, cosines) if ready.captions else self.without_caption(sample)
        if isinstance(scored, Dropped) or not self.embeddings:
            return scored
        return scored.with_array(self.embeddings_name, embedding)

    def _scored(self, sample: Sample, ready: Ready, cosines: Sequence[float]) -> Sample | Dropped:
        found: dict[str, dict[str, Any]] = {}
        rest = iter(cosines)
        for caption in ready.captions:
            found[caption.text] = _findings(caption, [next(rest) for _ in caption.pieces])
        score = float(found[ready.captions[0].text]["score"])
        told = self._with_findings(sample, found) if math.isfinite(score) else sample
        return self.judged(told, {self.name: score})

    def _with_findings(self, sample: Sample, found: Mapping[str, Mapping[str, Any]]) -> Sample:
        """The sample with scores and flags in copies of the captions' entries."""
        entries = []
        for entry in _entries(sample):
            if _is_scored(entry):
                flags = dict(found[entry["text"]])
                scores = {**entry.get("scores", {}), self.name: flags.pop("score")}
                entry = {**entry, "scores": scores, **flags}  # noqa: PLW2901
            entries.append(entry)
        if entries:
            sample = sample.with_record(captions=entries)
        if not any(_is_scored(entry) and entry["text"] == sample.caption for entry in entries):
            flags = {key: value for key, value in found[sample.caption or ""].items() if key != "score"}
            sample = sample.with_record(**{f"{self.name}_{key}": value for key, value in flags.items()})
        return sample


def _findings(caption: Caption, cosines: Sequence[float]) -> dict[str, Any]:
    """The caption's score, and flags such as `pieces`."""
    weights = [piece.weight for piece in caption.pieces]
    score = sum(c * w for c, w in zip(cosines, weights, strict=True)) / sum(weights)
    # arithmetic in batches is exact to about 1e-7, so round smaller digits away
    found: dict[str, Any] = {"score": round(score, 6)}
    if len(weights) > 1:
        found["pieces"] = len(weights)
    if caption.truncated:
        found["truncated"] = True
    return found


def _entries(sample: Sample) -> list[Any]:
    entries = sample.record.get("captions", ())
    return list(entries) if isinstance(entries, list | tuple) else []


def _is_scored(entry: Any) -> bool:
    text = entry.get("text") if isinstance(entry, Mapping) else None
    return isinstance(text, str) and bool(text.strip())
