"""Splits texts into words, so that case, punctuation and spacing make no difference."""

import re
import unicodedata
from collections.abc import Sequence

# scripts written without spaces: each character counts as a word
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def words_of(text: str) -> list[str]:
    """The words, case folded, without punctuation. In Chinese and Japanese each character is a word."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def shingles_of(words: Sequence[str], size: int) -> list[str]:
    """Every run of `size` words, or the whole text if it is shorter. Nothing for no words."""
    if not words:
        return []
    return [" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1))]
