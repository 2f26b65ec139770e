"""A stage of one's own: captions that are almost true of a scene, for a CLIP model to tell apart from the true one."""

import random
from collections.abc import Sequence

import mmsynth as mm
from mmsynth.facts import Facts
from mmsynth.sample import Result
from mmsynth_captioners.facts import write_caption
from mmsynth_renderers.scenes import hard_negatives


class HardNegativeCaptions(mm.Captioner):
    """Adds `record["negatives"]`: colour, shape, count, relation → the caption of the scene with just that changed."""

    def process(self, batch: Sequence[mm.Sample]) -> list[Result]:
        return [self._with_negatives(sample, self.rng(sample)) for sample in batch]

    def _with_negatives(self, sample: mm.Sample, rng: random.Random) -> mm.Sample:
        changed = hard_negatives(Facts.model_validate(sample.record["facts"]), seed=rng.getrandbits(32))
        return sample.with_record(
            negatives={name: write_caption(facts, rng, "full") for name, facts in changed.items()}
        )
