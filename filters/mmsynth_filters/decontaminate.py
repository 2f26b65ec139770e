"""The filter `decontaminate`: keeps near copies of an evaluation set's images and texts out of training data.

Knows samples and the evaluation set. `mmsynth.near_duplicates` decides what counts as the same.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from mmsynth.errors import SampleError, SourceError
from mmsynth.models import ModelInfo
from mmsynth.near_duplicates.contamination import EQUAL_FROM, NGRAM, Ngrams
from mmsynth.near_duplicates.hashes import DISTANCE, Hashes, check_hashing, hash_of, nearest_within
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.secrets import without_secrets
from mmsynth.sources.base import Source, Unreadable
from mmsynth.sources.specs import as_source
from mmsynth.stage import Filter

_SAMPLES_A_SLICE = 10_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation set, indexed by hashes of its images and runs of words of its texts."""

    hashes: Hashes
    hashed_keys: tuple[str, ...]
    ngrams: Ngrams
    text_keys: tuple[str, ...]
    digest: str


class Decontaminate(Filter):
    """Drop samples that show nearly the same image as an evaluation set, or share a run of words with its texts.

    `evaluation` is a folder, tars, a table or a file of prompts, or any source with its parameters:
    `{kind: prompts, path: questions.jsonl}` has texts only. An image matches if its perceptual hash, or that of its
    mirror image, is within `distance` bits (`contaminated_image`). That finds recompressed, resized and framed copies,
    but not crops. Flat pictures (of about one colour) and stripes are not compared. A text matches if it shares `ngram`
    words in a row, contains an evaluation text of 8 words or more, or equals one of 5 to 7 words; shorter ones never
    match (`contaminated_text`). Texts are all captions in the record, and questions with their answers.
    `record["contaminated_by"]` is the key of the evaluation sample. A sample with neither image nor text goes on.

    Brown et al. 2020 (GPT-3, arXiv 2005.14165, appendix C) for texts.
    """

    evaluation: str | dict[str, Any] = Field(
        min_length=1,
        description="folder, tars, table or prompts of the evaluation set; or a source as a recipe writes it: "
        "{kind: table, path: eval.csv, image: picture}",
    )
    distance: int = Field(DISTANCE, ge=0, le=32, description="bits of 64 in which hashes of a picture may differ")
    ngram: int = Field(NGRAM, ge=EQUAL_FROM, description="words in a row that count as the same text")
    images: bool = Field(True, description="compare images")
    texts: bool = Field(True, description="compare texts")

    _evaluation: Evaluation = PrivateAttr()

    @model_validator(mode="after")
    def _something_to_compare(self) -> Self:
        if not self.images and not self.texts:
            raise ValueError("images and texts are both off: nothing would be compared")
        return self

    def check(self) -> None:
        if self.images:
            check_hashing()
        _source(self.evaluation).check()

    def setup(self, device: str) -> None:
        self._evaluation = _load(self.evaluation, self.ngram, images=self.images, texts=self.texts)
        # so that run.json names the evaluation set
        self.record_model(ModelInfo(_shown(self.evaluation), self._evaluation.digest, "none"))

    def prepare(self, sample: Sample) -> int | None:
        """The image's hash, if it has one."""
        return hash_of(sample.image.pixels()) if self.images and sample.image is not None else None

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[int | None]) -> list[Result]:
        known = self._evaluation
        hashes = np.array([value or 0 for value in prepared], dtype=np.uint64)
        shown = nearest_within(hashes, known.hashes, self.distance, mirrored=True)
        return [
            _contaminated("contaminated_image", sample, known.hashed_keys[row])
            if value is not None and row >= 0
            else self._by_text(sample)
            for sample, value, row in zip(batch, prepared, shown, strict=True)
        ]

    def _by_text(self, sample: Sample) -> Result:
        for text in _texts(sample) if self.texts else ():
            row = self._evaluation.ngrams.find(text)
            if row >= 0:
                return _contaminated("contaminated_text", sample, self._evaluation.text_keys[row])
        return sample


def _contaminated(reason: str, sample: Sample, by: str) -> Dropped:
    return Dropped(reason, sample.with_record(contaminated_by=by))


def _source(evaluation: str | Mapping[str, Any]) -> Source:
    return as_source(evaluation, "evaluation")


def _shown(evaluation: str | Mapping[str, Any]) -> str:
    """The evaluation set's name in messages and run.json."""
    named = evaluation if isinstance(evaluation, str) else evaluation.get("path", evaluation.get("kind"))
    return str(without_secrets(str(named)))


def _load(evaluation: str | Mapping[str, Any], ngram: int, *, images: bool, texts: bool) -> Evaluation:
    """Read the whole set. Raises SourceError for unreadable samples, because a gap would let copies through."""
    path = _shown(evaluation)
    hashes: list[int] = []
    hashed_keys: list[str] = []
    found: list[str] = []
    text_keys: list[str] = []
    for sample in _samples(evaluation):
        if images and sample.image is not None:
            try:
                own = hash_of(sample.image.pixels())
            except SampleError as error:
                raise SourceError(f"the evaluation set {path} has a broken image, '{sample.key}': {error}") from error
            if own is not None:  # a flat picture has no hash
                hashes.append(own)
                hashed_keys.append(sample.key)
        if texts:
            these = _texts(sample)
            found += these
            text_keys += [sample.key] * len(these)
    if not hashes and not found:
        raise SourceError(f"nothing to compare with in the evaluation set {path}")
    values = np.array(hashes, dtype=np.uint64)
    digest = hashlib.blake2b(values.tobytes() + "\0".join(found).encode("utf-8", "replace"), digest_size=8)
    return Evaluation(values, tuple(hashed_keys), Ngrams(found, ngram), tuple(text_keys), digest.hexdigest())


def _samples(evaluation: str | Mapping[str, Any]) -> Iterator[Sample]:
    source, path = _source(evaluation), _shown(evaluation)
    passed: Counter[str] = Counter()
    for one in source.slices(_SAMPLES_A_SLICE):
        for sample in source.read(one.payload):
            if isinstance(sample, Unreadable):
                if not sample.is_input:
                    passed[sample.reason] += 1
                    continue
                raise SourceError(
                    f"the evaluation set {path} has an unreadable sample, '{sample.key}': "
                    f"{sample.reason} {sample.detail}".rstrip()
                )
            yield sample
    for reason, number in passed.items():
        _log.warning("%d files in the evaluation set %s are no samples and were passed over: %s", number, path, reason)


def _texts(sample: Sample) -> list[str]:
    """Every caption of the sample, and its questions with their answers, each once."""
    texts = [sample.caption or ""]
    texts += [str(entry.get("text") or "") for entry in _entries(sample, "captions")]
    texts += [f"{pair.get('question') or ''} {pair.get('answer') or ''}" for pair in _entries(sample, "qa")]
    return [text for text in dict.fromkeys(texts) if text.strip()]


def _entries(sample: Sample, name: str) -> list[Mapping[str, Any]]:
    entries = sample.record.get(name, ())
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list | tuple) else []
