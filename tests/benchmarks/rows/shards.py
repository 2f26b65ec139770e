"""Reading and writing shards with stages that do nothing: what the engine itself costs each sample."""

from collections.abc import Sequence

import mmsynth as mm
from mmsynth.sample import Result, Sample
from tests.benchmarks.inputs import write_tars
from tests.benchmarks.measure import Options, Row, Side, Target
from tests.benchmarks.warm import run

#: small, so that decoding each picture once, which no run leaves out, is a small part of it
SIZE = (64, 48)


class Nothing(mm.Filter):
    """Give every sample back as it is."""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return list(batch)


def row(options: Options) -> Row:
    n = options.count(8192)
    folder = options.scratch / "shards"
    write_tars(folder, n, SIZE)
    pipeline = mm.read(f"{folder}/*.tar").filter(Nothing()).filter(Nothing())
    return Row(
        f"reading and writing shards, two stages that do nothing, {SIZE[0]}×{SIZE[1]} JPEGs",
        [Side("ours", lambda: run(pipeline, n, "cpu"), by_cpu=True)],
        [Target("samples a second and core", "ours", at_least=3000)],
        {"n": n},
        warm_up=True,
    )
