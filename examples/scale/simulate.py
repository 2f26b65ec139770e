"""What a run of a billion pairs on a hundred GPUs would be like: on paper, and by simulation.

    python -m examples.scale.simulate
    python -m examples.scale.simulate --pairs 1e8 --gpus 16 --rate 500 --samples-per-shard 5000

The paper part multiplies; the simulation runs every block on every GPU, event by event, with GPUs, nodes and the
coordinator dying at random (seeded) and everything done again that mmsynth does again. What mmsynth itself costs is in
overheads.json, which `examples.scale.measure` wrote on a real machine. How often hardware dies is known from large
runs: Llama 3's 16,384 GPUs had 419 unexpected interruptions in 54 days (Dubey et al. 2024), one in 50,000 GPU hours.
"""

import argparse
import heapq
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

_DAY_S = 86_400.0
#: a store of S3's kind lists a thousand names a request, one after another, each in some 0.2 s; it gives small files
#: in some 0.05 s, of which fsspec asks for 128 at once
_NAMES_A_REQUEST, _LISTED_S = 1000, 0.2
_READ_S, _READ_AT_ONCE = 0.05, 128
_GPUS_A_NODE = 8


@dataclass(frozen=True)
class Cluster:
    """What there is, and how often it dies. Times in seconds."""

    pairs: float
    gpus: int
    #: pairs a second on one GPU
    rate: float
    samples_per_shard: int
    gpu_mtbf_s: float = 50_000 * 3600
    #: power, network, kernel: a whole node at once
    node_mtbf_s: float = 5_000 * 3600
    coordinator_mtbf_s: float = 5_000 * 3600
    #: to start a process and load its models
    load_s: float = 60.0
    #: until somebody or something gives the command again
    command_s: float = 300.0

    def dying(self, times: float) -> "Cluster":
        """The same, where everything dies so many times as often."""
        names = ("gpu_mtbf_s", "node_mtbf_s", "coordinator_mtbf_s")
        return replace(self, **{name: getattr(self, name) / times for name in names})

    @property
    def blocks(self) -> int:
        return -(-int(self.pairs) // self.samples_per_shard)


@dataclass
class Outcome:
    """What came of a simulated run."""

    seconds: float = 0.0
    deaths: dict[str, int] = field(default_factory=lambda: {"gpu": 0, "node": 0, "coordinator": 0})
    #: GPU seconds of work that had to be done again, and of waiting for models, blocks and the coordinator
    lost_s: float = 0.0
    loading_s: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate a large run.")
    parser.add_argument("--pairs", type=float, default=1e9)
    parser.add_argument("--gpus", type=int, default=100)
    parser.add_argument("--rate", type=float, default=50.0, help="pairs a second on one GPU: captioning, say")
    parser.add_argument("--samples-per-shard", type=int, default=10_000)
    parser.add_argument("--deaths", type=float, default=1.0, help="as if everything died so many times as often")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overheads", type=Path, default=Path(__file__).with_name("overheads.json"))
    options = parser.parse_args()
    overheads = json.loads(options.overheads.read_text())
    cluster = Cluster(options.pairs, options.gpus, options.rate, options.samples_per_shard).dying(options.deaths)
    for name, value in [*on_paper(cluster, overheads), *told(cluster, simulate(cluster, overheads, options.seed))]:
        print(f"{name:44} {value}")


def on_paper(cluster: Cluster, overheads: dict[str, float]) -> Iterator[tuple[str, str]]:
    """What can be multiplied out."""
    blocks = cluster.blocks
    files = 3 * blocks
    block_s = cluster.samples_per_shard / cluster.rate + overheads["block_s"]
    yield "shards", f"{blocks:,} of {cluster.samples_per_shard:,}"
    requests = -(-files // _NAMES_A_REQUEST)
    yield "files", f"{files:,}"
    yield "... listed from a bucket", f"{requests:,} requests, {requests * _LISTED_S:.0f} s; when a run begins"
    yield (
        "manifest (index.json, sizes.json)",
        f"{blocks * overheads['index_bytes'] / 1e6:.1f} MB, written once at the end",
    )
    yield "stats to read when a run goes on", f"{blocks * overheads['stats_bytes'] / 1e6:.0f} MB"
    from_bucket = blocks * _READ_S / _READ_AT_ONCE
    yield (
        "... and to find out what is done",
        f"{blocks * overheads['resume_s']:.1f} s from a local disk, {from_bucket:.0f} s more from a bucket",
    )
    yield "parquet rows", f"{cluster.pairs * overheads['row_bytes'] / 1e9:.1f} GB"
    yield "a block takes", f"{block_s:.1f} s, of which mmsynth itself at most {overheads['block_s']:.3f} s"
    yield "... beside it, reading and writing", f"{overheads['sample_s'] * cluster.rate:.1%} of a core for each GPU"
    yield "blocks to hand out", f"{cluster.gpus / block_s:.2f} a second"
    yield "... where one coordinator can", f"{1 / overheads['dispatch_s']:.0f} a second"
    deaths = _deaths_a_day(cluster)
    yield "deaths a day to expect", ", ".join(f"{kind} {n:.2f}" for kind, n in deaths.items())
    half = block_s / 2 + cluster.load_s
    yield "a dead GPU costs", f"{half:.0f} GPU seconds: half a block and loading again"
    yield "a dead node costs", f"{_GPUS_A_NODE * half:.0f} GPU seconds"
    wait = cluster.command_s + blocks * overheads["resume_s"]
    yield "a dead coordinator costs", f"{cluster.gpus * (half + wait):.0f} GPU seconds"


def _deaths_a_day(cluster: Cluster) -> dict[str, float]:
    return {
        "GPUs": cluster.gpus * _DAY_S / cluster.gpu_mtbf_s,
        "nodes": cluster.gpus / _GPUS_A_NODE * _DAY_S / cluster.node_mtbf_s,
        "coordinators": _DAY_S / cluster.coordinator_mtbf_s,
    }


def told(cluster: Cluster, outcome: Outcome) -> Iterator[tuple[str, str]]:
    ideal = cluster.pairs / cluster.rate / cluster.gpus
    yield "simulated: days", f"{outcome.seconds / _DAY_S:.3f} ({ideal / _DAY_S:.3f} if nothing cost anything)"
    yield "simulated: deaths", ", ".join(f"{kind} {n}" for kind, n in outcome.deaths.items())
    yield "simulated: work done again", f"{outcome.lost_s / (cluster.gpus * outcome.seconds):.4%} of GPU time"
    yield "simulated: loading models", f"{outcome.loading_s / (cluster.gpus * outcome.seconds):.4%} of GPU time"
    yield "simulated: GPU time that made pairs", f"{ideal / outcome.seconds:.2%}"


class _Simulation:
    """Every GPU is at a block until a time; deaths come in between."""

    def __init__(self, cluster: Cluster, overheads: dict[str, float], seed: int) -> None:
        self.cluster, self.overheads, self.rng = cluster, overheads, random.Random(seed)
        self.block_s = cluster.samples_per_shard / cluster.rate + overheads["block_s"]
        self.outcome = Outcome()
        self.left, self.running = cluster.blocks, 0
        #: when the coordinator is free to hand out the next block
        self.free_at = 0.0
        #: GPU → when its block began, and a number that is out of date once it has died
        self.began: dict[int, float] = {}
        self.turn = [0] * cluster.gpus
        self.events: list[tuple[float, str, int, int]] = []

    def run(self) -> Outcome:
        nodes = -(-self.cluster.gpus // _GPUS_A_NODE)
        for gpu in range(self.cluster.gpus):
            self._load(gpu, 0.0)
            self._schedule_death("gpu", gpu, 0.0)
        for node in range(nodes):
            self._schedule_death("node", node, 0.0)
        self._schedule_death("coordinator", 0, 0.0)
        while self.left or self.running:
            now, kind, who, turn = heapq.heappop(self.events)
            if kind in ("ready", "done"):
                if turn == self.turn[who]:
                    self._take(who, now, is_done=kind == "done")
                continue
            self.outcome.deaths[kind] += 1
            self._die(kind, who, now)
            self._schedule_death(kind, who, now)
            self.outcome.seconds = now
        return self.outcome

    def _take(self, gpu: int, now: float, is_done: bool) -> None:
        if is_done:
            self.running -= 1
            del self.began[gpu]
            self.outcome.seconds = now
        if self.left:
            self.free_at = max(self.free_at, now) + self.overheads["dispatch_s"]
            self.left -= 1
            self.running += 1
            self.began[gpu] = self.free_at
            heapq.heappush(self.events, (self.free_at + self.block_s, "done", gpu, self.turn[gpu]))

    def _die(self, kind: str, who: int, now: float) -> None:
        first, back_at = 0, now
        gpus = range(self.cluster.gpus)
        if kind == "gpu":
            gpus = range(who, who + 1)
        elif kind == "node":
            first = who * _GPUS_A_NODE
            gpus = range(first, min(first + _GPUS_A_NODE, self.cluster.gpus))
        else:
            back_at += self.cluster.command_s + self.cluster.blocks * self.overheads["resume_s"]
            self.free_at = back_at
        for gpu in gpus:
            self.turn[gpu] += 1
            if gpu in self.began:
                self.outcome.lost_s += max(0.0, now - self.began.pop(gpu))
                self.running -= 1
                self.left += 1
            self._load(gpu, back_at)

    def _load(self, gpu: int, now: float) -> None:
        self.outcome.loading_s += self.cluster.load_s
        heapq.heappush(self.events, (now + self.cluster.load_s, "ready", gpu, self.turn[gpu]))

    def _schedule_death(self, kind: str, who: int, now: float) -> None:
        mtbf: float = getattr(self.cluster, f"{kind}_mtbf_s")
        heapq.heappush(self.events, (now + self.rng.expovariate(1 / mtbf), kind, who, 0))


def simulate(cluster: Cluster, overheads: dict[str, float], seed: int) -> Outcome:
    """Run every block of the cluster's work, event by event."""
    return _Simulation(cluster, overheads, seed).run()


if __name__ == "__main__":
    main()
