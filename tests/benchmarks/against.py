"""This version against another, in turns: `python -m tests.benchmarks.against CHECKOUT [--only shards,caption]`.

Each round runs every row's own side ("ours") in a process of each version, one after the other, and the next round the
other way round; a ratio is the median over the rounds. CHECKOUT is a folder with the other version's tree. Where its
plugins are installed elsewhere than in the tree, name that folder too: CHECKOUT:SITE.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from mmsynth.io.files import write_json
from tests.benchmarks.machine import description
from tests.benchmarks.rows import ROWS

RESULT = Path(__file__).parent / "results" / "against.json"
HERE = Path(__file__).parents[2]
_PLUGINS = ("captioners", "renderers", "filters")

#: run in either tree: builds the row and measures its own side, once warm
_MEASURE = """
import json, sys, tempfile
from pathlib import Path
from tests.benchmarks.measure import Options, repetition
from tests.benchmarks.rows import build
name, repetitions, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) or None
with tempfile.TemporaryDirectory() as scratch:
    options = Options(Path(scratch), n=n, busy=1.0)
    row = build(name, options)
    side = next(side for side in row.sides if side.name.startswith("ours"))
    side.run()
    found = [repetition(side, options) for _ in range(repetitions)]
    row.close()
print(json.dumps(found))
"""


def main() -> None:
    given = _arguments()
    other = [Path(part).resolve() for part in given.checkout.split(":")]
    print(json.dumps(description("cpu", "auto")), flush=True)
    for name in given.only:
        ratios: list[float] = []
        rates: dict[str, list[float]] = {"this": [], "other": []}
        for number in range(given.rounds):
            sides = [("this", [HERE]), ("other", other)]
            for side, folders in sides if number % 2 == 0 else sides[::-1]:
                rates[side].append(statistics.median(_rates(name, folders, given.repetitions, given.n)))
            ratios.append(rates["this"][-1] / rates["other"][-1])
        row = {"ratio": round(statistics.median(ratios), 3), "ratios": [round(r, 3) for r in ratios], "rates": rates}
        print(f"{name:12} {row['ratio']:6.3f} of the other version's rate  {row['ratios']}", flush=True)
        keep(given.json, name, row | {"machine": description("cpu", "auto")})


def _rates(name: str, folders: list[Path], repetitions: int, n: int) -> list[float]:
    """Of the row's own side in the version that lies in `folders`."""
    tree = folders[0]
    path = [tree, *folders[1:], *(tree / plugin for plugin in _PLUGINS)]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, name, str(repetitions), str(n)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return [each["rate"] for each in json.loads(done.stdout.splitlines()[-1])]


def keep(result: Path, name: str, row: dict[str, Any]) -> None:
    rows = json.loads(result.read_text()) if result.exists() else {}
    write_json(result, rows | {name: row})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", help="the other version's tree, or TREE:SITE")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[n for n in ROWS if n != "in_flight"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("-n", type=int, default=0, help="samples of each row; 0: its own number")
    parser.add_argument("--json", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
