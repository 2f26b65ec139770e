"""Contamination: which rows nearly show or say what is in an evaluation set.

Images count by hash (`nearest_within`) or by embedding (`nearest_above`); both give for each row the evaluation row,
or -1. Texts count by shared runs of words, after GPT-3's practice (Brown et al. 2020, arXiv 2005.14165, appendix C:
runs of 13 words, case and punctuation ignored, and nothing below 8):

- an evaluation text of 13 words or more: a row that has any run of 13 words in common with it
- of 8 to 12 words: a row that contains all of it
- of 5 to 7 words: a row whose whole text it is; contained in others, words so few are common
- below 5 words: never
"""

from collections.abc import Iterable, Sequence

import numpy as np

from mmsynth.near_duplicates.chunks import Numbers
from mmsynth.near_duplicates.embeddings import nearest_above
from mmsynth.near_duplicates.hashes import nearest_within
from mmsynth.near_duplicates.words import shingles_of, words_of

__all__ = ["CONTAINED_FROM", "EQUAL_FROM", "NGRAM", "Ngrams", "nearest_above", "nearest_within", "shared_texts"]

#: words that two texts may not have in common in a row
NGRAM = 13
#: evaluation texts of so many words are looked for inside of others
CONTAINED_FROM = 8
#: evaluation texts of so many words are compared as a whole
EQUAL_FROM = 5


class Ngrams:
    """The runs of words of an evaluation set's texts. `find` says which of them another text shares."""

    def __init__(self, texts: Iterable[str], ngram: int = NGRAM) -> None:
        if ngram < EQUAL_FROM:
            raise ValueError(f"ngram must be at least {EQUAL_FROM}, got {ngram}")
        #: length in words → run → the first text that has it
        self._contained: dict[int, dict[str, int]] = {}
        self._equal: dict[str, int] = {}
        self.ignored = 0
        for row, text in enumerate(texts):
            words = words_of(text)
            if len(words) >= min(ngram, CONTAINED_FROM):
                size = min(ngram, len(words))
                known = self._contained.setdefault(size, {})
                for run in shingles_of(words, size):
                    known.setdefault(run, row)
            elif len(words) >= EQUAL_FROM:
                self._equal.setdefault(" ".join(words), row)
            else:
                self.ignored += 1

    def find(self, text: str) -> int:
        """The evaluation text that `text` shares a run with, the longest run first, or -1."""
        words = words_of(text)
        for size in sorted(self._contained, reverse=True):
            if size <= len(words):
                known = self._contained[size]
                for run in shingles_of(words, size):
                    if run in known:
                        return known[run]
        return self._equal.get(" ".join(words), -1)


def shared_texts(texts: Sequence[str], evaluation_texts: Iterable[str], ngram: int = NGRAM) -> Numbers:
    """For each text the evaluation text that it shares a run of words with, by the rules above; -1 where none."""
    ngrams = Ngrams(evaluation_texts, ngram)
    return np.array([ngrams.find(text) for text in texts], dtype=np.int64)
