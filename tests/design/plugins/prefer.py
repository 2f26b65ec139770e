"""Chosen and rejected from four candidates."""

from collections.abc import Sequence
from typing import ClassVar

import mmsynth as mm


class Prefer(mm.Grouping):
    """Of a sample's candidates make one preference: the best caption by a score, chosen over the worst."""

    main: ClassVar[str] = "score"

    score: str
    prompt: str = "Describe this image."

    def process_group(self, samples: Sequence[mm.Sample]) -> list[mm.Result]:
        ordered = sorted(samples, key=lambda s: s.record["scores"][self.score])
        best, worst = ordered[-1], ordered[0]
        prompt = [{"role": "user", "content": [{"type": "image", "image": ""}, {"type": "text", "text": self.prompt}]}]
        sides = [[{"role": "assistant", "content": [{"type": "text", "text": s.caption}]}] for s in (best, worst)]
        scores = {"chosen": best.record["scores"][self.score], "rejected": worst.record["scores"][self.score]}
        if scores["chosen"] == scores["rejected"]:
            return [mm.Dropped("all_alike", sample) for sample in samples]
        preferred = best.with_preference(prompt, *sides, scores=scores, how=self.score)
        return [preferred if sample is best else mm.Dropped("not_best", sample) for sample in samples]
