"""The captioner `negatives`: captions that are almost true of a scene, for what should tell them from the true one."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import PrivateAttr, ValidationError

from mmsynth import registry
from mmsynth.errors import SampleError
from mmsynth.facts import Facts
from mmsynth.sample import Result, Sample
from mmsynth.stage import Captioner, Stage
from mmsynth_renderers.scenes.negatives import hard_negatives


class NegativeCaptions(Captioner):
    """Put captions that are wrong in one thing into `record["negatives"]`: colour, shape, count and relation.

    Made from `record["facts"]`: each states the whole scene, as the captioner `facts` does, with just that changed;
    a kind that a scene has none of (relations, mostly) is left out. The caption itself stays. `calibrate` judges a
    filter by them, kind by kind, and CLIP models learn from them. A sample without facts, or with those of another
    world than the scenes', goes on as it came.
    """

    record_fields: ClassVar[frozenset[str]] = frozenset({"negatives"})

    _writer: Stage | None = PrivateAttr(default=None)

    def check(self) -> None:
        registry.load("caption", "facts")

    def setup(self, device: str) -> None:
        # by its name: what plugins share goes through the registry
        writer: Stage = registry.load("caption", "facts")(qa=0)
        self._writer = self.sub_stage(writer)
        self._writer.setup(device)

    def prepare(self, sample: Sample) -> dict[str, Facts]:
        """What was changed → the facts that are then no longer true."""
        try:
            facts = Facts.model_validate(sample.record.get("facts"))
            return hard_negatives(facts, seed=self.seed_of(sample))
        except (ValidationError, SampleError):
            return {}

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[dict[str, Facts]]) -> list[Result]:
        return [self._with_negatives(sample, changed) for sample, changed in zip(batch, prepared, strict=True)]

    def _with_negatives(self, sample: Sample, changed: dict[str, Facts]) -> Sample:
        if self._writer is None:
            raise RuntimeError(f"{type(self).__name__}.setup() must run before the first batch")
        if not changed:
            return sample
        # a key of its own for each, so that the phrasings differ
        asked = [Sample(f"{sample.key}-{what}", record={"facts": _json(facts)}) for what, facts in changed.items()]
        told = self._writer.process(asked)
        texts = {
            what: one.caption
            for what, one in zip(changed, told, strict=True)
            if isinstance(one, Sample) and one.caption
        }
        return sample.with_record(negatives=texts)


def _json(facts: Facts) -> dict[str, Any]:
    return facts.model_dump(mode="json")
