"""Captions by a vision-language model.

Knows what to do with the text. ChatStage asks the model, and the engine answers.
"""

from pydantic import Field

from mmsynth.chat_stage import WritesText
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Captioner


class VisionLanguageCaptioner(WritesText, Captioner):
    """Write a caption for each image with a vision-language model. Drop samples whose caption is empty.

    `model` is a chat model (SmolVLM, Qwen-VL, LLaVA, Gemma) or a plain captioner (BLIP, GIT, PaliGemma). Without
    `prompt`, chat models are asked for one sentence, and plain ones get the prompt of their training, mostly none.
    Captions are greedy. With `temperature`, each is sampled with the sample's own seed, whatever its batch.
    """

    prompt: str | None = Field(None, description="the prompt; plain captioners continue it")

    async def process_one(self, sample: Sample) -> Result:
        prompt = self.chat_model.caption_prompt() if self.prompt is None else self.prompt
        reply = await self.ask(prompt, sample, images=[""])
        if not reply.text:
            return Dropped("empty_caption", sample)
        seed = self.seed_of(sample) if self.samples else None
        return sample.with_caption(reply.text, model=self.model, prompt=prompt, seed=seed, stage=self.step_name)
