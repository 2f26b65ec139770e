"""Runs on a URL promise what runs in a folder do: here on a real S3 server, and on one that fails."""

import contextlib
import functools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas
import pytest
from moto.server import ThreadedMotoServer

import mmsynth as mm
from mmsynth.cli import run
from mmsynth.errors import OutputError
from mmsynth.io.retry import WAITS_S
from mmsynth.io.storage import storage_at
from mmsynth.pipeline import Pipeline
from mmsynth.shards.folder import RunFolder
from mmsynth.shards.holder import myself
from mmsynth.shards.lock import locked
from mmsynth.shards.verify import damages
from mmsynth.testing import photo_samples
from tests.engine.gradients import Gradients
from tests.engine.run_files import members, shard_digests
from tests.engine.stages import Slow

BUCKET = "s3://shards"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    yield f"http://127.0.0.1:{started.get_host_and_port()[1]}"
    started.stop()


@pytest.fixture
def system(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """fsspec's view of an empty bucket, found as a user's is: by the environment."""
    for name, value in {"ENDPOINT_URL": server, "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "hidden-secret"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    found = fsspec.filesystem("s3")
    if found.exists(BUCKET):
        found.rm(BUCKET, recursive=True)
    found.mkdir(BUCKET)
    return found


def made(n: int = 23) -> Pipeline:
    return mm.source(Gradients(n=n, broken=(2,))).caption(Slow(seconds=0.0))


def fetched(system: Any, url: str, to: Path) -> dict[str, str]:
    """Digests of what lies at the URL."""
    system.invalidate_cache()
    system.get(url.rstrip("/") + "/", str(to) + "/", recursive=True)
    return shard_digests(to)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_on_s3_has_the_bytes_of_a_run_in_a_folder(system: Any, tmp_path: Path, workers: int) -> None:
    report = made().write(f"{BUCKET}/run/", samples_per_shard=5, workers=workers)
    made().write(tmp_path / "local", samples_per_shard=5)
    assert (report.inputs, report.kept, report.failed) == (23, 22, {"broken": 1})
    assert fetched(system, f"{BUCKET}/run", tmp_path / "s3") == shard_digests(tmp_path / "local")


def test_a_run_on_s3_goes_on_where_it_stopped(system: Any, tmp_path: Path) -> None:
    made().write(f"{BUCKET}/run", samples_per_shard=5, limit=10)
    report = made().write(f"{BUCKET}/run", samples_per_shard=5)
    assert report.already == 10
    made().write(tmp_path / "local", samples_per_shard=5)
    assert fetched(system, f"{BUCKET}/run", tmp_path / "s3") == shard_digests(tmp_path / "local")
    with pytest.raises(OutputError, match="holds the run of another recipe"):
        made(24).write(f"{BUCKET}/run", samples_per_shard=5)


def test_shards_on_s3_are_read_from_there(system: Any, tmp_path: Path) -> None:
    made().write(f"{BUCKET}/run", samples_per_shard=5)
    report = mm.read(f"{BUCKET}/run/{{00000..00004}}.tar").write(f"{BUCKET}/again")
    assert report.kept == 22
    assert mm.read(f"{BUCKET}/run/").write(tmp_path / "all").kept == 22


@pytest.mark.parametrize("place", ["folder/", "table.csv", "table.jsonl", "table.parquet", "table*.csv", "prompts.txt"])
def test_folders_tables_and_prompts_are_read_from_s3_as_from_here(system: Any, tmp_path: Path, place: str) -> None:
    here = tmp_path / "here"
    write_inputs(here)
    system.put(str(here) + "/", f"{BUCKET}/in/", recursive=True)
    assert mm.read(f"{BUCKET}/in/{place}").write(tmp_path / "s3").kept == 3
    mm.read(here / place).write(tmp_path / "local")
    assert members(tmp_path / "s3").keys() == members(tmp_path / "local").keys()
    for key, one in members(tmp_path / "local").items():
        there = members(tmp_path / "s3")[key]
        assert {name: data for name, data in there.items() if name != "json"} == {
            name: data for name, data in one.items() if name != "json"
        }


def write_inputs(here: Path) -> None:
    """Three pairs as a folder, and as tables that name the folder's files; three prompts."""
    (here / "folder" / "sub").mkdir(parents=True)
    table = []
    for sample, name in zip(photo_samples(3), ("a", "b", "sub/c"), strict=True):
        assert sample.image is not None
        (here / "folder" / f"{name}.png").write_bytes(sample.image.data)
        (here / "folder" / f"{name}.txt").write_text(f"a picture called {name}")
        table.append({"image": f"folder/{name}.png", "caption": f"a picture called {name}"})
    frame = pandas.DataFrame(table)
    frame.to_csv(here / "table.csv", index=False)
    frame.to_json(here / "table.jsonl", orient="records", lines=True)
    frame.to_parquet(here / "table.parquet", index=False)
    (here / "prompts.txt").write_text("a cat\na dog\na fish\n")


def test_an_upload_that_is_cut_short_leaves_nothing_and_the_run_goes_on(
    system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = type(system)._put_file
    calls = iter(range(1000))
    tries = 1 + len(WAITS_S)
    monkeypatch.setattr("mmsynth.io.retry.WAITS_S", (0.0,) * len(WAITS_S))

    async def cut_short(self: Any, local: str, remote: str, *rest: Any, **options: Any) -> None:
        if remote.endswith("00002.tar") and next(calls) < tries:
            raise ConnectionResetError("cut")
        await whole(self, local, remote, *rest, **options)

    monkeypatch.setattr(type(system), "_put_file", cut_short)
    type(system).clear_instance_cache()  # instances have their methods from when they were made
    with pytest.raises(OutputError, match=r"cannot write to s3://shards/run: cut"):
        made().write(f"{BUCKET}/run", samples_per_shard=5)
    system.invalidate_cache()
    names = {path.rpartition("/")[2] for path in system.ls(f"{BUCKET}/run", detail=False)}
    assert not names & {"00002.tar", "00002.parquet", "00002_stats.json", "index.json", ".lock"}
    assert made().write(f"{BUCKET}/run", samples_per_shard=5).already == 10
    made().write(tmp_path / "local", samples_per_shard=5)
    assert fetched(system, f"{BUCKET}/run", tmp_path / "s3") == shard_digests(tmp_path / "local")


_WRITES_ON = """
import sys, time
from mmsynth.io.storage import storage_at

with storage_at("memory://bucket/run").writing("00000.tar") as file:
    file.write(bytes(1 << 20))
    file.flush()
    print("written", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_killed_leaves_no_half_file_on_this_machine(tmp_path: Path, number: signal.Signals) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", _WRITES_ON], env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(number)
    assert list(tmp_path.iterdir()) == []


def test_where_the_system_cannot_open_a_file_by_its_number_it_is_uploaded_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmsynth.io.remote_storage._OPEN_FILES", tmp_path / "none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    storage = storage_at("memory://bucket/by-name")
    with storage.writing("a.txt") as file:
        file.write(b"words")
        assert len(list(tmp_path.iterdir())) == 1
    assert storage.read_all(["a.txt"]) == {"a.txt": b"words"}
    assert list(tmp_path.iterdir()) == []


def test_a_large_upload_that_is_cut_between_its_parts_leaves_no_object(
    system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large files are uploaded in parts, which S3 puts together at the end only."""
    original = system._call_s3
    parts = []

    async def fails_at_the_third(method: str, *rest: Any, **options: Any) -> Any:
        if method == "upload_part":
            parts.append(options.get("PartNumber"))
            if len(parts) >= 3:
                raise OSError("the line is down")
        return await original(method, *rest, **options)

    storage = storage_at(f"{BUCKET}/run")
    monkeypatch.setattr(system, "_call_s3", fails_at_the_third)
    monkeypatch.setattr(system, "put_file", functools.partial(system.put_file, chunksize=5 << 20))
    with pytest.raises(OutputError, match="the line is down"), storage.writing("00000.tar") as file:
        file.write(bytes(21 << 20))
    assert len(parts) >= 3
    assert storage.names() == []


def test_the_commands_take_urls_and_verify_mends_what_was_damaged_there(
    system: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made().write(tmp_path / "local", samples_per_shard=5)
    assert run(["filter", str(tmp_path / "local"), f"{BUCKET}/sized", "--filter", "image_size"]) == 0
    assert run(["info", f"{BUCKET}/sized"]) == 0
    assert "22" in capsys.readouterr().out
    good = system.cat(f"{BUCKET}/sized/00001.tar")
    system.pipe(f"{BUCKET}/sized/00001.tar", good[:3000] + bytes([good[3000] ^ 1]) + good[3001:])
    assert run(["verify", f"{BUCKET}/sized"]) == 6
    assert run(["verify", f"{BUCKET}/sized", "--repair"]) == 0
    assert system.cat(f"{BUCKET}/sized/00001.tar") == good
    assert list(damages(RunFolder(f"{BUCKET}/sized"))) == []


def test_no_secret_is_written_down(system: Any) -> None:
    made().write(f"{BUCKET}/run", samples_per_shard=5)
    system.invalidate_cache()
    for path in system.find(BUCKET):
        assert b"hidden-secret" not in system.cat(path)


def test_a_second_run_on_a_url_is_refused_and_told_whose_it_is(system: Any) -> None:
    refused = pytest.raises(OutputError, match=r"process \d+ on .*, since .*is writing to s3://shards/run")
    with locked(storage_at(f"{BUCKET}/run")), refused:
        made().write(f"{BUCKET}/run", samples_per_shard=5)
    assert made().write(f"{BUCKET}/run", samples_per_shard=5).kept == 22


@pytest.mark.parametrize("clock", [0.0, 1e12])
def test_the_lock_of_another_machine_or_container_holds_as_long_as_it_changes(
    system: Any, monkeypatch: pytest.MonkeyPatch, clock: float
) -> None:
    """Whatever its clock says, and whether or not there is a process of that number here."""
    monkeypatch.setattr("mmsynth.shards.lock._STALE_AFTER_S", 1.0)
    monkeypatch.setattr("mmsynth.shards.lock._LOOKED_AT_EVERY_S", 0.05)
    storage = storage_at(f"{BUCKET}/run")
    theirs = {**myself(), "namespace": "pid:[1]", "pid": 2**30, "token": "theirs", "renewed": clock}
    ended = threading.Event()

    def renew() -> None:
        number = 0
        while not ended.wait(0.1):
            number += 1
            storage.system.pipe(f"{BUCKET}/run/.lock", json.dumps({**theirs, "renewed": clock + number}).encode())

    storage.system.pipe(f"{BUCKET}/run/.lock", json.dumps(theirs).encode())
    thread = threading.Thread(target=renew)
    thread.start()
    with pytest.raises(OutputError, match=r"process 1073741824 on .*is writing to"), locked(storage):
        pass
    ended.set()
    thread.join()
    with locked(storage):
        assert json.loads(storage.read_all([".lock"])[".lock"])["token"] != "theirs", "it was silent"


def test_the_lock_of_a_process_of_this_machine_that_is_gone_is_taken_at_once(system: Any) -> None:
    storage = storage_at(f"{BUCKET}/run")
    for gone in ({"pid": 2**30}, {"began": "1"}):  # the number of the second is now another's
        storage.system.pipe(f"{BUCKET}/run/.lock", json.dumps({**myself(), **gone, "token": "theirs"}).encode())
        with locked(storage):
            pass


def test_ranks_share_a_url_and_keep_other_runs_out(system: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = storage_at(f"{BUCKET}/run")
    with locked(storage, rank=0), locked(storage, rank=1):
        with pytest.raises(OutputError, match="another mmsynth run"), locked(storage):
            pass
        with pytest.raises(OutputError, match="another mmsynth run"), locked(storage, rank=1):
            pass
    with locked(storage), pytest.raises(OutputError, match="another mmsynth run"), locked(storage, rank=0):
        pass
    monkeypatch.setattr("mmsynth.shards.lock._STALE_AFTER_S", 0.0)
    storage.system.pipe(f"{BUCKET}/run/.lock-rank3", b'{"renewed": 0}')
    with locked(storage):
        assert storage.names() == [".lock"], "what is stale is taken away"
    assert storage.names() == []


def test_of_two_runs_that_begin_on_a_url_at_the_same_time_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmsynth.shards import lock

    write, other_has_looked, one_has_written = lock._renew, threading.Event(), threading.Event()

    def write_in_turn(*arguments: Any) -> None:
        """Both have looked before one writes, and the other writes after it."""
        if threading.current_thread().name == "other":
            other_has_looked.set()
            one_has_written.wait(10)
            write(*arguments)
        else:
            other_has_looked.wait(10)
            write(*arguments)
            one_has_written.set()

    monkeypatch.setattr(lock, "_renew", write_in_turn)
    held = []

    def hold() -> None:
        with contextlib.suppress(OutputError), locked(storage_at("memory://bucket/at-once")):
            held.append(threading.current_thread().name)
            threading.Event().wait(2)

    threads = [threading.Thread(target=hold, name=name) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held == ["other"]


def test_the_lock_on_a_url_is_renewed(system: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmsynth.shards.lock._RENEWED_EVERY_S", 0.05)
    storage = storage_at(f"{BUCKET}/run")
    with locked(storage):
        first = json.loads(storage.read_all([".lock"])[".lock"])["renewed"]
        for _ in range(200):
            threading.Event().wait(0.02)
            if json.loads(storage.read_all([".lock"])[".lock"])["renewed"] > first:
                break
        else:
            pytest.fail("the lock was not renewed")
    assert storage.names() == []


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Any file of this process that becomes larger cannot be written, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_temporary_folder_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("mmsynth.io.retry.WAITS_S", ())
    storage = storage_at("memory://bucket/full")
    storage.system.pipe("memory://bucket/full/large", bytes(2**20))
    full = pytest.raises(OutputError, match=re.escape(f"this machine's temporary folder, {tmp_path}: File too large"))
    with files_of_at_most(2**14):
        with full, storage.writing("a") as file:
            file.write(bytes(2**20))
        with full:
            storage.here(["large"])
        with full:
            made().write("memory://bucket/none", samples_per_shard=20)
