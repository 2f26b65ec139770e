"""The filter `repetition`: finds captions in which a model got stuck in a loop. Counts, and knows no language."""

import itertools
import re
from collections.abc import Sequence

from pydantic import Field

from mmsynth.bounds import Bound
from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter

# a word, or one character of a script written without spaces (Chinese, Japanese, Thai, Lao, Burmese, Khmer)
_SPACELESS = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+")
#: one to four letters repeated (nooooo, hahaha), or one sign; not digits, because 10000000 is a number
_LETTER_RUN = re.compile(r"([^\W\d_]{1,4}?)\1+", re.IGNORECASE)
_SIGN_RUN = re.compile(r"([^\s\w]|_)\1+")
#: the longest phrase to look for at a caption's end, in words
_LONGEST_PHRASE = 32


class Repetition(Filter):
    """Drop captions that repeat themselves, as those of models that get stuck in a loop.

    It gives three scores, which ignore case and punctuation:

    - `repeated_ngrams`: the share of the caption's letters and digits in runs of `ngram` words that occurred earlier in
      the caption. 0 means that nothing repeats, 0.9 that one thing comes ten times. (Gopher's duplicate n-gram
      character fraction, arXiv 2112.11446 table A1. But an n-gram's first occurrence does not count, so the score is
      the share that could be cut.)
    - `tail_repeats`: how many times in a row the caption ends with its last phrase, of up to 32 words. A truncated last
      copy does not count. 1 for most captions.
    - `longest_run`: how many times in a row one word, or up to four letters (nooooo, hahaha), occur anywhere. People
      repeat signs (wow!!!!!!), so two signs count as one. Digits do not count.

    Reasons: `repeated_ngrams_above_max`, `tail_repeats_above_max`, `longest_run_above_max`. Without a bound it only
    scores. With one, a sample without a caption is dropped as `no_caption`. In scripts without spaces each character
    counts as a word. For captions `max_ngrams: 0.4, max_tail: 2, max_run: 4` is a good start.
    """

    judges = frozenset({"caption"})

    ngram: int = Field(3, ge=1, description="words that must come again together to count as repeated")
    max_ngrams: float | None = Field(None, ge=0, le=1, description="drop when the repeated share is above")
    max_tail: int | None = Field(None, ge=1, description="drop when the last phrase stands there more often")
    max_run: int | None = Field(None, ge=1, description="drop when one word or character stands in a row more often")

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [self._judged(sample) for sample in batch]

    def score_names(self) -> tuple[str, ...]:
        return ("repeated_ngrams", "tail_repeats", "longest_run")

    def bounds(self) -> tuple[Bound, ...]:
        return (
            Bound("repeated_ngrams", max="max_ngrams"),
            Bound("tail_repeats", max="max_tail"),
            Bound("longest_run", max="max_run"),
        )

    def _judged(self, sample: Sample) -> Result:
        if sample.text is None:
            return self.without_caption(sample)
        words = _TOKEN.findall(sample.text.lower())
        scores = {
            "repeated_ngrams": round(repeated_share(words, self.ngram), 4),
            "tail_repeats": tail_repeats(words),
            "longest_run": max(longest_run(words), _longest_character_run(sample.text)),
        }
        return self.judged(sample, scores)


def repeated_share(words: Sequence[str], n: int) -> float:
    """The share of characters in word n-grams that occurred before."""
    seen: set[tuple[str, ...]] = set()
    repeated = [False] * len(words)
    for start in range(len(words) - n + 1):
        gram = tuple(words[start : start + n])
        if gram in seen:
            repeated[start : start + n] = [True] * n
        seen.add(gram)
    total = sum(map(len, words))
    return sum(len(word) for word, again in zip(words, repeated, strict=True) if again) / total if total else 0.0


def tail_repeats(words: Sequence[str]) -> int:
    """How many times in a row the text ends with its last phrase. A truncated last copy does not count."""
    most = min(1, len(words))
    for period in range(1, min(_LONGEST_PHRASE, len(words) // 2) + 1):
        same = period
        while same < len(words) and words[-1 - same] == words[-1 - same + period]:
            same += 1
        most = max(most, same // period)
    return most


def longest_run(words: Sequence[str]) -> int:
    """The most times that one word occurs in a row."""
    most = run = min(1, len(words))
    for before, word in itertools.pairwise(words):
        run = run + 1 if word == before else 1
        most = max(most, run)
    return most


def _longest_character_run(text: str) -> int:
    letters = (len(found.group()) // len(found[1]) for found in _LETTER_RUN.finditer(text))
    signs = ((len(found.group()) + 1) // 2 for found in _SIGN_RUN.finditer(text))
    return max((*letters, *signs), default=0)
