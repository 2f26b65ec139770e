"""The campaign's short version: a few tries of each sort. `python -m tests.faults` is the long one."""

import random
from collections import Counter
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

import pytest

import mmsynth as mm
from mmsynth.errors import OutputError
from tests.engine.run_files import digests, rows
from tests.faults import bits, disk, hostile_images, hostile_tables, hostile_tars, kill, misbehaving, shim, signals
from tests.faults.stages import Hangs, Inputs, plain
from tests.faults.trial import Figure, Trial, finished, on_ray, start, wait_for
from tests.faults.tries import Tries


def held(figures: list[Figure]) -> None:
    assert [wrong for figure in figures for wrong in figure.wrong] == []
    assert all(figure.tried for figure in figures if not figure.note.startswith("not tried"))


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(tmp_path_factory.mktemp("trial"))


@pytest.mark.parametrize("moment", range(2))
def test_killed_at_a_random_moment_and_resumed_it_is_as_if_it_had_not_been(trial: Trial, moment: int) -> None:
    assert kill.killed(trial, "the main process", random.Random(f"short {moment}")) == ""


def test_killed_among_workers(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "2 workers")
    assert [kill.killed(trial, victim, random.Random(3)) for victim in ("the main process", "a worker")] == ["", ""]


def test_killed_among_the_actors_of_a_cluster(tmp_path: Path) -> None:
    told = Counter[str]()
    with on_ray() as executors:
        if "Ray" in executors:
            trial = Trial(tmp_path, "Ray", executors=executors)
            assert kill.killed(trial, "a worker", random.Random(3), told) == ""
            assert told["killed before it was done"] == 1, "an actor at work was found"


@pytest.mark.parametrize(("place", "number"), [("prepare", SIGINT), ("write", SIGTERM), ("finish", SIGINT)])
def test_a_signal_ends_it_soon_and_the_same_command_goes_on(trial: Trial, place: str, number: Signals) -> None:
    assert signals.stopped(trial, place, number) == ""


def test_over_a_file_system_that_fails_at_random_calls(trial: Trial) -> None:
    library = shim.compiled(trial.out.parent)
    if library is not None:  # else there is no C compiler: the campaign says so
        assert disk.failed(trial, library, random.Random(1), Counter()) == ""


def test_a_clock_that_jumps_changes_nothing(trial: Trial) -> None:
    library = shim.compiled(trial.out.parent)
    if library is not None:
        assert disk.jumped(trial, library, random.Random(5), Counter()) == ""


def test_a_full_disk_says_so_and_with_more_room_it_goes_on(tmp_path: Path) -> None:
    with disk.small_disk(tmp_path / "out") as resize:
        if resize is not None:  # else nothing can be mounted here: the campaign says so
            small = Trial(tmp_path)
            assert disk.filled(small, resize, "64k") == ""
            assert disk.read_only(small, resize) == ""


def test_a_second_run_is_refused_and_told_which_process_is_there(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    waiting = {"FAULT_WAIT_AT": "process", "FAULT_MARK": str(mark), "FAULT_WAIT_S": "600"}
    first = start(tmp_path / "out", "plain", {}, waiting)
    assert wait_for(mark.exists)
    with pytest.raises(OutputError, match=rf"process {first.pid} on \S+, since "):
        plain().write(tmp_path / "out")
    first.kill()
    finished(first)


@pytest.mark.parametrize("kind", bits.KINDS)
def test_a_flipped_bit_is_found_and_repaired(trial: Trial, kind: str) -> None:
    if trial.difference():  # another test has left it half done
        trial.clear()
        assert trial.resumed() == ""
    assert bits.flipped(trial, kind, random.Random(kind)) == ""


@pytest.mark.parametrize("pipeline", misbehaving.EXPECTED)
def test_a_stage_that_misbehaves_costs_its_own_samples_alone(tmp_path: Path, pipeline: str) -> None:
    assert misbehaving.misbehaved(tmp_path / "out", pipeline, {}) == ""


def test_a_block_that_kills_its_process_takes_no_other_with_it(tmp_path: Path) -> None:
    assert misbehaving.killed_by_one_block(tmp_path / "out") == ""


def test_a_campaign_that_was_stopped_goes_on(tmp_path: Path) -> None:
    made: list[float] = []

    def one(rng: random.Random, told: Counter[str]) -> str:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(rng.random())
        told["were drawn"] += 1
        return "wrong" if len(made) == 2 else ""

    tries = Tries(7, tmp_path / "journal.jsonl")
    with pytest.raises(KeyboardInterrupt):
        tries.figure("sort", "what", 3, one)
    made.append(0.0)  # the third is what is left to do
    figure = tries.figure("sort", "what", 3, one)
    assert (figure.tried, figure.held, figure.note, len(made)) == (3, 2, "3 were drawn", 4)
    other: list[float] = []
    Tries(7).figure("sort", "what", 2, lambda rng, told: other.append(rng.random()) or "")
    assert other == made[:2], "a try is the same with a journal and without"


def test_a_timeout_that_nothing_reaches_changes_nothing(tmp_path: Path) -> None:
    plain().write(tmp_path / "out")
    before = digests(tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    plain().write(tmp_path / "out", batch_timeout_s=60)
    assert digests(tmp_path / "out") == before


def test_what_hangs_fails_as_timeout_and_its_batch_goes_on(tmp_path: Path) -> None:
    report = (
        mm.source(Inputs(broken=(), truncated=()))
        .caption(Hangs(batch_size=8))
        .write(tmp_path / "out", batch_timeout_s=0.2)
    )
    assert report.failed == {"timeout": 2}
    late = [row for row in rows(tmp_path / "out") if row["status"] == "failed"]
    assert [row["key"] for row in late] == ["photo-003", "photo-020"]
    assert late[0]["detail"] == "took longer than 0.2 s"


def test_hostile_images_each_end_in_a_row(tmp_path: Path) -> None:
    held(hostile_images.figures(tmp_path, 60, 1, largest_px=900))


def test_hostile_tars_end_in_rows_and_nothing_leaves_the_output(tmp_path: Path) -> None:
    held(hostile_tars.figures(tmp_path, 80, 1))


def test_hostile_parquet_files_end_in_rows(tmp_path: Path) -> None:
    held(hostile_tables.figures(tmp_path, 80, 1))
