"""The filter `grounding`: a vision-language model is asked whether an image shows what its caption says.

Knows the question and how the answer becomes a probability. The models are `generation`'s business; it lies here, among
the captioners, because it runs on their machinery.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, field_validator

from mmsynth.errors import ModelError
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Filter
from mmsynth_captioners.model_captioner import ModelStage

if TYPE_CHECKING:
    import PIL.Image
    import torch

QUESTION = "Does the image show: {caption}?"
INSTRUCTION = "Answer yes or no."
#: an answer may begin with a capital, and after a space
_SPELLINGS = ("{0}", " {0}")


class Grounding(ModelStage, Filter):
    """Ask a vision-language model whether the image shows its caption; drop the sample when it likely does not.

    The score is the probability of yes against no in the first word of the answer: p(yes) / (p(yes) + p(no)), over
    the spellings that are one token of the model's vocabulary. One forward pass a sample, no text is written. `min`
    judges it: `grounding_below_min`; `grounding_not_finite` for a NaN. Without `min` it only scores. A sample without a
    caption is dropped as `no_caption`, one without an image fails as `no_image`.

    Models say yes too readily, more so about long captions with one thing wrong: compare scores of one model, and look
    at some before choosing `min`. (P(yes) as a score of alignment: VQAScore, Lin et al. 2024, arXiv 2404.01291.)
    """

    min: float | None = Field(None, ge=0, le=1, description="drop below this probability of yes")
    question: str = Field(QUESTION, description="what is asked; {caption} stands for the caption")
    name: str = Field("grounding", pattern=r"^[a-z][a-z0-9_]*$", description="the score's name: column score_<name>")

    _answers: "YesOrNo | None" = PrivateAttr(default=None)

    @field_validator("question")
    @classmethod
    def _question_has_a_place(cls, question: str) -> str:
        if question.count("{caption}") != 1:
            raise ValueError("question must have one {caption} in it")
        return question

    def setup(self, device: str) -> None:
        self.load(device, self._yes_or_no)

    def _yes_or_no(self, model: str, tokenizer: Any) -> "YesOrNo":
        self._answers = YesOrNo(model, tokenizer)
        return self._answers

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence["PIL.Image.Image"]) -> list[Result]:
        generator, answers = self.generator, self._answers
        assert answers is not None, "it comes with the generator"
        rows = [i for i, sample in enumerate(batch) if sample.caption and sample.caption.strip()]
        prompts = [self._prompt(batch[i].caption or "") for i in rows]
        # the seeds say which row is which: rows may be taken in another order
        generator.generate([prepared[i] for i in rows], prompts, range(len(rows)), max(1, len(rows)))
        found = dict(zip(rows, answers.take(len(rows)), strict=True))
        return [self._judged(sample, found.get(i)) for i, sample in enumerate(batch)]

    def score_names(self) -> tuple[str, ...]:
        return (self.name,)

    def _prompt(self, caption: str) -> str:
        # "a dog." would end the question before its question mark
        asked = self.question.replace("{caption}", " ".join(caption.split()).rstrip(".?! "))
        return self.generator.prompts.question(asked, INSTRUCTION)

    def _judged(self, sample: Sample, yes: float | None) -> Result:
        if yes is None:
            return Dropped("no_caption", sample)
        if not math.isfinite(yes):
            return Dropped(f"{self.name}_not_finite", sample)
        scored = sample.with_scores(**{self.name: round(yes, 6)})
        return Dropped(f"{self.name}_below_min", scored) if self.min is not None and yes < self.min else scored


class YesOrNo:
    """A decoding of one token that keeps what the model thought of yes and no. A TokenChoice."""

    max_new_tokens = 1
    samples = False

    def __init__(self, model: str, tokenizer: Any) -> None:
        yes, no = (_first_tokens(tokenizer, word) for word in ("yes", "no"))
        if not yes or not no or yes & no:
            raise ModelError(f"model '{model}': its tokenizer has no tokens of their own for yes and no")
        self._ids = [sorted(yes), sorted(no)]
        self._kept: list[tuple[Sequence[int], torch.Tensor]] = []

    def processors(self, seeds: Sequence[int], device: "torch.device") -> list[Any]:
        def keep(input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
            sides = [scores[:, ids].float().logsumexp(dim=-1) for ids in self._ids]
            self._kept.append((seeds, (sides[0] - sides[1]).sigmoid()))
            return scores

        return [keep]

    def take(self, count: int) -> list[float]:
        """The probabilities of yes for rows 0 … count - 1, read from the device at once."""
        found = [math.nan] * count
        for rows, values in self._kept:
            for row, value in zip(rows, values.tolist(), strict=True):
                found[row] = value
        self._kept = []
        return found


def _first_tokens(tokenizer: Any, word: str) -> set[int]:
    """The tokens that are this word, as it stands at the beginning of an answer."""
    tokens = set()
    for written in (word, word.capitalize(), word.upper()):
        for spelling in _SPELLINGS:
            ids = tokenizer(spelling.format(written), add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
                tokens.add(int(ids[0]))
    return tokens
