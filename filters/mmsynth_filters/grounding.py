"""The filter `grounding`: asks a vision-language model whether an image shows what its caption says.

Knows the question and how to score the answer. ChatStage asks the model, and the engine answers.
"""

from pydantic import Field, field_validator

from mmsynth.chat_stage import ChatStage
from mmsynth.models.chat import Request
from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter

QUESTION = "Does the image show: {caption}?"
INSTRUCTION = "Answer yes or no."
ANSWERS = ("yes", "no")


class Grounding(ChatStage, Filter):
    """Ask a vision-language model whether the image shows its caption. Drop the sample if it likely does not.

    The score is the probability of yes against no in the first word of the answer: p(yes) / (p(yes) + p(no)), over the
    spellings that are one token of the model's vocabulary. It takes one forward pass per sample, and writes no text.
    `min` bounds it, as in all filters (`mmsynth.bounds`). A sample without an image fails as `no_image`.

    Models say yes too readily, above all about long captions with one mistake. So compare scores of one model only, and
    look at some before choosing `min`. (P(yes) as a score of alignment: VQAScore, Lin et al. 2024, arXiv 2404.01291.)
    """

    judges = frozenset({"caption", "image"})

    min: float | None = Field(None, ge=0, le=1, description="drop below this probability of yes")
    question: str = Field(QUESTION, description="the question; {caption} stands for the caption")
    name: str = Field("grounding", pattern=r"^[a-z][a-z0-9_]*$", description="the score's name: column score_<name>")

    @field_validator("question")
    @classmethod
    def _question_has_a_place(cls, question: str) -> str:
        if question.count("{caption}") != 1:
            raise ValueError("question must have one {caption} in it")
        return question

    def setup(self, device: str) -> None:
        super().setup(device)
        self.chat_model.check_choices(ANSWERS)

    def trial(self) -> Request:
        self.chat_model.check_prompt(self.question)
        return self.trial_of(self._prompt("a picture"), images=[""], choices=ANSWERS)

    async def process_one(self, sample: Sample) -> Result:
        if sample.text is None:
            return self.without_caption(sample)
        reply = await self.ask(self._prompt(sample.text), sample, images=[""], choices=ANSWERS)
        return self.judged(sample, {self.name: round(reply.choice_probabilities["yes"], 6)})

    def score_names(self) -> tuple[str, ...]:
        return (self.name,)

    def _prompt(self, caption: str) -> str:
        # "a dog." would end the question before its question mark
        asked = self.question.replace("{caption}", " ".join(caption.split()).rstrip(".?! "))
        return self.chat_model.question_prompt(asked, INSTRUCTION)
