"""select: rows are told apart by their place, since keys repeat in runs that older versions made of streamed tars."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mmsynth as mm
from mmsynth.selection import Decision, Rows
from tests.engine.run_files import rows
from tests.selection.runs import scored, write_run


@pytest.mark.parametrize("decision", [{"dedup": True}, {"near_duplicates": {"caption": 1.0}}])
def test_a_duplicate_takes_no_other_sample_of_its_key_along(tmp_path: Path, decision: dict[str, Any]) -> None:
    a, b, c, *_ = scored(4)
    again = replace(a, key=b.key)
    other = replace(c, key=a.key)
    run = write_run(tmp_path / "run", [a, b, other, again], per_shard=2)
    decided = Decision(**decision).decide(Rows([run]))
    assert (decided.kept, sum(decided.dropped.values())) == (3, 1)
    mm.select(run, **decision).write(tmp_path / "out")
    assert {row["caption"] for row in rows(tmp_path / "out")} == {one.caption for one in (a, b, c)}
