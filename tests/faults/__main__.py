"""The campaign: everything that dies, fills up, fails or is forged, and what is left of a run afterwards.

python -m tests.faults                          # all of it: hours
python -m tests.faults --only kill --kills 6    # a part
python -m tests.faults --journal tries.jsonl    # stopped and given again, it goes on: known tries are not made again
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

from tests.faults import (
    bits,
    disk,
    hostile_images,
    hostile_tables,
    hostile_tars,
    kill,
    misbehaving,
    results,
    signals,
    together,
)
from tests.faults.trial import Figure
from tests.faults.tries import Tries


def main(arguments: list[str]) -> int:
    """Run the parts asked for; gives 1 if any promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--tars", type=int, default=500)
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--times", type=int, default=20, help="tries of each other sort, where they are random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", metavar="SORT", help="kill, disk, signals, … (repeatable)")
    parser.add_argument("--journal", type=Path, help="each random try is written here as it ends, and not made again")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args(arguments)
    sorts = parts(asked)
    if unknown := [name for name in asked.only or () if name not in sorts]:
        parser.error(f"no sort '{unknown[0]}'. Sorts: {', '.join(sorts)}")
    folder = Path(tempfile.mkdtemp(prefix="mmsynth-faults-"))
    figures: list[Figure] = []
    try:
        for name in asked.only or sorts:
            print(f"{name} …", file=sys.stderr, flush=True)
            found: list[Figure] = []
            for figure in sorts[name](folder):
                found.append(without(folder, figure))
                print(results.line(found[-1]), flush=True)
                results.write(name, found, "python -m tests.faults " + " ".join(arguments))
            figures += found
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    return int(any(figure.held < figure.tried for figure in figures))


def without(folder: Path, figure: Figure) -> Figure:
    """The figure without the name of a folder that is gone."""
    return replace(figure, wrong=[text.replace(f"{folder}/", "") for text in figure.wrong])


def parts(asked: argparse.Namespace) -> dict[str, Callable[[Path], Iterable[Figure]]]:
    """Sort → what makes its figures in a folder."""
    tries = Tries(asked.seed, asked.journal)
    return {
        "kill": lambda folder: kill.figures(folder, asked.kills, tries),
        "disk": disk.full_and_read_only,
        "calls": lambda folder: disk.failing_calls(folder, asked.times, tries),
        "clock": lambda folder: disk.jumping_clock(folder, asked.times, tries),
        "signals": signals.figures,
        "together": lambda folder: together.figures(folder, asked.times, tries),
        "bits": lambda folder: bits.figures(folder, asked.times, tries),
        "stages": misbehaving.figures,
        "images": lambda folder: hostile_images.figures(folder, asked.images, asked.seed),
        "tars": lambda folder: hostile_tars.figures(folder, asked.tars, asked.seed),
        "tables": lambda folder: hostile_tables.figures(folder, asked.tables, asked.seed),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
