"""The same command again on a finished run of many shards: the time until it says that there is nothing to do."""

import subprocess
import sys

import yaml

from tests.benchmarks.measure import Options, Row, Side, Target


def row(options: Options) -> Row:
    n = options.count(10_000)
    recipe, prompts = options.scratch / "resume.yaml", options.scratch / "resume.txt"
    prompts.write_text("".join(f"number {i}\n" for i in range(n)))
    said = {
        "source": {"kind": "prompts", "path": str(prompts)},
        "stages": [{"filter": "caption_length"}],
        "out": {"path": str(options.scratch / "resume"), "samples_per_shard": 1},
    }
    recipe.write_text(yaml.safe_dump(said, sort_keys=False))

    def command() -> int:
        mmsynth = [sys.executable, "-m", "mmsynth", "run", str(recipe), "--device", "cpu"]
        subprocess.run(mmsynth, check=True, capture_output=True)
        return n

    command()
    return Row(
        f"resume of a finished run of {n:,} shards, from the command line",
        [Side("ours", command)],
        [Target("seconds until it says so", "ours", at_most_s=3)],
        {"n": n},
    )
