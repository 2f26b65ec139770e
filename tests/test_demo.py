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
    assert run(["demo", str(out), "--n", "150"]) == 0
    told = capsys.readouterr().out
    found = verdict(out, 150)
    assert found.swapped + found.good == 150
    assert found.found >= 0.9 * found.swapped
    assert found.lost <= 0.1 * found.good
    assert re.search(rf"of {found.swapped} swapped captions the filter dropped {found.found} ", " ".join(told.split()))
    # what the pixels say agrees: facts speak the truth, and another scene's caption seldom does
    judged = truth(out)
    assert judged.pairs == 150
    assert found.good - 2 <= judged.true <= found.good + 2
    assert judged.kept_true >= 0.98 * judged.kept
    assert f"{judged.kept_true} of the {judged.kept} kept" in " ".join(told.split())
    assert "throughput" in told
    assert "clip quantiles" in told
    kept = records(out)
    assert f"reads back {len(kept)} pairs" in told
    # the planted truth is in the records too, and agrees with the verdict
    assert sum(record["swapped"] for record in kept.values()) == found.swapped - found.found
    assert len(rows(out)) == 150
    with PIL.Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 600


def test_the_demo_again_does_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["demo", str(tmp_path / "demo"), "--n", "40"]
    assert run(command) == 0
    assert run(command) == 0
    assert "done by an earlier run" in capsys.readouterr().out
