"""The captioner `negatives`: captions that are almost true of a scene, to test and train caption scorers."""

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
    """Put captions with one mistake into `record["negatives"]`: in colour, shape, count or relation.

    Each states the whole scene from `record["facts"]`, like the captioner `facts`, with just one thing changed. A kind
    of change that the scene does not allow (mostly relations) is left out. The caption itself stays. `calibrate` tests
    a filter with them, kind by kind, and CLIP models learn from them. A sample without facts, or with facts of another
    world, goes on unchanged.
    """

    record_fields: ClassVar[frozenset[str]] = frozenset({"negatives"})

    _writer: Stage | None = PrivateAttr(default=None)

    def check(self) -> None:
        registry.load("caption", "facts")

    def setup(self, device: str) -> None:
        # by name, since plugins reach each other through the registry only
        writer: Stage = registry.load("caption", "facts")(qa=0)
        self._writer = self.sub_stage(writer)
        self._writer.setup(device)

    def prepare(self, sample: Sample) -> dict[str, Facts]:
        """The kind of change → the changed facts, which are no longer true."""
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
        # each has its own key, so that the phrasings differ
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
