"""Contamination: which rows show or say nearly the same as an evaluation set.

Images match by hash (`nearest_within`) or by embedding (`nearest_above`). Both give the evaluation row for each row, or
-1. Texts match by shared runs of words, after GPT-3's practice (Brown et al. 2020, arXiv 2005.14165, appendix C: runs
of 13 words, case and punctuation ignored, and nothing below 8). A row matches an evaluation text

- of 13 words or more if the two share any run of 13 words
- of 8 to 12 words if the row contains all of it
- of 5 to 7 words if it is the row's whole text (so few words are often part of other texts)
- below 5 words never
"""

from collections.abc import Iterable, Sequence

import numpy as np

from mmsynth.near_duplicates.chunks import Numbers
from mmsynth.near_duplicates.embeddings import nearest_above
from mmsynth.near_duplicates.hashes import nearest_within
from mmsynth.near_duplicates.words import shingles_of, words_of

__all__ = ["CONTAINED_FROM", "EQUAL_FROM", "NGRAM", "Ngrams", "nearest_above", "nearest_within", "shared_texts"]

#: two texts may not share so many words in a row
NGRAM = 13
#: evaluation texts of so many words are searched for inside other texts
CONTAINED_FROM = 8
#: evaluation texts of so many words are compared as a whole
EQUAL_FROM = 5


class Ngrams:
    """The runs of words of an evaluation set's texts. `find` gives the evaluation text that shares a run."""

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
    """For each text, the evaluation text that it matches by the rules above, or -1."""
    ngrams = Ngrams(evaluation_texts, ngram)
    return np.array([ngrams.find(text) for text in texts], dtype=np.int64)
