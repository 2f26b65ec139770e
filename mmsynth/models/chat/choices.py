"""Chooses among a few answers by their first token: which tokens stand for each answer, and how likely each is.

Takes one forward pass and writes no text, as a filter that asks for yes or no needs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmsynth.errors import ModelError

if TYPE_CHECKING:
    import torch

#: an answer may start with a capital, and after a space
_SPELLINGS = ("{0}", " {0}")


def choice_tokens(model: str, tokenizer: Any, choices: Sequence[str]) -> list[list[int]]:
    """For each choice, the tokens that mean this word at the start of an answer. Raises ModelError."""
    found = [_first_tokens(tokenizer, choice) for choice in choices]
    if not all(found) or len(set().union(*found)) < sum(map(len, found)):
        words = f"{', '.join(choices[:-1])} and {choices[-1]}"
        raise ModelError(f"model '{model}': its tokenizer has no tokens of their own for {words}")
    return [sorted(tokens) for tokens in found]


def _first_tokens(tokenizer: Any, word: str) -> set[int]:
    tokens = set()
    for written in (word, word.capitalize(), word.upper()):
        for spelling in _SPELLINGS:
            ids = tokenizer(spelling.format(written), add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                tokens.add(int(ids[0]))
    return tokens


class ChoiceScores:
    """A logits processor that changes nothing. It keeps the probability of each choice as the first token."""

    def __init__(self, tokens: Sequence[Sequence[int]]) -> None:
        self._tokens = tokens
        self._kept: torch.Tensor | None = None

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        sides = torch.stack([scores[:, list(ids)].float().logsumexp(dim=-1) for ids in self._tokens], dim=-1)
        others = [sides[:, [j for j in range(len(self._tokens)) if j != i]] for i in range(len(self._tokens))]
        # each choice against all others, so that rounding loses nothing if one is almost certain
        self._kept = torch.stack([sides[:, i] - rest.logsumexp(dim=-1) for i, rest in enumerate(others)], -1).sigmoid()
        return scores

    def probabilities(self) -> list[list[float]]:
        """Row by row, the probability of each choice. Reads the device once."""
        assert self._kept is not None, "one token has been generated"
        rows: list[list[float]] = self._kept.tolist()
        return rows
