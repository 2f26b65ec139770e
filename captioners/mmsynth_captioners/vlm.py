"""Captions by a vision-language model: any image-text-to-text model of transformers.

Knows what becomes of the text. The models are `generation`'s and `prompting`'s business.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from mmsynth.sample import Dropped, Result, Sample
from mmsynth_captioners.model_captioner import ModelCaptioner

if TYPE_CHECKING:
    import PIL.Image


class VisionLanguageCaptioner(ModelCaptioner):
    """Write a caption for each image with a vision-language model; drop samples whose caption comes out empty.

    `model` is a chat model (SmolVLM, Qwen-VL, LLaVA, Gemma) or a plain captioner (BLIP, GIT, PaliGemma). Without
    `prompt`, chat models are asked for one sentence and plain ones get what they were trained on, mostly nothing.
    Captions are greedy; with `temperature` each is drawn from its sample's own seed, whoever shares its batch.
    """

    prompt: str | None = Field(None, description="what the model is told; plain captioners continue it")

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence["PIL.Image.Image"]) -> list[Result]:
        prompt = self.generator.prompts.caption() if self.prompt is None else self.prompt
        seeds = [self.seed_of(sample) for sample in batch]
        captions = self.generator.generate(prepared, [prompt] * len(batch), seeds, len(batch))
        return [self._captioned(s, text, prompt) for s, text in zip(batch, captions, strict=True)]

    def _captioned(self, sample: Sample, text: str, prompt: str | None) -> Result:
        if not text:
            return Dropped("empty_caption", sample)
        seed = self.seed_of(sample) if self.samples else None
        return sample.with_caption(text, model=self.model, prompt=prompt, seed=seed, stage=self.step_name)
