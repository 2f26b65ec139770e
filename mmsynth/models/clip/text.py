"""Turns captions into input for an open_clip text tower: tokens, and pieces of captions longer than its context.

Knows open_clip's tokenizers. Does not know models, images or samples.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: token ids, cut after the position that the tower pools if later ones change nothing
Tokens = tuple[int, ...]

# a text with more characters per position never fits the context, and its BPE would take seconds
_CHARACTERS_A_TOKEN = 20
_SENTENCE_END = re.compile(r"(?<=[.!?;…])\s+|(?<=[。！？；।۔؟])|\n+")
_WORD_END = re.compile(r"\s+|(?<=[、，,])")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that fits the context, and its number of tokens as its weight in the caption."""

    text: str
    tokens: Tokens
    weight: int


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption as the model reads it: a single piece if it fits the context."""

    text: str
    pieces: tuple[Piece, ...]
    truncated: bool = False


class CaptionReader:
    """Text → Caption. `used` gives the number of positions of a tokenized text that the tower needs. Thread-safe."""

    def __init__(self, tokenizer: Any, context: int, used: Callable[[Tokens], int], *, in_pieces: bool) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._used = used
        self._in_pieces = in_pieces
        self._length = _length_with(tokenizer)
        self._frame = self._length("")  # every text has start and end tokens
        # transformers' fast tokenizers fail ("Already borrowed") if two threads change their truncation
        self._lock = threading.Lock()

    def read(self, text: str) -> Caption:
        """The whole caption. One that is too long comes in pieces, or cut and marked `truncated`."""
        with self._lock:
            if not self._in_pieces:
                fits = self._fits(text)
                read = text if fits else text[: self._longest]
                return Caption(text, (Piece(read, self._tokens(read), 1),), not fits)
            texts = self._pieces_of(text)
            weights = [1] if len(texts) == 1 else [max(1, self._length(piece) - self._frame) for piece in texts]
            # a single character is never cut further
            truncated = any(len(piece) < 2 and not self._fits(piece) for piece in texts)
            pieces = (Piece(piece, self._tokens(piece), weight) for piece, weight in zip(texts, weights, strict=True))
            return Caption(text, tuple(pieces), truncated)

    @property
    def _longest(self) -> int:
        return self._context * _CHARACTERS_A_TOKEN

    def _tokens(self, text: str) -> Tokens:
        tokens: Tokens = tuple(self._tokenizer([text])[0].tolist())
        return tokens[: self._used(tokens)]

    def _fits(self, text: str) -> bool:
        return len(" ".join(text.split())) <= self._longest and self._length(text) <= self._context

    def _pieces_of(self, text: str) -> list[str]:
        """Cut `text` at sentence ends, else between words, else anywhere, into parts of similar length that fit."""
        text = text.strip()
        if len(text) < 2 or self._fits(text):
            return [text]
        room = max(1, self._context - self._frame)
        tokens = self._length(text) - self._frame if len(text) <= self._longest else len(text) // 4
        parts = max(2, -(-tokens // room))
        cut = _boundary(text, at=len(text) * (parts // 2) // parts, within=len(text) // (2 * parts))
        halves = (text[:cut].strip(), text[cut:].strip())
        return [piece for half in halves if half for piece in self._pieces_of(half)]


def _boundary(text: str, at: int, within: int) -> int:
    """Where to cut: the sentence end nearest to `at`, else the gap between words, else `at` itself."""
    for pattern in (_SENTENCE_END, _WORD_END):
        places = [m.end() for m in pattern.finditer(text, max(0, at - within), min(len(text), at + within))]
        places = [place for place in places if 0 < place < len(text)]
        if places:
            return min(places, key=lambda place: abs(place - at))
    return min(max(1, at), len(text) - 1)


def _length_with(tokenizer: Any) -> Callable[[str], int]:
    """A function that gives the number of positions of an untruncated text, start and end included."""
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is not None:  # HFTokenizer and SigLipTokenizer wrap one of transformers'
        clean = getattr(tokenizer, "clean_fn", _canonical)
        if getattr(tokenizer, "tokenizer_mode", "") == "clips":
            return lambda text: 3 + len(inner(clean(text), add_special_tokens=False, verbose=False)["input_ids"])
        return lambda text: len(inner(clean(text), truncation=False, padding=False, verbose=False)["input_ids"])
    if hasattr(tokenizer, "encode"):  # SimpleTokenizer
        return lambda text: 2 + len(tokenizer.encode(text))

    def padded(text: str) -> int:
        """For tokenizers that only pad and cut: a text that fills the last position counts as too long."""
        row = tokenizer([text])[0].tolist()
        return len(row) + 1 if row[-1] else sum(1 for token in row if token)

    return padded


def _canonical(text: str) -> str:
    from open_clip.tokenizer import basic_clean, canonicalize_text

    return str(canonicalize_text(basic_clean(text)))
