"""The design holds what is to come: each of these is a plugin of at most 30 lines outside the package, and runs."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

import mmsynth as mm
from mmsynth.testing import photo_samples, run_stage
from tests.captioners import checkpoints
from tests.design.plugins.crops import Crops
from tests.design.plugins.dialogue import Dialogue
from tests.design.plugins.edit import Negative
from tests.design.plugins.prefer import Prefer
from tests.design.plugins.rewrite import Rewrite
from tests.design.plugins.server import AsksServer
from tests.design.plugins.which_one import WhichOne
from tests.engine.run_files import members, rows

PLUGINS = sorted(path for path in (Path(__file__).parent / "plugins").glob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_a_plugin_has_at_most_30_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 30


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for sample in photo_samples(6):
        assert sample.image is not None
        (folder / f"{sample.key}.png").write_bytes(sample.image.data)
        (folder / f"{sample.key}.txt").write_text(sample.caption or "")
    return folder


def in_a_recipe(pipeline: mm.Pipeline) -> mm.Pipeline:
    """The same, once through YAML."""
    return mm.Pipeline(mm.Recipe.from_dict(pipeline.recipe.to_dict()))


def test_one_picture_becomes_four_crops(photos: Path, tmp_path: Path) -> None:
    report = in_a_recipe(mm.read(photos).then(Crops())).write(tmp_path / "out", image_format="png")
    assert (report.inputs, report.candidates, report.kept) == (6, 24, 24)
    found = members(tmp_path / "out")
    assert [key for key in found if key.startswith("photo-003")] == [f"photo-003_{i}" for i in range(4)]
    assert mm.Image(found["photo-003_0"]["png"]).width == 24
    assert json.loads(found["photo-003_0"]["json"])["synthetic"]["image"] is True


def test_two_samples_become_a_question_which_one_shows(photos: Path, tmp_path: Path) -> None:
    in_a_recipe(mm.read(photos).pair(1).then(WhichOne())).write(tmp_path / "out")
    found = members(tmp_path / "out")
    assert len(found) == 6
    for key, one in found.items():
        record = json.loads(one["json"])
        asked, answered = record["messages"]
        names = [part["image"] for part in asked["content"] if part["type"] == "image"]
        right = names[0 if "first" in answered["content"][0]["text"] else 1]
        assert right == "", "the picture that the caption is of"
        own = (photos / f"{key.removesuffix('_0')}.png").read_bytes()
        assert one["png"] == own
        assert one["other.png"] != own
        assert record["synthetic"] == {"image": False, "caption": False, "images": []}


def test_an_edit_keeps_the_original(photos: Path, tmp_path: Path) -> None:
    in_a_recipe(mm.read(photos).then(Negative())).write(tmp_path / "out")
    one = members(tmp_path / "out")["photo-000"]
    assert one["before.png"] == (photos / "photo-000.png").read_bytes()
    assert json.loads(one["json"])["synthetic"] == {"image": True, "caption": False, "images": []}
    pixels, before = (
        mm.Image(one["jpg"]).pixels().getpixel((5, 5)),
        mm.Image(one["before.png"]).pixels().getpixel((5, 5)),
    )
    assert all(abs(a + b - 255) < 8 for a, b in zip(pixels, before, strict=True))
    # a run on this run has both pictures again
    again = next(iter(mm.read(f"{tmp_path / 'out'}/*.tar")))
    assert isinstance(again, mm.Sample)
    assert again.picture("before") == mm.Image(one["before.png"])


class Luck(mm.Filter):
    """Score by the sample's seed."""

    def process(self, batch: Any) -> list[mm.Result]:
        return [s.with_caption(f"said by {s.key}").with_scores(luck=self.rng_of(s).random()) for s in batch]

    def score_names(self) -> tuple[str, ...]:
        return ("luck",)


def test_of_four_candidates_one_is_chosen_over_another(photos: Path, tmp_path: Path) -> None:
    in_a_recipe(mm.read(photos).repeat(4).then(Luck()).then(Prefer(score="luck"))).write(tmp_path / "out")
    luck = {row["key"]: row["score_luck"] for row in rows(tmp_path / "out")}
    found = members(tmp_path / "out")
    assert len(found) == 6
    for key, one in found.items():
        preference = json.loads(one["json"])["preference"]
        of = [name for name in luck if name.startswith(key[:-2])]
        said = {side: preference[side][0]["content"][0]["text"].split()[-1] for side in ("chosen", "rejected")}
        assert said == {"chosen": max(of, key=luck.__getitem__), "rejected": min(of, key=luck.__getitem__)}
        assert preference["scores"] == {side: luck[name] for side, name in said.items()}


def test_a_text_rewriter_asks_a_chat_model(photos: Path, tmp_path: Path) -> None:
    rewrite = Rewrite(model="echo", engine="mmsynth.testing:EchoChatEngine")
    in_a_recipe(mm.read(photos).caption(rewrite)).write(tmp_path / "out")
    record = json.loads(members(tmp_path / "out")["photo-001"]["json"])
    original, rewritten = record["captions"]
    assert original == {"text": "a gradient with blue at 37", "origin": "original"}
    assert rewritten["text"].endswith("Say this in plain words: a gradient with blue at 37")
    assert (rewritten["origin"], rewritten["model"]) == ("synthetic", "echo")
    assert record["steps"][-1]["models"] == [{"id": "echo", "revision": "echo", "dtype": "none"}]


@pytest.mark.parametrize("build", [checkpoints.idefics3, checkpoints.qwen2_vl], ids=lambda build: build.__name__)
def test_a_conversation_of_three_turns_in_lockstep_is_that_of_each_sample_alone(build: Any, tmp_path: Path) -> None:
    model = str(build(tmp_path / "model"))
    samples = photo_samples(7)
    talks = []
    for batch_size in (1, 3, 8):
        stage = Dialogue(model=model, dtype="float32", max_new_tokens=6, batch_size=batch_size).bound("talk", 7)
        stage.setup("cpu")
        talks.append([[message for message in r.record["messages"]] for [r] in run_stage(stage, samples)])
    assert talks[0] == talks[1] == talks[2]
    roles = [message["role"] for message in talks[0][0]]
    assert roles == ["user", "assistant"] * 3
    assert len({str(talk) for talk in talks[0]}) > 1, "the pictures differ, and what is said of them"


class _SlowServer(BaseHTTPRequestHandler):
    """Takes 50 ms for an answer, and refuses one."""

    asked: ClassVar[Counter[str]] = Counter()
    lock = threading.Lock()
    now = most = 0

    def do_GET(self) -> None:
        cls = _SlowServer
        with cls.lock:
            cls.asked[self.path] += 1
            cls.now += 1
            cls.most = max(cls.most, cls.now)
        time.sleep(0.05)
        with cls.lock:
            cls.now -= 1
        is_refused = self.path == "/000000100"
        self.send_response(422 if is_refused else 200)
        self.end_headers()
        self.wfile.write(b"not this one" if is_refused else json.dumps({"text": f"seen {self.path[1:]}"}).encode())

    def log_message(self, *_: object) -> None:
        """Not on stderr."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


@pytest.fixture
def port() -> Iterator[int]:
    _SlowServer.asked.clear()
    server = _Server(("127.0.0.1", 0), _SlowServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_64_requests_are_in_flight_and_the_one_that_fails_is_not_asked_twice(port: int, tmp_path: Path) -> None:
    pipeline = mm.source("prompts", texts=[f"number {i}" for i in range(400)]).then(AsksServer(port=port))
    started = time.perf_counter()
    report = in_a_recipe(pipeline).write(tmp_path / "out", samples_per_shard=50)
    took = time.perf_counter() - started
    assert (report.kept, report.failed) == (399, {"refused": 1})
    assert set(_SlowServer.asked.values()) == {1}
    assert 32 <= _SlowServer.most <= 64
    assert took < 400 * 0.05 / 2, "one after another it would take 20 s"
    failed = [row for row in rows(tmp_path / "out") if row["status"] == "failed"]
    assert [(row["key"], row["detail"]) for row in failed] == [("000000100", "not this one")]
    assert [row["caption"] for row in rows(tmp_path / "out")[:2]] == ["seen 000000000", "seen 000000001"]
