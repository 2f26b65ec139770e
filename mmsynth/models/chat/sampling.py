"""Samples tokens so that a sample's text depends on its own seed and on nothing else.

These are logits processors for `model.generate(do_sample=False)`. They work on (rows, vocabulary) scores, and argmax
picks from what they leave. They know nothing of images, prompts or models. `generate`'s own sampling draws for the
whole batch from one global generator, so the same sample would get another caption in another batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to choose tokens: greedy at temperature 0, else sampled from the tokens that top_k and top_p leave."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None

    @property
    def samples(self) -> bool:
        return self.temperature > 0

    def processors(self, seeds: Sequence[int], device: "torch.device") -> list[Any]:
        """The logits processors for rows with these seeds, in transformers' own order."""
        if not self.samples:
            return []
        from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        chosen: list[Any] = [TemperatureLogitsWarper(self.temperature)] if self.temperature != 1 else []
        chosen += [TopKLogitsWarper(self.top_k)] if self.top_k is not None else []
        chosen += [TopPLogitsWarper(self.top_p)] if self.top_p is not None and self.top_p < 1 else []
        return [*chosen, SeededDraw(seeds, self.max_new_tokens, device)]


class SeededDraw:
    """Leave one token per row, drawn from the softmax of its scores with the row's own random numbers.

    Inverts the cumulative distribution at one uniform number per token, which is an exact draw. All numbers are made
    before the first token and moved to the device once. So nothing waits for the CPU between tokens, and a row that
    ends early does not change the other rows' numbers.
    """

    def __init__(self, seeds: Sequence[int], max_new_tokens: int, device: "torch.device") -> None:
        import torch

        # float64, since float32 would never draw tokens rarer than 2^-24; Apple's GPUs have no float64
        dtype = torch.float32 if device.type == "mps" else torch.float64
        rows = [torch.rand(max_new_tokens, generator=torch.Generator().manual_seed(s), dtype=dtype) for s in seeds]
        self._uniform = torch.stack(rows).to(device)
        self._step = 0

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        cumulative = scores.to(self._uniform.dtype).softmax(dim=-1).cumsum(dim=-1)
        # scaled by the last value, because rounding keeps it from being exactly 1
        target = self._uniform[:, self._step : self._step + 1] * cumulative[:, -1:]
        self._step += 1
        token = torch.searchsorted(cumulative, target, right=True).clamp_(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


class PromptColumns:
    """Change nothing. Remember how many columns the sequences had before the first new token.

    Some models return the prompt and the text, some the text alone, some a part of the prompt or a start token. The
    output of `generate` starts with the columns that it started from.
    """

    def __init__(self) -> None:
        self.count: int | None = None

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        if self.count is None:
            self.count = input_ids.shape[1]
        return scores


class FiniteScores:
    """Change nothing; remember of each row and token whether its scores were numbers at all.

    A model that overflows, or whose weights are broken, gives NaN, and `argmax` makes words of that. Kept on the device
    and read once, after the last token.
    """

    def __init__(self) -> None:
        self._steps: list[torch.Tensor] = []

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        # NaN and infinity win the maximum; single tokens may be forbidden by minus infinity, not all of them
        self._steps.append(scores.amax(dim=-1).isfinite())
        return scores

    def of_rows(self) -> list[list[bool]]:
        """Row by row, token by token."""
        import torch

        rows: list[list[bool]] = torch.stack(self._steps, dim=1).tolist()
        return rows


class StopStrings:
    """A stopping criterion: a row has ended once a stop string is in its new text.

    It only saves time, what follows a stop string is cut off anyway: so it looks every few tokens, and the device waits
    for it no oftener.
    """

    _EVERY = 8

    def __init__(self, tokenizer: Any, strings: Sequence[str], columns: PromptColumns) -> None:
        self._tokenizer, self._strings, self._columns = tokenizer, strings, columns
        self._calls = 0
        self._ended: torch.Tensor | None = None

    def __call__(self, input_ids: "torch.Tensor", scores: Any, **_: Any) -> "torch.Tensor":
        import torch

        self._calls += 1
        if self._calls % self._EVERY == 0:
            texts = self._tokenizer.batch_decode(input_ids[:, self._columns.count :], skip_special_tokens=False)
            ended = [any(string in text for string in self._strings) for text in texts]
            self._ended = torch.tensor(ended, device=input_ids.device)
        elif self._ended is None:
            self._ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        return self._ended


class RepetitionPenalty:
    """The repetition penalty of a checkpoint (Qwen-VL has one), which ignores padding.

    transformers' own penalty also applies to the padding token, which ends a caption in Qwen-VL, and only in rows that
    happen to be padded. So a caption would depend on its batch.
    """

    def __init__(self, penalty: float, attention_mask: "torch.Tensor | None") -> None:
        self.penalty = penalty
        self.padding = None if attention_mask is None else attention_mask == 0

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        if self.padding is not None and input_ids.shape[1] >= self.padding.shape[1]:
            columns = self.padding.shape[1]
            # replace padding by the prompt's last token, which is in the row anyway
            prompt = torch.where(self.padding, input_ids[:, columns - 1 : columns], input_ids[:, :columns])
            input_ids = torch.cat([prompt, input_ids[:, columns:]], dim=1)
        seen = scores.gather(1, input_ids)
        return scores.scatter(1, input_ids, torch.where(seen < 0, seen * self.penalty, seen / self.penalty))
