"""Measure on this machine what a block costs besides its samples, for `simulate`.

    python -m examples.scale.measure

Writes overheads.json beside this file: seconds a block, bytes on disk, seconds a block to find out that it is done,
seconds for Ray to hand out a block. Stages do nothing here, so what is left is mmsynth's own part.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import mmsynth as mm

_SAMPLES = 2000
_RESUMED_BLOCKS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a block costs besides its samples.")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("overheads.json"))
    parser.add_argument("--without-ray", action="store_true", help="leave out what needs Ray")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = overheads(Path(folder))
    if not options.without_ray:
        found["dispatch_s"] = dispatch_seconds()
    found = {name: float(f"{value:.3g}") for name, value in found.items()}
    for name, value in found.items():
        print(f"{name:24} {value:g}")
    options.json.write_text(json.dumps(found, indent=2) + "\n")


def overheads(folder: Path) -> dict[str, float]:
    seconds(folder / "warm", 100)  # imports, and caches
    few, many = seconds(folder / "few", _SAMPLES), seconds(folder / "many", 10)
    blocks = _SAMPLES // 10
    run_of(_RESUMED_BLOCKS).write(folder / "resumed", samples_per_shard=1)
    started = time.perf_counter()
    run_of(_RESUMED_BLOCKS).write(folder / "resumed", samples_per_shard=1)
    resumed = time.perf_counter() - started
    table = folder / "few" / "00000.parquet"
    stats = [path.stat().st_size for path in (folder / "many").glob("*_stats.json")]
    return {
        "sample_s": few / _SAMPLES,
        "block_s": max(0.0, many - few) / (blocks - 1),
        "stats_bytes": sum(stats) / len(stats),
        "index_bytes": sum((folder / "many" / name).stat().st_size for name in ("index.json", "sizes.json")) / blocks,
        "row_bytes": table.stat().st_size / _SAMPLES,
        "resume_s": resumed / _RESUMED_BLOCKS,
    }


def seconds(out: Path, samples_per_shard: int) -> float:
    started = time.perf_counter()
    run_of(_SAMPLES).write(out, samples_per_shard=samples_per_shard)
    return time.perf_counter() - started


def run_of(n: int) -> mm.Pipeline:
    """`n` prompts that nothing is done to."""
    return mm.source("prompts", texts=[f"a photograph of the number {i}" for i in range(n)])


def dispatch_seconds(calls: int = 500) -> float:
    """From asking an actor for something to hearing that it is done."""
    import ray

    @ray.remote
    class Idle:
        def do(self, block: object) -> object:
            return block

    ray.init(address="local", num_cpus=1, logging_level="ERROR", include_dashboard=False)  # not one that is near
    actor = Idle.remote()
    ray.get(actor.do.remote(0))
    started = time.perf_counter()
    for i in range(calls):
        ray.get(actor.do.remote({"start": i, "stop": i + 10_000}))
    taken = time.perf_counter() - started
    ray.shutdown()
    return taken / calls


if __name__ == "__main__":
    main()
