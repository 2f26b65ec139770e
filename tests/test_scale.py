"""The simulation of a large run keeps to what can be worked out by hand, and its inputs are measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from examples.scale.measure import overheads
from examples.scale.simulate import Cluster, on_paper, simulate

COSTS = {
    "block_s": 1.0,
    "dispatch_s": 0.001,
    "resume_s": 0.0001,
    "stats_bytes": 400.0,
    "index_bytes": 100.0,
    "sample_s": 0.0001,
    "row_bytes": 10.0,
}
NEVER = 1e18
SAFE = Cluster(
    pairs=1e5,
    gpus=10,
    rate=100.0,
    samples_per_shard=100,
    gpu_mtbf_s=NEVER,
    node_mtbf_s=NEVER,
    coordinator_mtbf_s=NEVER,
    load_s=10.0,
)


def test_without_deaths_a_run_takes_its_blocks_one_after_another() -> None:
    outcome = simulate(SAFE, COSTS, seed=0)
    blocks_a_gpu = 1e5 / 100 / 10
    assert outcome.seconds == pytest.approx(10 + blocks_a_gpu * (1.0 + 1.0), rel=0.01)
    assert (outcome.lost_s, sum(outcome.deaths.values())) == (0, 0)


def test_deaths_cost_time_and_the_same_seed_gives_the_same_run() -> None:
    risky = replace(SAFE, gpu_mtbf_s=300.0, node_mtbf_s=2000.0, coordinator_mtbf_s=2000.0)
    outcome = simulate(risky, COSTS, seed=1)
    assert outcome.seconds > simulate(SAFE, COSTS, seed=1).seconds
    assert outcome.deaths["gpu"] > 0
    assert outcome.lost_s > 0
    assert outcome == simulate(risky, COSTS, seed=1)
    assert outcome.seconds < simulate(risky.dying(2), COSTS, seed=1).seconds


def test_a_slow_coordinator_bounds_the_rate() -> None:
    outcome = simulate(SAFE, {**COSTS, "dispatch_s": 1.0}, seed=0)
    assert outcome.seconds >= 1000 * 1.0


def test_the_paper_counts_shards() -> None:
    paper = dict(on_paper(SAFE, COSTS))
    assert paper["shards"] == "1,000 of 100"
    assert paper["files"] == "3,000"
    assert paper["... listed from a bucket"] == "3 requests, 1 s; when a run begins"
    assert paper["manifest (index.json, sizes.json)"] == "0.1 MB, written once at the end"
    assert paper["blocks to hand out"] == "5.00 a second"
    assert paper["... beside it, reading and writing"] == "1.0% of a core for each GPU"


def test_overheads_are_measured_on_real_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.scale.measure._SAMPLES", 60)
    monkeypatch.setattr("examples.scale.measure._RESUMED_BLOCKS", 5)
    found = overheads(tmp_path)
    assert all(found[name] > 0 for name in ("sample_s", "stats_bytes", "index_bytes", "row_bytes", "resume_s"))
