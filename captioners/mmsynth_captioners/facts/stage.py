"""FactsCaptioner: the stage that speaks `record["facts"]`."""

from collections.abc import Sequence

from pydantic import Field, ValidationError

from mmsynth.errors import SampleError
from mmsynth.facts import Facts
from mmsynth.sample import Result, Sample
from mmsynth.stage import Captioner
from mmsynth_captioners.facts.captions import Detail, write_caption
from mmsynth_captioners.facts.questions import write_questions


class FactsCaptioner(Captioner):
    """Write a caption and question-answer pairs from `record["facts"]`, without a model and exact by construction.

    Phrasings vary by the sample's own seed. `detail`: "full" states every fact, "short" only counts, colours and
    kinds, "mixed" picks either. `qa` is the most pairs per sample. Raises SampleError: `no_facts`, `facts_invalid`.
    """

    detail: Detail = "full"
    qa: int = Field(4, ge=0, description="question-answer pairs per sample; 0 for none")

    def prepare(self, sample: Sample) -> Facts:
        if not sample.record.get("facts"):
            raise SampleError(
                "no_facts", "record['facts'] is what this captioner speaks; the scenes renderer writes it"
            )
        try:
            return Facts.model_validate(sample.record["facts"])
        except ValidationError as error:
            first = error.errors()[0]
            raise SampleError("facts_invalid", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[Facts]) -> list[Result]:
        return [self._captioned(sample, facts) for sample, facts in zip(batch, prepared, strict=True)]

    def _captioned(self, sample: Sample, facts: Facts) -> Sample:
        rng = self.rng_of(sample)
        captioned = sample.with_caption(
            write_caption(facts, rng, self.detail), model="facts", seed=self.seed_of(sample)
        )
        pairs = write_questions(facts, rng, self.qa)
        return captioned.with_qa({**pair, "model": "facts"} for pair in pairs) if pairs else captioned
