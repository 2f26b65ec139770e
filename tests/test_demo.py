"""The demo: drawn, swapped, filtered, written, read back, in the command line's own words."""

import re
from pathlib import Path

import PIL.Image
import pytest

from mmsynth.cli import run
from mmsynth.cli.demo import truth, verdict
from tests.engine.run_files import records, rows


def test_the_demo_finds_most_swapped_captions_and_loses_few_good_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert run(["demo", str(out), "--n", "100"]) == 0
    told, live = capsys.readouterr()
    # one bar, ours: none of the libraries' for loading weights
    assert "Loading" not in live
    found = verdict(out, 100)
    assert found.swapped + found.good == 100
    assert found.found >= 0.8 * found.swapped
    assert found.lost <= 0.3 * found.good
    assert re.search(rf"of {found.swapped} swapped captions the filter dropped {found.found} ", " ".join(told.split()))
    # what the pixels say agrees: of the pairs that are kept a larger share is true than of all
    judged = truth(out)
    assert judged.pairs == 100
    assert judged.kept_true / judged.kept > judged.true / judged.pairs
    assert f"{judged.kept_true} of the {judged.kept} kept" in " ".join(told.split())
    assert "throughput" in told
    assert "clip quantiles" in told
    kept = records(out)
    assert f"reads back {len(kept)} pairs" in told
    # the planted truth is in the records too, and agrees with the verdict
    assert sum(record["swapped"] for record in kept.values()) == found.swapped - found.found
    assert len(rows(out)) == 100
    with PIL.Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 600


def test_the_demo_again_does_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["demo", str(tmp_path / "demo"), "--n", "40"]
    assert run(command) == 0
    assert run(command) == 0
    assert "done by an earlier run" in capsys.readouterr().out
