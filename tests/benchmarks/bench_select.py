"""How long decisions over ten million rows of scores take, and how much memory.

    python -m tests.benchmarks.bench_select --json tests/benchmarks/results/bench_select.json

Makes the parquet files of a run of that size (no tars: a decision reads none), decides in several ways, each in a process
of its own, and takes its seconds (the processor's too, which others on the machine change less) and its peak memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import mmsynth as mm
from mmsynth.blocks import ShardStats
from mmsynth.io.files import sealed, write_json
from mmsynth.layout import stats_name, table_name
from mmsynth.selection import Decision, Rows
from mmsynth.shards.folder import RunFolder

DECISIONS: dict[str, dict[str, Any]] = {
    "where": {"where": "clip >= 0.26 and caption_words between 4 and 60"},
    "top": {"top": 0.3, "by": "clip"},
    "per": {"per": "width", "at_most": 100_000, "by": "clip"},
    "dedup": {"dedup": True, "by": "clip"},
    "sample": {"sample": 1_000_000},
}
_ROWS_PER_SHARD = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Time decisions over a large table of scores.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="keep the table here, to decide again")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--decide", choices=DECISIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.decide:
        print(json.dumps(measure(options.folder, options.decide)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "run"
        if not (folder / "run.json").exists():
            write_table(folder, options.rows)
        figures = {}
        for name in DECISIONS:
            command = [sys.executable, "-m", "tests.benchmarks.bench_select", "--folder", str(folder), "--decide", name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            figures[name] = json.loads(done.stdout)
            print(f"{name:8} {figures[name]}", flush=True)
    if options.json:
        write_json(options.json, {"rows": options.rows, "load_average": round(os.getloadavg()[0], 1), **figures})


def measure(folder: Path, name: str) -> dict[str, float]:
    started = time.monotonic()
    decided = Decision(**DECISIONS[name]).decide(Rows([folder]))
    first = next(decided.in_order())
    assert first
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
        "kept": decided.kept,
    }


def write_table(folder: Path, n: int) -> None:
    """The rows that a run with a CLIP score leaves: 10 % dropped, one image in fifty there twice."""
    run = RunFolder(folder)
    run.start(mm.scenes(n).recipe, "cpu")
    rng = np.random.default_rng(0)
    words = np.array(["red", "small", "star", "to", "the", "left", "of", "two", "large", "boats"])
    for index, start in enumerate(range(0, n, _ROWS_PER_SHARD)):
        size = min(_ROWS_PER_SHARD, n - start)
        captions = [" ".join(rng.choice(words, k)) for k in rng.integers(3, 25, 200)]
        numbers = np.arange(start, start + size)
        table = pa.table(
            {
                "key": [f"{i:09d}" for i in numbers],
                "status": np.where(rng.random(size) < 0.1, "dropped", "success"),
                "reason": pa.nulls(size, pa.string()),
                "caption": [captions[i] for i in rng.integers(0, 200, size)],
                "width": rng.integers(200, 300, size).astype(np.int32),
                "height": rng.integers(200, 300, size).astype(np.int32),
                "sha256": [f"{value:064x}" for value in np.where(rng.random(size) < 0.02, numbers // 2, numbers)],
                "tar_start": numbers * 1000,
                "tar_stop": numbers * 1000 + 1000,
                "score_clip": rng.normal(0.25, 0.05, size),
            }
        )
        pq.write_table(table, folder / table_name(index), compression="zstd")
        stats = ShardStats(size, {"kept": size, "dropped": 0, "failed": 0}, size, scores=("clip",))
        write_json(folder / stats_name(index), sealed(stats.to_json()))


if __name__ == "__main__":
    main()
