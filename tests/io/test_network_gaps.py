"""What cannot be read for want of the network is nobody's failed row: the run ends, and the same command goes on."""

import gzip
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmsynth as mm
from mmsynth.cli import run
from mmsynth.errors import Unreachable
from mmsynth.io.retry import WAITS_S
from mmsynth.testing import photo_samples
from tests.engine.run_files import rows
from tests.io.flaky import FlakyFileSystem

PICTURE = next(iter(photo_samples(1))).image
SAMPLES = 300


@dataclass
class Files:
    """What a server has, and how it behaves: `ends_after` GETs it answers with `status`, or cuts the line."""

    files: dict[str, bytes]
    ends_after: int = 10**9
    status: int = 503
    gives_ranges: bool = True
    gets: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        with self.lock:
            self.gets += with_body
            is_down = self.gets > self.ends_after
        data = self.files.get(request.path.strip("/"))
        if data is None or (is_down and self.status):
            request.send_response(404 if data is None else self.status)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        begin, end = 0, len(data)
        asked = request.headers.get("Range")
        if asked and self.gives_ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or end) + 1, end)
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(end - begin))
        request.end_headers()
        if with_body:
            body = data[begin:end]
            request.wfile.write(body[: len(body) // 2] if is_down else body)


class Handler(BaseHTTPRequestHandler):
    files: Files

    def do_HEAD(self) -> None:
        self.files.answer(self, with_body=False)

    def do_GET(self) -> None:
        self.files.answer(self, with_body=True)

    def log_message(self, *_: object) -> None:
        """Nothing."""


Serve = Callable[..., Files]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmsynth.io.retry.WAITS_S", (0.0,) * len(WAITS_S))


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ThreadingHTTPServer] = []

    def begin(**files: bytes) -> Files:
        made = Files({name.replace("_", "."): data for name, data in files.items()})
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Named", (Handler,), {"files": made}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        return made

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def a_tar() -> bytes:
    assert PICTURE is not None
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i in range(SAMPLES):
            # several of the parts that are read at once
            for name, data in ((f"{i:04d}.png", PICTURE.data), (f"{i:04d}.bin", Random(i).randbytes(50_000))):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("status", [503, 403, 404, 0])
@pytest.mark.parametrize("name", ["a_tar", "a_tar_gz"])
def test_a_tar_that_breaks_off_is_not_committed_and_the_same_command_reads_it(
    serve: Serve, tmp_path: Path, status: int, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(**{name: gzip.compress(a_tar(), 1) if name.endswith("gz") else a_tar()})
    server.ends_after, server.status = 2, status
    command = ["filter", f"{server.url}/{name.replace('_', '.')}", str(tmp_path / "out"), "--filter", "image_size"]
    assert run(command) == 5
    assert "the same command tries again" in capsys.readouterr().err or status == 404
    assert not list((tmp_path / "out").glob("*_stats.json"))
    server.ends_after = 10**9
    assert run(command) == 0
    assert [row["status"] for row in rows(tmp_path / "out")] == ["success"] * SAMPLES


def test_a_server_that_gives_no_parts_of_files_is_read_through(serve: Serve, tmp_path: Path) -> None:
    server = serve(a_tar=a_tar())
    server.gives_ranges = False
    assert mm.read(f"{server.url}/a.tar").write(tmp_path / "out").kept == SAMPLES


def test_a_tar_that_is_cut_short_is_a_row_as_ever(serve: Serve, tmp_path: Path) -> None:
    whole = a_tar()
    server = serve(a_tar=whole[: len(whole) // 2])
    report = mm.read(f"{server.url}/a.tar").write(tmp_path / "out")
    assert report.failed == {"broken_tar": 1}
    assert SAMPLES // 3 < report.kept < SAMPLES


@pytest.mark.parametrize("gives_ranges", [True, False])
def test_a_table_that_breaks_off_is_not_committed(serve: Serve, tmp_path: Path, gives_ranges: bool) -> None:
    assert PICTURE is not None
    images = [PICTURE.data + bytes([i % 256]) * 60_000 for i in range(SAMPLES)]
    table = io.BytesIO()
    pq.write_table(pa.table({"image": images, "caption": ["a picture"] * SAMPLES}), table, row_group_size=50)
    server = serve(a_parquet=table.getvalue())
    server.gives_ranges = gives_ranges
    pipeline = mm.source("table", path=f"{server.url}/a.parquet")
    asked = server.gets
    server.ends_after = asked + 6
    with pytest.raises(Unreachable):
        pipeline.write(tmp_path / "out", samples_per_shard=100)
    server.ends_after = 10**9
    assert pipeline.write(tmp_path / "out", samples_per_shard=100).kept == SAMPLES


@pytest.mark.parametrize("error", [ConnectionResetError("the line is down"), PermissionError("it ran out")])
def test_photographs_that_cannot_be_read_now_are_not_committed(tmp_path: Path, error: Exception) -> None:
    assert PICTURE is not None
    FlakyFileSystem.reset()
    for i in range(6):
        FlakyFileSystem().pipe(f"/bucket/pictures/{i}.png", PICTURE.data)
    FlakyFileSystem().pipe("/bucket/pictures/0.txt", b"words")
    pipeline = mm.source("folder", path="flaky://bucket/pictures")
    for operation in ("read", "open", "cat_file"):
        FlakyFileSystem.reset(error, **{operation: 10**6})
        with pytest.raises(Unreachable, match=str(error)):
            pipeline.write(tmp_path / operation, samples_per_shard=3)
        FlakyFileSystem.reset()
        assert pipeline.write(tmp_path / operation, samples_per_shard=3).kept == 6
    FlakyFileSystem.store.clear()
    FlakyFileSystem.pseudo_dirs[:] = [""]
