"""Captions by a vision-language model.

Knows what becomes of the text. How the model is asked is ChatStage's business, how it answers its engine's.
"""

from pydantic import Field

from mmsynth.chat_stage import WritesText
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Captioner


class VisionLanguageCaptioner(WritesText, Captioner):
    """Write a caption for each image with a vision-language model; drop samples whose caption comes out empty.

    `model` is a chat model (SmolVLM, Qwen-VL, LLaVA, Gemma) or a plain captioner (BLIP, GIT, PaliGemma). Without
    `prompt`, chat models are asked for one sentence and plain ones get what they were trained on, mostly nothing.
    Captions are greedy; with `temperature` each is drawn from its sample's own seed, in any batch.
    """

    prompt: str | None = Field(None, description="what the model is told; plain captioners continue it")

    async def process_one(self, sample: Sample) -> Result:
        prompt = self.chat_model.caption_prompt() if self.prompt is None else self.prompt
        reply = await self.ask(prompt, sample, images=[""])
        if not reply.text:
            return Dropped("empty_caption", sample)
        seed = self.seed_of(sample) if self.samples else None
        return sample.with_caption(reply.text, model=self.model, prompt=prompt, seed=seed, stage=self.step_name)
