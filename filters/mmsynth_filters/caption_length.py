"""The filter `caption_length`, with words counted in any script."""

import math
import re
from collections.abc import Sequence

from pydantic import Field

from mmsynth.bounds import Bound
from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter

# Chinese and Japanese: ideographs, kana, and the iteration and length marks
_IDEOGRAPHIC = re.compile(r"[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f]+")
_IDEOGRAPHIC_ASTRAL = re.compile(r"[\U00020000-\U000323af]+")
# Thai, Lao, Myanmar and Khmer: the letters, without the vowel signs and tone marks that sit on them
_SPACELESS = re.compile(r"[\u0e01-\u0e2f\u0e81-\u0eae\u1000-\u102a\u1780-\u17b3]+")
_SPACELESS_MARKS = re.compile(r"[\u0e30-\u0e4e\u0eb0-\u0ecd\u102b-\u103e\u17b4-\u17d3]+")
_LETTERS_A_WORD = {_IDEOGRAPHIC: 2, _IDEOGRAPHIC_ASTRAL: 2, _SPACELESS: 3}


class CaptionLength(Filter):
    """Drop captions that are too short or too long. Score their words and characters.

    A word is text between spaces with a letter or a digit in it. For scripts without spaces, the filter estimates: two
    characters per word in Chinese and Japanese, three consonants per word in Thai, Lao, Burmese and Khmer, with each
    run rounded up. Characters are Unicode code points, and a run of white space counts as one. Reasons:
    `words_below_min`, `words_above_max`, `chars_below_min`, `chars_above_max`. Without a bound it only scores. With
    one, a sample without a caption is dropped as `no_caption`.
    DataComp's basic filter is `min_words: 3, min_chars: 6` (arXiv 2304.14108).
    """

    judges = frozenset({"caption"})

    min_words: int | None = Field(None, ge=0)
    max_words: int | None = Field(None, ge=0)
    min_chars: int | None = Field(None, ge=0)
    max_chars: int | None = Field(None, ge=0)

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [self._judged(sample) for sample in batch]

    def score_names(self) -> tuple[str, ...]:
        return ("words", "chars")

    def bounds(self) -> tuple[Bound, ...]:
        return (
            Bound("words", min="min_words", max="max_words"),
            Bound("chars", min="min_chars", max="max_chars"),
        )

    def _judged(self, sample: Sample) -> Result:
        if sample.text is None:
            return self.without_caption(sample)
        text = " ".join(sample.text.split())
        return self.judged(sample, {"words": count_words(text), "chars": len(text)})


def count_words(text: str) -> int:
    """Count words in any script. CaptionLength describes the estimate for scripts without spaces."""
    words = 0
    if not text.isascii():
        text = _SPACELESS_MARKS.sub("", text)
        for run, letters in _LETTERS_A_WORD.items():
            words += sum(math.ceil(len(found) / letters) for found in run.findall(text))
            text = run.sub(" ", text)
    return words + sum(1 for chunk in text.split() if any(map(str.isalnum, chunk)))
