"""Texts as texts: special tokens in a caption or a question must not steer the model that reads it.

Tokenizers find their special tokens wherever these stand in a prompt, and processors the places of pictures. A space
after the first character leaves the words for the reader and takes the token from the tokenizer.
"""

import re
from typing import Any

_PLACES = ("image_token", "video_token", "audio_token", "fake_image_token", "boi_token", "eoi_token")


class Literal:
    """Makes special tokens in texts plain text, for one processor or tokenizer."""

    def __init__(self, part: Any, *, named_only: bool = False) -> None:
        tokenizer = getattr(part, "tokenizer", part)
        #: what stands for a picture, a video or a sound
        self.places = _written({getattr(holder, name, None) for holder in (part, tokenizer) for name in _PLACES})
        # plain captioners have special tokens that prompts are made of (Kosmos' <grounding>): there only the named ones
        special = set(tokenizer.all_special_tokens if not named_only else _named(tokenizer))
        if not named_only:
            special |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        tokens = sorted(self.places | _written(special), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, tokens))) if tokens else None

    def __call__(self, text: str) -> str:
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def place_in(self, text: str) -> str | None:
        """A picture's place that a text holds."""
        return next((place for place in sorted(self.places, key=len, reverse=True) if place in text), None)


def _written(tokens: set[Any]) -> set[str]:
    """Those that a space can take apart, and that are no ordinary words."""
    found = {str(token) for token in tokens if token is not None}
    return {token for token in found if len(token) > 1 and not token.isalnum()}


def _named(tokenizer: Any) -> list[Any]:
    names = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    return [getattr(tokenizer, name, None) for name in names]
