"""Visual question answering: asks a vision-language model about images, and keeps question-answer pairs.

Knows which answer belongs to which question. `questions` has the wordings, and ChatStage asks the model.
"""

import asyncio
import random
from typing import Any, Self, get_args

from pydantic import Field, field_validator, model_validator

from mmsynth.chat_stage import WritesText
from mmsynth.models.chat import Reply, Request
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.seeds import seed_for
from mmsynth.stage import Captioner
from mmsynth_captioners.questions import Kind, Question, draw

_PER_IMAGE = 3


class VisualQuestions(WritesText, Captioner):
    """Ask a vision-language model about each image, and add the question-answer pairs to `record["qa"]`.

    `questions` from the recipe are all asked of every image; otherwise `per_image` questions are drawn, from each
    sample's own seed, out of the built-in `kinds`. Each pair has question, answer, kind, model and prompt, and the
    seed when sampled; `truncated: true` where the answer was cut off at `max_new_tokens`. An empty answer gives no
    pair; a sample without any pair is dropped as `no_answer`.
    """

    questions: list[str] | None = Field(None, min_length=1, description="questions to ask of every image")
    kinds: list[Kind] | None = Field(None, min_length=1, description="kinds to draw from; default: all")
    per_image: int | None = Field(None, ge=1, description="questions per image; default: 3 if they are drawn")

    @field_validator("questions")
    @classmethod
    def _not_blank(cls, questions: list[str] | None) -> list[str] | None:
        if any(not question.strip() for question in questions or ()):
            raise ValueError("a question must not be blank")
        return questions

    @model_validator(mode="after")
    def _questions_or_kinds(self) -> Self:
        if self.questions is not None and self.kinds is not None:
            raise ValueError("give questions or kinds, not both")
        if self.questions is not None and self.per_image is not None and self.per_image > len(self.questions):
            raise ValueError(f"per_image is {self.per_image}, but there are only {len(self.questions)} questions")
        return self

    async def process_one(self, sample: Sample) -> Result:
        # ask all questions together, so that those of a batch's samples form batches on the device
        pairs = await asyncio.gather(
            *(self._answered(question, sample, number) for number, question in enumerate(self._questions(sample)))
        )
        given = [pair for pair in pairs if pair is not None]
        return sample.with_qa(given) if given else Dropped("no_answer", sample)

    def trial(self) -> Request:
        question = Question(self.questions[0], "given") if self.questions else draw(["what"], 1, random.Random(0))[0]  # noqa: S311
        return self.trial_of(self.chat_model.question_prompt(question.text, question.instruction), images=[""])

    async def _answered(self, question: Question, sample: Sample, number: int) -> dict[str, Any] | None:
        """The pair, or None where the model says nothing, or only thinks."""
        prompt = self.chat_model.question_prompt(question.text, question.instruction)
        seed = self._seed(sample, number)
        reply = await self.ask(prompt, sample, images=[""], seed=seed)
        return self._pair(question, reply, prompt, seed) if reply.text else None

    def _questions(self, sample: Sample) -> list[Question]:
        rng = self.rng_of(sample)
        if self.questions is None:
            return draw(self.kinds or list(get_args(Kind)), self.per_image or _PER_IMAGE, rng)
        given = [Question(text, "given") for text in self.questions]
        if self.per_image is None:
            return given
        chosen = sorted(rng.sample(range(len(given)), self.per_image))
        return [given[i] for i in chosen]

    def _seed(self, sample: Sample, number: int) -> int:
        """A seed for each question of a sample, so that the answers use different draws."""
        return seed_for(self.seed_of(sample), "question", str(number))

    def _pair(self, question: Question, reply: Reply, prompt: str, seed: int) -> dict[str, Any]:
        about = {"kind": question.kind, "model": self.model, "prompt": prompt, "stage": self.step_name}
        pair: dict[str, Any] = {"question": question.text, "answer": reply.text, **about}
        if reply.is_cut:
            pair["truncated"] = True
        return pair | {"seed": seed} if self.samples else pair
