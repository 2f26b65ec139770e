"""What talks to a URL is asked again a few times, whatever it does, and then says in one line what failed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mmsynth as mm
from mmsynth.errors import MMSynthError, OutputError, SourceError
from mmsynth.io.retry import WAITS_S, retried
from mmsynth.io.storage import Storage, storage_at
from mmsynth.sources.tars import opened
from mmsynth.testing import photo_samples
from tests.engine.run_files import members
from tests.io.flaky import FlakyFileSystem

URL = "flaky://bucket/run"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("mmsynth.io.retry.WAITS_S", (0.0,) * len(WAITS_S))
    yield
    FlakyFileSystem.reset()
    FlakyFileSystem.store.clear()
    FlakyFileSystem.pseudo_dirs[:] = [""]


def write(storage: Storage, name: str, data: bytes) -> None:
    with storage.writing(name) as file:
        file.write(data)


def read_from(storage: Storage) -> bytes:
    with storage.open("a.txt") as file:
        file.seek(2)
        return file.read()


OPERATIONS: dict[str, tuple[str, Callable[[Storage], Any], Any, str]] = {
    "names": ("ls", lambda s: s.names(), ["a.txt"], f"cannot list {URL}"),
    "state": ("ls", lambda s: len(str(s.state(".txt"))) > 2, True, f"cannot list {URL}"),
    "read_all": ("cat", lambda s: s.read_all(["a.txt"]), {"a.txt": b"words"}, f"cannot read from {URL}"),
    "open": ("open", read_from, b"rds", f"cannot open {URL}/a.txt"),
    "read": ("read", read_from, b"rds", f"cannot read {URL}/a.txt"),
    "span": ("cat_file", lambda s: s.span("a.txt", 1, 3), b"or", f"cannot read from {URL}"),
    "here": ("get", lambda s: (s.here(["a.txt"]) / "a.txt").read_bytes(), b"words", f"cannot read from {URL}"),
    "make": ("makedirs", lambda s: s.make(), None, f"cannot write to {URL}"),
    "writing": ("put_file", lambda s: write(s, "b.txt", b"more"), None, f"cannot write to {URL}"),
    "remove": ("rm_file", lambda s: s.remove("a.txt"), None, f"cannot remove from {URL}"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_everything_that_a_storage_does_is_tried_again_and_then_said_in_one_line(name: str) -> None:
    operation, ask, expected, said = OPERATIONS[name]
    write(storage_at(URL), "a.txt", b"words")
    FlakyFileSystem.reset(**{operation: len(WAITS_S)})
    assert ask(storage_at(URL)) == expected
    if name == "remove":
        write(storage_at(URL), "a.txt", b"words")
    FlakyFileSystem.reset(**{operation: len(WAITS_S) + 1})
    with pytest.raises((OSError, OutputError)) as raised:
        ask(storage_at(URL))
    assert str(raised.value) == f"{said}: the line is down"
    assert FlakyFileSystem.asked[operation] == len(WAITS_S) + 1


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), PermissionError("not yours")])
def test_what_another_try_does_not_change_fails_at_once(error: Exception) -> None:
    write(storage_at(URL), "a.txt", b"words")
    FlakyFileSystem.reset(error, cat=9)
    with pytest.raises(type(error)):
        storage_at(URL).read_all(["a.txt"])
    assert FlakyFileSystem.asked["cat"] == 1


def test_a_request_that_the_server_refuses_is_not_repeated_but_one_that_came_too_early_is() -> None:
    class Refused(Exception):
        def __init__(self, status: int) -> None:
            super().__init__(f"HTTP {status}")
            self.status = status

    for status, tries in ((403, 1), (400, 1), (429, len(WAITS_S) + 1), (503, len(WAITS_S) + 1)):
        asked = []

        def ask(status: int = status, asked: list[int] = asked) -> None:
            asked.append(1)
            raise Refused(status)

        with pytest.raises(OSError, match=f"cannot do this: HTTP {status}"):
            retried("do this", ask)
        assert len(asked) == tries, status


def test_a_tar_whose_connection_breaks_again_and_again_is_read_whole(tmp_path: Path) -> None:
    mm.source("folder", path=str(photographs(tmp_path))).write(tmp_path / "here")
    data = (tmp_path / "here/00000.tar").read_bytes()
    write(storage_at(URL), "00000.tar", data)
    FlakyFileSystem.reset(open=3, read=3)
    with opened(f"{URL}/00000.tar") as stream:
        parts = []
        while part := stream.read(5000):
            parts.append(part)
            FlakyFileSystem.failures["read"] = 2  # twice before every read
    assert b"".join(parts) == data


@pytest.mark.parametrize("kind", ["folder", "tars", "select"])
def test_sources_on_a_bad_line_give_what_they_give_on_a_good_one(tmp_path: Path, kind: str) -> None:
    pictures = photographs(tmp_path)
    mm.source("folder", path=str(pictures)).write(tmp_path / "run", samples_per_shard=2)
    system = FlakyFileSystem()
    system.put(f"{pictures}/", "/bucket/pictures/", recursive=True)
    system.put(f"{tmp_path}/run/", "/bucket/run/", recursive=True)
    at = {"folder": mm.source("folder", path="flaky://bucket/pictures"), "tars": mm.read(f"{URL}/")}
    pipeline = at[kind] if kind in at else mm.select(URL)
    names = ("ls", "info", "cat", "cat_file", "get", "find", "glob", "open", "read")
    FlakyFileSystem.reset(**dict.fromkeys(names, 1))
    pipeline.write(tmp_path / "out")
    found = {key: one["txt"] for key, one in members(tmp_path / "out").items()}
    assert found == {key: one["txt"] for key, one in members(tmp_path / "run").items()}
    FlakyFileSystem.reset(**dict.fromkeys(names, 99))
    with pytest.raises(MMSynthError, match=r"cannot (list|reach|read from) flaky://bucket/\w+/?: the line is down$"):
        pipeline.write(tmp_path / "none")


def test_a_run_onto_a_bad_line_is_that_onto_a_good_one(tmp_path: Path) -> None:
    pipeline = mm.source("folder", path=str(photographs(tmp_path)))
    pipeline.write(tmp_path / "here", samples_per_shard=2)
    FlakyFileSystem.reset(ls=2, makedirs=2, put_file=2, rm_file=2, cat=1)
    pipeline.write(URL, samples_per_shard=2)
    there = {name: storage_at(URL).read_all([name])[name] for name in storage_at(URL).names()}
    here = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert {name for name in here if name != "run.json"} == {name for name in there if name != "run.json"}
    assert all(there[name] == data for name, data in here.items() if name != "run.json")


def test_a_place_that_cannot_be_reached_is_no_place_where_nothing_is(tmp_path: Path) -> None:
    FlakyFileSystem.reset(info=99)
    with pytest.raises(SourceError, match=r"cannot reach flaky://bucket/a\.tar: the line is down"):
        mm.read("flaky://bucket/a.tar").write(tmp_path / "out")
    with pytest.raises(SourceError, match=r"cannot reach flaky://bucket/a\.csv: the line is down"):
        mm.read("flaky://bucket/a.csv").write(tmp_path / "out")


def photographs(folder: Path) -> Path:
    pictures = folder / "pictures"
    pictures.mkdir()
    for sample in photo_samples(4):
        assert sample.image is not None
        (pictures / f"{sample.key}.png").write_bytes(sample.image.data)
        (pictures / f"{sample.key}.txt").write_text(f"a picture called {sample.key}")
    return pictures
