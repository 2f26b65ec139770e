"""Captions by a vision-language model.

Knows what to do with the text. ChatStage asks the model, and the engine answers.
"""

from pydantic import Field

from mmsynth.chat_stage import WritesText
from mmsynth.models.chat import Request
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Captioner


class VisionLanguageCaptioner(WritesText, Captioner):
    """Write a caption for each image with a vision-language model. Drop samples whose caption is empty.

    `model` is a chat model (SmolVLM, Qwen-VL, LLaVA, Gemma) or a plain captioner (BLIP, GIT, PaliGemma). Without
    `prompt`, chat models are asked for one sentence and plain ones get what they were trained on, mostly nothing.
    Captions are greedy; with `temperature` each is drawn from its sample's own seed, in any batch.

    A caption that is cut off at `max_new_tokens` is marked: `truncated: true`. Of a model that thinks before it
    answers, the answer alone is the caption; a thought without an end drops the sample as `unfinished_thought`.
    """

    prompt: str | None = Field(None, description="the prompt; plain captioners continue it")

    def trial(self) -> Request:
        if self.prompt is not None:
            self.chat_model.check_prompt(self.prompt)
        return self.trial_of(self._prompt(), images=[""], is_literal=False)

    async def process_one(self, sample: Sample) -> Result:
        prompt = self._prompt()
        reply = await self.ask(prompt, sample, images=[""], is_literal=False)
        if not reply.text:
            return Dropped("unfinished_thought" if reply.reasoning else "empty_caption", sample)
        seed = self.seed_of(sample) if self.samples else None
        return sample.with_caption(
            reply.text,
            model=self.model,
            prompt=prompt,
            seed=seed,
            stage=self.step_name,
            truncated=reply.is_cut or None,
        )

    def _prompt(self) -> str | None:
        return self.chat_model.caption_prompt() if self.prompt is None else self.prompt
