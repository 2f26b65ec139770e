"""The filter `caption_length`, with words counted in any script."""

import math
import re
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Filter

# Chinese and Japanese: ideographs, kana, and the iteration and length marks
_IDEOGRAPHIC = re.compile(r"[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f]+")
_IDEOGRAPHIC_ASTRAL = re.compile(r"[\U00020000-\U000323af]+")
# Thai, Lao, Myanmar and Khmer: the letters, without the vowel signs and tone marks that sit on them
_SPACELESS = re.compile(r"[\u0e01-\u0e2f\u0e81-\u0eae\u1000-\u102a\u1780-\u17b3]+")
_SPACELESS_MARKS = re.compile(r"[\u0e30-\u0e4e\u0eb0-\u0ecd\u102b-\u103e\u17b4-\u17d3]+")
_LETTERS_A_WORD = {_IDEOGRAPHIC: 2, _IDEOGRAPHIC_ASTRAL: 2, _SPACELESS: 3}


class CaptionLength(Filter):
    """Drop captions that are too short or too long; score their words and characters.

    A word is what stands between spaces and has a letter or a digit in it. Scripts written without spaces are
    estimated: two characters a word in Chinese and Japanese, three consonants a word in Thai, Lao, Burmese and Khmer,
    each run rounded up. Characters are Unicode code points, runs of white space counted as one. No caption is a
    caption of no words. Reasons: `caption_too_short`, `caption_too_long`. Without a bound it only scores.
    DataComp's basic filter is `min_words: 3, min_chars: 6` (arXiv 2304.14108).
    """

    min_words: int | None = Field(None, ge=0)
    max_words: int | None = Field(None, ge=0)
    min_chars: int | None = Field(None, ge=0)
    max_chars: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        for unit, low, high in (("words", self.min_words, self.max_words), ("chars", self.min_chars, self.max_chars)):
            if low is not None and high is not None and high < low:
                raise ValueError(f"max_{unit} must be at least min_{unit}, got {low} and {high}")
        return self

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [self._judged(sample) for sample in batch]

    def score_names(self) -> tuple[str, ...]:
        return ("words", "chars")

    def _judged(self, sample: Sample) -> Result:
        text = " ".join((sample.caption or "").split())
        words, chars = count_words(text), len(text)
        scored = sample.with_scores(words=words, chars=chars)
        if _below(words, self.min_words) or _below(chars, self.min_chars):
            return Dropped("caption_too_short", scored)
        if _above(words, self.max_words) or _above(chars, self.max_chars):
            return Dropped("caption_too_long", scored)
        return scored


def count_words(text: str) -> int:
    """Words in any script; see CaptionLength for those written without spaces."""
    words = 0
    if not text.isascii():
        text = _SPACELESS_MARKS.sub("", text)
        for run, letters in _LETTERS_A_WORD.items():
            words += sum(math.ceil(len(found) / letters) for found in run.findall(text))
            text = run.sub(" ", text)
    return words + sum(1 for chunk in text.split() if any(map(str.isalnum, chunk)))


def _below(value: int, bound: int | None) -> bool:
    return bound is not None and value < bound


def _above(value: int, bound: int | None) -> bool:
    return bound is not None and value > bound
