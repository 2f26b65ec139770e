"""From the tokens that a model wrote to a Reply: up to where it stopped, the answer without the reasoning before it.

Knows how models mark their reasoning. Does not know how the tokens were chosen.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mmsynth.models.chat.base import Reply, Usage

#: how models begin and end what they think before they answer; some of these are special tokens, which decoding leaves
#: out. Qwen, GLM, DeepSeek, …; Magistral; Kimi-VL; Seed; OpenThinker; Gemma; MedGemma; gpt-oss
_THOUGHTS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>thought", "<unused95>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
_ANSWER = ("<answer>", "</answer>")
#: what decoders give for bytes that are no whole character
_HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"


def opens_thought(prompt: str | None) -> bool:
    """Whether a prompt, as the template wrote it, ends where the model is to think."""
    return (prompt or "").rstrip().endswith(tuple(opening for opening, _ in _THOUGHTS))


class ReplyWriter:
    """Writes replies with one model's tokenizer, in one thread at a time."""

    def __init__(self, tokenizer: Any, stop_ids: set[int]) -> None:
        self._tokenizer, self._stop_ids = tokenizer, stop_ids
        marks = "".join(mark for pair in _THOUGHTS for mark in pair)
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self._hidden_marks = {i for i, token in added.items() if token.special and str(token) in marks}

    def reply(self, ids: list[int], prompt_tokens: int, stop: Sequence[str], *, is_thinking: bool) -> Reply:
        """Up to the first stop token or string, stripped. `is_thinking`: the prompt has opened a thought."""
        end = next((i for i, token in enumerate(ids) if token in self._stop_ids), None)
        used, finish = (len(ids), "length") if end is None else (end + 1, "stop")
        ids = ids[:end]
        if stop and (shorter := self._stopped(ids, stop)) is not None:
            used, finish, ids = shorter, "stop", ids[:shorter]
        reasoning, answer = self._answer(ids, is_thinking=is_thinking)
        for string in stop:
            answer = answer.partition(string)[0]
        # a text that is cut off may end in the middle of a character of several tokens
        answer = answer.rstrip(_HALF_CHARACTER).strip()
        return Reply(answer, finish, Usage(prompt_tokens, used), reasoning=reasoning.strip())

    def _answer(self, ids: list[int], *, is_thinking: bool) -> tuple[str, str]:
        """What was thought, and what was answered: nothing, as long as the thought has no end."""
        text = self._text(ids)
        marked = self._text(ids, special=True) if self._hidden_marks.intersection(ids) else text
        for opening, closing in _THOUGHTS:
            if closing in marked:
                thought = marked.rpartition(closing)[0].strip().removeprefix(opening)
                if marked is text:
                    return thought, _unwrapped(text.rpartition(closing)[2])
                times = marked.count(closing)
                first = self._fewest(ids, lambda written: written.count(closing) >= times)  # noqa: B023 - called at once
                return thought, _unwrapped(self._text(ids[first:]))
            if marked.lstrip().startswith(opening):
                return marked.strip().removeprefix(opening), ""
        return (text, "") if is_thinking else ("", text)

    def _stopped(self, ids: list[int], stop: Sequence[str]) -> int | None:
        """After how many tokens a stop string was written; None: not at all."""
        written = self._text(ids, special=True)
        if not any(string in written for string in stop):
            return None
        return self._fewest(ids, lambda text: any(string in text for string in stop))

    def _fewest(self, ids: list[int], holds: Callable[[str], bool]) -> int:
        """After how many tokens it holds of the text, as it does of all of them, and from then on."""
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            if holds(self._text(ids[:middle], special=True)):
                high = middle
            else:
                low = middle + 1
        return low

    def _text(self, ids: list[int], *, special: bool = False) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=not special)).replace("\0", "")


def _unwrapped(answer: str) -> str:
    opening, closing = _ANSWER
    answer = answer.strip()
    return answer.removeprefix(opening).removesuffix(closing) if answer.startswith(opening) else answer
