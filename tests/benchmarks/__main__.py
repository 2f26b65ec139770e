"""Speed against the limit and against others, in one run: `python -m tests.benchmarks [--only clip,decode]`.

Makes its own input, runs every side of a row in turns, several times, and prints ratios of medians. A repetition counts
only when everything else on the machine used less than a tenth of it (`--busy`): what /proc/stat says was worked, and
stolen, less what this command and its children worked. A ratio is the median over the rounds in which both sides count.

Each row is written as soon as it is measured, with the machine and the options that it was measured with; rows that the
file has already and that are not asked for stay.

Loading models is counted nowhere. The peers run in their own environments: `--peer-python clip_retrieval=PATH`, or
`--peers-in FOLDER`, where they are installed if they are not there.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmsynth.io.files import write_json
from mmsynth.models import resolve_device
from tests.benchmarks.bounds import bounds
from tests.benchmarks.machine import description
from tests.benchmarks.measure import Options, measure
from tests.benchmarks.peers import REQUIREMENTS, environment
from tests.benchmarks.rows import ROWS, build

RESULT = Path(__file__).parent / "results" / "speed.json"


def main() -> None:
    given = _arguments()
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        options = Options(
            Path(scratch),
            n=given.n,
            rounds=given.rounds,
            device=resolve_device(given.device),
            dtype=given.dtype,
            busy=given.busy,
            tiny=given.tiny,
            peers=_peers(given),
        )
        machine = description(options.device, options.dtype)
        print(json.dumps(machine), flush=True)
        about: dict[str, Any] = {"machine": machine, "busy_limit": options.busy, "rounds": options.rounds}
        if options.tiny:
            about["tiny"] = "toy models: these figures say that it runs, and nothing else"
        for name in given.only:
            (Path(scratch) / name).mkdir()
            row = build(name, replace(options, scratch=Path(scratch) / name))
            if given.bounds:
                found = bounds(row, options.device)
                print(json.dumps(found, indent=1), flush=True)
                keep(given.json.with_name("bounds.json"), name, found | about)
                continue
            measured = measure(row, options)
            show(measured)
            keep(given.json, name, measured | about)


def keep(result: Path, name: str, row: dict[str, Any]) -> None:
    """Write the row into the file, in the table's order, beside those of other runs."""
    rows = json.loads(result.read_text())["rows"] if result.exists() else {}
    rows[name] = row
    write_json(result, {"rows": {known: rows[known] for known in ROWS if known in rows}})


def show(row: dict[str, Any]) -> None:
    """One row as a table: its sides, then its ratios."""
    print(f"\n{row['title']}\n  {'':36}{'a second':>12}{'CPU / wall':>12}{'counted':>10}")
    for name, side in row["sides"].items():
        quiet = sum(each["quiet"] for each in side["repetitions"])
        counted = f"{quiet}/{len(side['repetitions'])}"
        median = side["median"]
        figures = f"{median['rate']:12,.2f}{median['cpu_over_wall']:12.2f}" if median else f"{'busy':>12}{'':12}"
        print(f"  {name:36}{figures}{counted:>10}")
    for target in row["targets"]:
        wanted = f"at least {target['at_least']:g}" if "at_least" in target else ""
        wanted = f"at most {target['at_most_s']:g}" if "at_most_s" in target else wanted
        found = "busy" if target["found"] is None else f"{target['found']:,.2f}"
        verdict = {True: "reached", False: "NOT reached", None: ""}[target["reached"]]
        print(f"  {target['what']:44}{found:>12}   {wanted} {verdict}".rstrip(), flush=True)


def _peers(given: argparse.Namespace) -> dict[str, str]:
    if "clip" not in given.only:
        return {}
    named = dict(each.split("=", 1) for each in given.peer_python)
    if unknown := named.keys() - REQUIREMENTS.keys():
        raise SystemExit(f"no peer is called {', '.join(unknown)}: there are {', '.join(REQUIREMENTS)}")
    if given.peers_in is not None:
        named = {name: environment(given.peers_in.absolute(), name) for name in REQUIREMENTS} | named
    return named


def _rows(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in ROWS]:
        raise argparse.ArgumentTypeError(f"no row is called {', '.join(unknown)}: there are {', '.join(ROWS)}")
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=_rows, default=list(ROWS), metavar="ROWS", help=f"some of {','.join(ROWS)}")
    parser.add_argument("-n", type=int, help="samples in each repetition; each row has its own default, for a CPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, auto")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "float16", "bfloat16"])
    parser.add_argument("--busy", type=float, default=0.1, help="leave out repetitions where others used more of it")
    parser.add_argument("--peer-python", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--peers-in", type=Path, help="folder of the peers' environments")
    parser.add_argument("--scratch", type=Path, help="folder for input and models; /dev/shm spares the disk")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--bounds", action="store_true", help="say where the time goes instead, operator by operator")
    parser.add_argument("--tiny", action="store_true", help="toy models: whether it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
