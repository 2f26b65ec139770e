"""Peak memory of a run of 20,000 scenes beside one of 2,000: memory must not grow with the dataset.

Run by hand: python -m tests.benchmarks.bench_memory [--small 2000] [--large 20000]

Each run is a process of its own that draws, captions and writes; its peak is what the system counted (ru_maxrss).
Prints a table and writes bench_memory.json beside this file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

RESULT = Path(__file__).with_suffix(".json")
TARGET = 1.2

_RUN = """
import resource, sys
import mmsynth as mm
mm.scenes(int(sys.argv[1]), seed=1).render("scenes").caption("facts").write(sys.argv[2], samples_per_shard=1000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mb(n: int) -> float:
    """Peak resident memory of a run of `n` scenes, in megabytes (Linux counts in kilobytes)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _RUN, str(n), f"{folder}/out"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory of a large run beside a small one.")
    parser.add_argument("--small", type=int, default=2_000)
    parser.add_argument("--large", type=int, default=20_000)
    options = parser.parse_args()
    small, large = peak_mb(options.small), peak_mb(options.large)
    figures = {f"peak_mb_{options.small}": small, f"peak_mb_{options.large}": large, "ratio": large / small}
    for name, value in figures.items():
        print(f"{name:16} {value:10.2f}")
    print(f"target: a ratio of at most {TARGET}")
    RESULT.write_text(json.dumps({name: round(value, 3) for name, value in figures.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
