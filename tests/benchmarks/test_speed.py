"""The command that measures speed runs, on toy sizes, and says what it has measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import keep
from tests.benchmarks.measure import Options, Row, Side, Spent, Target, measure


def test_every_row_runs_and_is_written_down(tmp_path: Path) -> None:
    result = tmp_path / "speed.json"
    sizes = ["--tiny", "-n", "3", "--rounds", "1", "--busy", "9", "--scratch", str(tmp_path), "--json", str(result)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *sizes], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())
    names = {"clip", "clip_12mp", "decode", "decode_12mp", "caption", "draw", "shards", "resume", "in_flight"}
    assert found["rows"].keys() == names
    for row in found["rows"].values():
        assert row["title"] in done.stdout
        assert all(target["found"] > 0 for target in row["targets"])
        assert row["machine"]["cores"] > 0
    assert str(tmp_path) not in result.read_text()


def test_where_the_time_goes_is_told_of_each_side(tmp_path: Path) -> None:
    asked = ["--bounds", "--only", "caption", "--tiny", "-n", "2", "--scratch", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *asked, "--json", str(tmp_path / "speed.json")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "bounds.json").read_text())["rows"]["caption"]
    assert row["matrix_products_gflops"]["float32"] > 0
    assert row["sides"].keys() == {"ours", "bare_generate", "one_at_a_time_float32"}
    for shares in row["sides"].values():
        assert sum(shares.values()) == pytest.approx(1, abs=0.01)


def test_rows_of_other_runs_stay(tmp_path: Path) -> None:
    result = tmp_path / "speed.json"
    for name, machine in (("resume", "one"), ("clip", "one"), ("resume", "another")):
        keep(result, name, {"machine": machine})
    found = json.loads(result.read_text())["rows"]
    assert found == {"clip": {"machine": "one"}, "resume": {"machine": "another"}}
    assert list(found) == ["clip", "resume"], "in the table's order"


def test_only_rounds_in_which_both_sides_were_undisturbed_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what the machine worked: nothing, but for five seconds during the first repetition of `slow`
    worked = iter([0, 0, 0, 5, 5, 5, 5, 5, 5, 5, 5, 5])
    monkeypatch.setattr("tests.benchmarks.measure.busy_seconds", lambda: float(next(worked)))
    speeds = {"fast": iter([0.1, 0.1, 0.1]), "slow": iter([9.0, 0.2, 0.4])}
    sides = [Side(name, lambda name=name: Spent(1, next(speeds[name]), 0.0)) for name in speeds]
    row = Row("two ways", sides, [Target("fast / slow", "fast", "slow", at_least=3.5)])
    found = measure(row, Options(tmp_path, rounds=3))
    assert [each["quiet"] for each in found["sides"]["slow"]["repetitions"]] == [False, True, True]
    assert found["targets"][0] == {"what": "fast / slow", "found": 3.0, "rounds": 2, "at_least": 3.5, "reached": False}
