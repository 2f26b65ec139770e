"""What a run promises: every input a row, order kept, the same output however it is run and interrupted."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

import mmsynth as mm
from mmsynth.engine.progress import Progress
from mmsynth.errors import OutputError, RecipeError, SourceError, TooManyFailures, WorkerError
from mmsynth.io.files import json_bytes, sealed
from mmsynth.io.storage import storage_at
from mmsynth.pipeline import Pipeline
from mmsynth.shards.folder import RunFolder
from mmsynth.shards.lock import locked
from mmsynth.shards.verify import damages
from mmsynth.testing import ColourRenderer, EchoCaptioner, KeyFilter, photo_samples
from tests.engine.gradients import Gradients
from tests.engine.run_files import digests, members, records, rows, shard_digests
from tests.engine.stages import Dies, DiesLoading, DiesLoadingAgain, NeedsSmallBatches, RaisesThis, Slow


def pipeline(n: int = 23, **source: object) -> Pipeline:
    return mm.source(Gradients(n=n, **source)).caption(EchoCaptioner(prompt="see")).filter(KeyFilter(text="7"))


def test_every_input_has_a_row_in_order_with_its_reason(tmp_path: Path) -> None:
    report = pipeline(broken=(2,), truncated=(4,)).write(tmp_path / "out", samples_per_shard=5)
    found = rows(tmp_path / "out")
    assert [row["key"] for row in found] == [f"photo-{i:03d}" for i in range(23)]
    reasons = {row["key"]: (row["status"], row["reason"]) for row in found if row["status"] != "success"}
    assert reasons == {
        "photo-002": ("failed", "broken"),
        "photo-004": ("failed", "image_truncated"),
        "photo-007": ("dropped", "key_contains_text"),
        "photo-017": ("dropped", "key_contains_text"),
    }
    assert report.inputs == report.kept + sum(report.dropped.values()) + sum(report.failed.values()) == 23
    assert set(members(tmp_path / "out")) == {row["key"] for row in found if row["status"] == "success"}


def test_a_stage_that_raises_fails_that_sample_alone(tmp_path: Path) -> None:
    report = (
        mm.source(Gradients(n=20)).filter(KeyFilter(breaks_on="013", text="none", batch_size=8)).write(tmp_path / "o")
    )
    assert report.kept == 19
    assert report.failed == {"ValueError": 1}
    (failed,) = [row for row in rows(tmp_path / "o") if row["status"] == "failed"]
    assert failed["key"] == "photo-013"
    assert "told to break" in failed["detail"]


def test_image_bytes_are_written_as_they_came(tmp_path: Path) -> None:
    source = Gradients(n=6)
    came = {s.key: s.image.data for s in source.read({"start": 0, "stop": 6}) if isinstance(s, mm.Sample) and s.image}
    mm.source(source).caption(EchoCaptioner()).write(tmp_path / "out")
    assert {key: one["png"] for key, one in members(tmp_path / "out").items()} == came


@pytest.mark.parametrize(("image_format", "magic"), [("jpg", b"\xff\xd8"), ("png", b"\x89PNG"), ("webp", b"RIFF")])
def test_drawn_images_are_encoded_as_asked(tmp_path: Path, image_format: str, magic: bytes) -> None:
    mm.source(Gradients(n=3)).render(ColourRenderer()).write(tmp_path / "out", image_format=image_format)
    for key, one in members(tmp_path / "out").items():
        assert one[image_format].startswith(magic)
        assert records(tmp_path / "out")[key]["synthetic"] == {"image": True, "caption": False}


def test_the_original_caption_stays_beside_the_synthetic_one(tmp_path: Path) -> None:
    pipeline(n=3).write(tmp_path / "out")
    record = records(tmp_path / "out")["photo-001"]
    assert [(entry["text"], entry["origin"]) for entry in record["captions"]] == [
        ("a gradient with blue at 37", "original"),
        ("see photo-001", "synthetic"),
    ]
    assert record["synthetic"] == {"image": False, "caption": True}
    assert [step["stage"].partition(":")[0] for step in record["steps"]] == ["caption", "filter"]
    assert record["steps"][0]["parameters"] == {"prompt": "see"}


def test_output_is_the_same_for_any_batch_size_and_worker_count(tmp_path: Path) -> None:
    def run(name: str, batch_size: int, workers: int) -> dict[str, str]:
        made = mm.source(Gradients()).caption(EchoCaptioner(batch_size=batch_size)).render(ColourRenderer(batch_size=3))
        made.write(tmp_path / name, samples_per_shard=4, workers=workers)
        return digests(tmp_path / name)

    here = run("here", 32, 1)
    assert run("small_batches", 1, 1) | {"index.json": "", "run.json": ""} == here | {"index.json": "", "run.json": ""}
    assert run("workers", 5, 2) | {"index.json": "", "run.json": ""} == here | {"index.json": "", "run.json": ""}


def test_samples_per_shard_is_the_number_of_inputs_of_a_shard(tmp_path: Path) -> None:
    report = pipeline().write(tmp_path / "out", samples_per_shard=10)
    assert report.shards == 3
    assert json.loads((tmp_path / "out" / "sizes.json").read_text()) == {"00000.tar": 9, "00001.tar": 9, "00002.tar": 3}
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert [(shard["url"], shard["nsamples"]) for shard in index["shardlist"]] == [
        ("00000.tar", 9),
        ("00001.tar", 9),
        ("00002.tar", 3),
    ]
    for shard in index["shardlist"]:
        assert (tmp_path / "out" / shard["url"]).stat().st_size == shard["filesize"]


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    pipeline().write(tmp_path / "out", samples_per_shard=5)
    before = digests(tmp_path / "out")
    again = pipeline().write(tmp_path / "out", samples_per_shard=5)
    assert again.already == again.inputs == 23
    assert digests(tmp_path / "out") == before


def test_a_limit_tries_the_first_samples_and_the_whole_run_goes_on_from_there(tmp_path: Path) -> None:
    tried = pipeline().write(tmp_path / "out", samples_per_shard=5, limit=7)
    assert tried.inputs == 7
    pipeline().write(tmp_path / "out", samples_per_shard=5)
    pipeline().write(tmp_path / "whole", samples_per_shard=5)
    ignored = {"run.json": ""}  # it names the folder
    assert digests(tmp_path / "out") | ignored == digests(tmp_path / "whole") | ignored


def test_a_limit_counts_inputs_where_the_source_does_not_know_its_sizes(tmp_path: Path) -> None:
    report = pipeline(knows_sizes=False).write(tmp_path / "out", samples_per_shard=5, limit=3)
    assert report.inputs == 3


def test_another_recipe_in_the_same_folder_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    pipeline().write(tmp_path / "out")
    before = digests(tmp_path / "out")
    other = mm.source(Gradients()).caption(EchoCaptioner(prompt="look")).filter(KeyFilter(text="7"))
    with pytest.raises(OutputError, match=r"stages\[0\]\.prompt.*\"see\" there.*\"look\" here"):
        other.write(tmp_path / "out")
    assert digests(tmp_path / "out") == before


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="not empty"):
        pipeline().write(tmp_path)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"mine"


def test_a_source_that_changed_between_two_runs_is_refused(tmp_path: Path) -> None:
    pipeline().write(tmp_path / "out", samples_per_shard=5)
    for name in ("00004_stats.json", "index.json"):
        (tmp_path / "out" / name).unlink()
    stats = json.loads((tmp_path / "out" / "00001_stats.json").read_text())
    del stats["sum"]
    (tmp_path / "out" / "00001_stats.json").write_text(json.dumps(sealed(stats | {"block": "0123/all"})))
    with pytest.raises(SourceError, match="source has changed since an earlier run wrote shard 00001"):
        pipeline().write(tmp_path / "out", samples_per_shard=5)


def test_too_many_failures_stop_the_run_and_keep_what_is_committed(tmp_path: Path) -> None:
    broken = tuple(range(50, 400))
    with pytest.raises(TooManyFailures, match=r"max_failures 0\.3"):
        pipeline(n=400, broken=broken).write(tmp_path / "out", samples_per_shard=40, max_failures=0.3)
    committed = sorted(p.name for p in (tmp_path / "out").glob("*_stats.json"))
    assert "00000_stats.json" in committed
    assert len(committed) < 10


def test_few_failures_are_judged_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(TooManyFailures, match="5 of 23"):
        pipeline(broken=(1, 2, 3, 4, 5)).write(tmp_path / "out", max_failures=0.1)


def test_out_of_memory_halves_the_batch_and_loses_nothing(tmp_path: Path) -> None:
    report = mm.source(Gradients()).caption(NeedsSmallBatches(batch_size=16, most=3)).write(tmp_path / "out")
    assert report.kept == 23
    assert report.failed == {}


@pytest.mark.parametrize("error", [RuntimeError("broken"), RuntimeError(ValueError("broken")), RuntimeError()])
def test_what_a_stage_raises_is_its_samples_failure_also_where_torch_is_and_accelerate_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    pytest.importorskip("torch")
    for name in ("accelerate", "accelerate.utils.memory"):
        monkeypatch.setitem(sys.modules, name, None)  # the extra `clip` does not bring it
    report = mm.source(Gradients()).caption(RaisesThis().of(error)).write(tmp_path / "out")
    assert report.failed == {"RuntimeError": 23}


@pytest.mark.parametrize(
    "said", ["CUDA out of memory. Tried to allocate 2 GB", "DefaultCPUAllocator: can't allocate memory"]
)
def test_out_of_memory_as_torch_says_it_halves_the_batch(tmp_path: Path, said: str) -> None:
    pytest.importorskip("torch")
    stage = NeedsSmallBatches(batch_size=16, most=3, said=said)
    assert mm.source(Gradients()).caption(stage).write(tmp_path / "out").kept == 23


def test_progress_counts_every_row(tmp_path: Path) -> None:
    seen: list[Progress] = []
    pipeline(broken=(1,)).write(tmp_path / "out", on_progress=seen.append)
    assert seen[-1] == Progress(total=23, inputs=23, failed_inputs=1, kept=20, dropped=2, failed=1)


def test_take_gives_results_without_writing() -> None:
    results = pipeline().take(9)
    assert [r.caption for r in results if isinstance(r, mm.Sample)][:2] == ["see photo-000", "see photo-001"]
    assert isinstance(results[7], mm.Dropped)
    assert len(results) == 9


def test_write_names_the_options_it_has() -> None:
    with pytest.raises(RecipeError, match=r"no option 'worker'.*workers"):
        pipeline().write("unused", worker=2)


def dying(lives: Path, times: int) -> Pipeline:
    """A run in whose third block a worker dies so many times."""
    lives.mkdir(exist_ok=True)
    for i in range(times):
        (lives / str(i)).touch()
    return mm.source(Gradients()).caption(Dies(on="photo-012", lives=str(lives)))


@pytest.mark.parametrize("workers", [2, 3])
def test_the_block_of_a_worker_that_dies_is_done_by_another(tmp_path: Path, workers: int) -> None:
    seen: list[Progress] = []
    made = dying(tmp_path / "lives", 2)
    made.write(tmp_path / "out", samples_per_shard=3, workers=workers, on_progress=seen.append)
    assert list((tmp_path / "lives").iterdir()) == []
    assert seen[-1].kept == 23
    made.write(tmp_path / "undisturbed", samples_per_shard=3)
    assert shard_digests(tmp_path / "out") == shard_digests(tmp_path / "undisturbed")


def test_a_block_that_three_workers_die_of_is_set_aside_and_the_run_can_go_on(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"1 blocks were skipped.*exit code -9.*shards 00004; the others"):
        dying(tmp_path / "lives", 9).write(tmp_path / "out", samples_per_shard=3, workers=2)
    assert len(list((tmp_path / "lives").iterdir())) == 6
    written = {path.name for path in (tmp_path / "out").glob("*.tar")}
    assert written == {f"{i:05d}.tar" for i in range(8) if i != 4}
    shutil.rmtree(tmp_path / "lives")
    made = dying(tmp_path / "lives", 0)
    made.write(tmp_path / "out", samples_per_shard=3, workers=2)
    made.write(tmp_path / "undisturbed", samples_per_shard=3)
    assert shard_digests(tmp_path / "out") == shard_digests(tmp_path / "undisturbed")


def test_a_worker_that_cannot_start_is_an_error_and_not_tried_for_ever(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="while they loaded their models"):
        mm.source(Gradients()).caption(DiesLoading()).write(tmp_path / "out", workers=2)


def test_a_workers_successor_that_dies_while_it_loads_is_replaced_too_but_not_for_ever(tmp_path: Path) -> None:
    stage = DiesLoadingAgain(on="photo-004", times=2, folder=str(tmp_path))
    report = mm.source(Gradients()).caption(stage).write(tmp_path / "out", samples_per_shard=3, workers=2)
    assert report.kept == 23
    (tmp_path / "other").mkdir()
    stage = DiesLoadingAgain(on="photo-004", times=99, folder=str(tmp_path / "other"))
    with pytest.raises(WorkerError, match=r"3 worker processes died.*while they loaded their models"):
        mm.source(Gradients(n=5000)).caption(stage).write(tmp_path / "third", samples_per_shard=3, workers=2)


def test_a_script_without_a_main_guard_is_told_so_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nimport mmsynth as mm\nfrom tests.engine.gradients import Gradients\n"
        "mm.source(Gradients(n=8)).filter('image_size').write(sys.argv[1], samples_per_shard=2, workers=2)\n"
    )
    done = subprocess.run([sys.executable, script, tmp_path / "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]


def test_what_fails_in_workers_alone_is_told_with_their_last_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nimport mmsynth as mm\nfrom tests.engine.gradients import Gradients\n"
        "if __name__ != '__main__':\n    import no_such_module\n"
        "if __name__ == '__main__':\n"
        "    mm.source(Gradients(n=8)).filter('image_size').write(sys.argv[1], samples_per_shard=2, workers=2)\n"
    )
    done = subprocess.run([sys.executable, script, tmp_path / "out"], capture_output=True, text=True, check=False)
    assert "WorkerError" in done.stderr.splitlines()[-1]
    assert "No module named 'no_such_module'" in done.stderr.splitlines()[-1]


_SCRIPT = """
import sys
import mmsynth as mm
from tests.engine.gradients import Gradients
from tests.engine.stages import Slow

if __name__ == "__main__":
    made = mm.source(Gradients(n=40)).caption(Slow(seconds=0.02, batch_size=2))
    made.write(sys.argv[1], samples_per_shard=4, workers=int(sys.argv[2]))
"""


def _start(out: Path, workers: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", _SCRIPT, str(out), str(workers)], stderr=subprocess.PIPE)


def _living(family: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    """The processes that still run after so many seconds. A zombie does not count."""
    until = time.monotonic() + within_s
    while True:
        family = [one for one in family if _lives(one)]
        if not family or time.monotonic() > until:
            return family
        time.sleep(0.02)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_for_commits(out: Path, n: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(out.glob("*_stats.json"))) < n:
        assert time.monotonic() < deadline, "no shard was committed"
        time.sleep(0.01)


@pytest.mark.parametrize("commits", [1, 4, 7])
def test_kill_9_then_the_same_command_again_gives_the_same_bytes(tmp_path: Path, commits: int) -> None:
    process = _start(tmp_path / "out", workers=1)
    _wait_for_commits(tmp_path / "out", commits)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "index.json").exists()
    made = mm.source(Gradients(n=40)).caption(Slow(seconds=0.02, batch_size=2))
    report = made.write(tmp_path / "out", samples_per_shard=4)
    assert report.already >= 4 * commits
    resumed = digests(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    made.write(tmp_path / "out", samples_per_shard=4)
    assert digests(tmp_path / "out") == resumed


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_what_is_committed_and_leaves_no_half_files_and_no_process(
    tmp_path: Path, workers: int, number: signal.Signals
) -> None:
    process = _start(tmp_path / "out", workers)
    _wait_for_commits(tmp_path / "out", 2)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, number)
    process.wait(timeout=30)
    assert process.returncode == (-number if number is signal.SIGINT else 128 + number)
    assert _living(family, 2) == []
    left = {p.name for p in (tmp_path / "out").iterdir()}
    assert len([name for name in left if name.endswith("_stats.json")]) >= 2
    assert not [name for name in left if name.startswith(".")]


_LONG_BATCHES = """
import sys
import mmsynth as mm
from tests.engine.gradients import Gradients
from tests.engine.stages import Slow

if __name__ == "__main__":
    mm.source(Gradients(n=8)).caption(Slow(seconds=10, batch_size=2)).write(sys.argv[1], samples_per_shard=2, workers=2)
"""


def test_workers_in_a_long_batch_end_with_the_process_that_began_them(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _LONG_BATCHES, str(tmp_path / "out")])
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / ".lock-workers").exists():
        assert time.monotonic() < deadline, "no worker has begun"
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2
    process.kill()
    process.wait()
    assert _living(family, 2) == []
    with locked(storage_at(tmp_path / "out")):
        assert not (tmp_path / "out" / ".lock-workers").exists()


def test_what_outlives_its_run_writes_nothing_into_the_next_one(tmp_path: Path) -> None:
    out = tmp_path / "out"

    class TakesTheFolder(EchoCaptioner):
        """While it captions, the folder becomes another run's."""

        def process(self, batch: Sequence[mm.Sample]) -> list[mm.Result]:
            if batch[0].key == "photo-005":
                said = json.loads((out / "run.json").read_text())
                (out / "run.json").write_text(json.dumps({**said, "fingerprint": "another"}))
            return super().process(batch)

    with pytest.raises(OutputError, match=r"no longer the folder of this run: its run\.json was changed"):
        mm.source(Gradients(n=20)).caption(TakesTheFolder(batch_size=5)).write(out, samples_per_shard=5)
    assert not [path.name for path in out.iterdir() if path.name[0] == "." or path.name.startswith("00001")]


def test_a_shard_of_another_run_is_found_by_verify_and_made_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = pipeline()
    made.write(out, samples_per_shard=5)
    before = digests(out)
    stats = json.loads((out / "00001_stats.json").read_text())
    del stats["sum"]
    for run, wrong in (("another", ["00001_stats.json is of another recipe's run"]), ("", [])):
        (out / "00001_stats.json").write_bytes(json_bytes(sealed({**stats, "run": run})))
        assert [str(damage) for damage in damages(RunFolder(out))] == wrong
        made.write(out, samples_per_shard=5)
        assert (digests(out) == before) == bool(wrong), "earlier versions did not say whose a shard is"


def test_a_second_run_in_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    process = _start(tmp_path / "out", workers=1)
    _wait_for_commits(tmp_path / "out", 1)
    with pytest.raises(OutputError, match="another mmsynth run"):
        mm.source(Gradients(n=40)).caption(Slow(seconds=0.02, batch_size=2)).write(
            tmp_path / "out", samples_per_shard=4
        )
    process.kill()
    process.wait()


def test_a_member_that_has_the_images_name_is_kept_beside_it(tmp_path: Path) -> None:
    import io
    import tarfile

    (sample,) = photo_samples(1)
    assert sample.image is not None
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for name, data in {"k.jpg": sample.image.data, "k.png": b"another", "k.txt": b"words"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    mm.read(tmp_path / "in.tar").write(tmp_path / "out")
    (written,) = members(tmp_path / "out").values()
    assert written["jpg"] == sample.image.data, "the picture, which the other member's name would take from it"
    assert written["png"] == b"another"


class Mirrors(mm.Filter):
    """A filter that changes the picture, as one does that blurs faces."""

    def process(self, batch: Sequence[mm.Sample]) -> list[mm.Result]:
        import PIL.ImageOps

        return [s.with_image(mm.Image.from_pixels(PIL.ImageOps.mirror(s.required_image().pixels()))) for s in batch]


def test_a_picture_that_a_filter_made_is_encoded_as_the_recipe_says(tmp_path: Path) -> None:
    given = tmp_path / "photos"
    given.mkdir()
    for sample in photo_samples(2):
        (given / f"{sample.key}.png").write_bytes(sample.required_image().data)
    mm.read(given).filter(Mirrors()).write(tmp_path / "out", image_format="webp")
    assert all("webp" in one for one in members(tmp_path / "out").values())
    assert all(row["sha256"] for row in rows(tmp_path / "out"))


def test_a_smaller_limit_later_takes_nothing_away(tmp_path: Path) -> None:
    pipeline().write(tmp_path / "out", samples_per_shard=5)
    before = rows(tmp_path / "out")
    report = pipeline().write(tmp_path / "out", samples_per_shard=5, limit=7)
    assert rows(tmp_path / "out") == before
    assert report.inputs == 23
    pipeline().write(tmp_path / "part", samples_per_shard=5, limit=8)
    pipeline().write(tmp_path / "part", samples_per_shard=5, limit=6)
    assert len(rows(tmp_path / "part")) == 8


def test_max_failures_counts_what_earlier_runs_did(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(TooManyFailures, match="5 of 23"):
            pipeline(broken=(1, 2, 3, 4, 5)).write(tmp_path / "out", max_failures=0.1)


@pytest.mark.parametrize("place", ["mmsynth.io.files.flush_to_disk", "mmsynth.shards.writer.ShardWriter.add"])
def test_a_disk_that_is_full_is_one_clear_error_and_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(place, full)
    with pytest.raises(OutputError, match=r"cannot write to .*out: No space left on device"):
        pipeline().write(tmp_path / "out")
    assert list((tmp_path / "out").glob("*.part")) == []


def test_an_output_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot write to"):
        pipeline().write(tmp_path / "out")
