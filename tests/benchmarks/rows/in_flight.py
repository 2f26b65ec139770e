"""An async stage that waits 50 ms for each sample, 64 in flight, from tars to shards: what the engine adds to the waiting."""

import asyncio

from pydantic import Field

import mmsynth as mm
from tests.benchmarks.inputs import write_tars
from tests.benchmarks.measure import Options, Row, Side, Target
from tests.benchmarks.rows.shards import SIZE
from tests.benchmarks.warm import run

WAIT_S, IN_FLIGHT = 0.05, 64
#: what the engine may take beside the waiting
_SLACK = 1.1


class Waits(mm.Captioner):
    """Wait, as for a server, and give the sample back."""

    concurrency: int = Field(IN_FLIGHT, ge=1)

    async def process_one(self, sample: mm.Sample) -> mm.Sample:
        await asyncio.sleep(WAIT_S)
        return sample


def row(options: Options) -> Row:
    n = options.count(10_000)
    folder = options.scratch / "waits"
    write_tars(folder, n, SIZE)
    pipeline = mm.read(f"{folder}/*.tar").then(Waits())
    ideal_s = n * WAIT_S / IN_FLIGHT
    return Row(
        f"{n:,} samples that wait {WAIT_S * 1000:.0f} ms each, {IN_FLIGHT} in flight; ideal {ideal_s:.1f} s",
        [Side("ours", lambda: run(pipeline, n, "cpu"))],
        [Target("seconds, tars to shards", "ours", at_most_s=round(_SLACK * ideal_s, 2))],
        {"n": n, "ideal_s": ideal_s},
        warm_up=True,
    )
