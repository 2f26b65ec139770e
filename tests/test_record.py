"""The record: what every source and stage writes is what docs/record.schema.json says."""

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest

import mmsynth as mm
from mmsynth import registry
from mmsynth.image import Image
from mmsynth.record import has_shape
from mmsynth.sources.base import Slice, Source
from mmsynth.stage import Stage
from mmsynth.testing import EchoCaptioner, KeyFilter, photo_samples
from tests.moving import animation
from tests.test_contract import NAMES, sources, stages  # noqa: F401 - fixtures

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA = json.loads((DOCS / "record.schema.json").read_text(encoding="utf-8"))
PAGE = (DOCS / "record.md").read_text(encoding="utf-8")
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SYNTHETIC = {"image": False, "caption": False}


class Given(Source):
    """Samples that a test has made."""

    samples: ClassVar[Sequence[mm.Sample]] = ()

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        yield Slice({}, len(self.samples))

    def read(self, payload: Any) -> Iterator[mm.Sample]:
        for sample in self.samples:
            yield sample.with_record(source={"kind": "given"})


def given(samples: Sequence[mm.Sample]) -> mm.Pipeline:
    return mm.source(type("These", (Given,), {"samples": tuple(samples), "__module__": __name__})())


def records(out: Path) -> list[dict[str, Any]]:
    found = []
    for shard in sorted(out.glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = [member for member in tar if member.name.endswith(".json")]
            found += [json.loads(tar.extractfile(member).read()) for member in members]  # type: ignore[union-attr]
    return found


def check(out: Path) -> list[dict[str, Any]]:
    found = records(out)
    assert found, "nothing was written"
    for record in found:
        VALIDATOR.validate(record)
    return found


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_writes_what_the_schema_says(
    name: str,
    stages: dict[str, tuple[Stage, Sequence[mm.Sample]]],  # noqa: F811
    tmp_path: Path,
) -> None:
    stage, samples = stages[name]
    given(samples).then(stage).write(tmp_path / "out", workers=1, device="cpu")
    for record in check(tmp_path / "out"):
        assert record["steps"][-1]["stage"] == name


GROUPINGS = {
    "repeat": lambda pipeline: pipeline.repeat(2),
    "best_of": lambda pipeline: pipeline.repeat(2).filter(KeyFilter()).best_of("length"),
    "pair": lambda pipeline: pipeline.pair(1),
    "frames": lambda pipeline: pipeline.frames(3),
}


@pytest.mark.parametrize("name", registry.entry_points("grouping"))
def test_every_grouping_writes_what_the_schema_says(name: str, tmp_path: Path) -> None:
    moving = [replace(sample, image=Image(animation("GIF", 5))) for sample in photo_samples(2)]
    GROUPINGS[name](given([*moving, *photo_samples(5)[2:]])).caption(EchoCaptioner()).write(tmp_path / "out")
    check(tmp_path / "out")


@pytest.mark.parametrize("kind", list(registry.entry_points("source")))
def test_every_source_writes_what_the_schema_says(
    kind: str,
    sources: dict[str, Source],  # noqa: F811
    tmp_path: Path,
) -> None:
    mm.source(sources[kind]).write(tmp_path / "out")
    records = check(tmp_path / "out")
    if kind in ("concat", "mix"):
        assert {record["source"]["part"] for record in records} == {"0", "1"}
    else:
        assert all(record["source"]["kind"] == kind for record in records)


def test_what_plugins_write_with_the_samples_own_methods(tmp_path: Path) -> None:
    class Talks(mm.Captioner):
        """Writes all that a sample has methods for."""

        def process(self, batch: Sequence[mm.Sample]) -> list[mm.Sample]:
            user = {"role": "user", "content": [{"type": "image", "image": ""}, {"type": "text", "text": "What?"}]}
            said = [{"role": "assistant", "content": [{"type": "text", "text": text}]} for text in ("this", "that")]
            return [
                sample.with_caption("a text", model="m", prompt="p", seed=3, stage=self.step_name)
                .with_qa([{"question": "q", "answer": "a", "kind": "k"}])
                .with_messages([user, said[0]])
                .with_preference([user], said[:1], said[1:], scores={"chosen": 1.0, "rejected": 0.5}, how="by hand")
                for sample in batch
            ]

    given(photo_samples(3)).caption(Talks()).write(tmp_path / "out")
    first = check(tmp_path / "out")[0]
    assert first["messages"][0]["content"][0] == {"type": "image", "image": ""}
    assert first["preference"]["rejected"][0]["content"] == [{"type": "text", "text": "that"}]
    # what was written goes on in a run on the run, and in a selection of it
    mm.read(tmp_path / "out").write(tmp_path / "again")
    mm.select(tmp_path / "out", caption_mix={"synthetic": 0.5, "original": 0.5}).write(tmp_path / "selected")
    for out in (tmp_path / "again", tmp_path / "selected"):
        for record in check(out):
            assert (record["messages"], record["preference"]) == (first["messages"], first["preference"])
            assert "json_conflicts" not in record["source"]


GOOD: dict[str, list[Any]] = {
    "captions": [[], [{"text": "a", "origin": "original"}], [{"text": "a"}]],
    "qa": [[], [{"question": "q", "answer": "a"}]],
    "messages": [[], [{"role": "user", "content": "hello"}], [{"role": "assistant", "content": [{"type": "image"}]}]],
    "preference": [{"prompt": [], "chosen": [], "rejected": []}],
    "facts": [{"background": "white", "objects": []}],
    "negatives": [{}, {"colour": "a text"}],
    "scores": [{}, {"clip": 0.5, "words": 3}],
    "source": [{"kind": "folder"}],
    "steps": [[], [{"stage": "select", "top": 0.5}]],
    "synthetic": [SYNTHETIC, {**SYNTHETIC, "images": ["before"]}],
    "candidate": [{"of": "k", "number": 0}],
    "truth": [{"stated": 3, "true": 2}],
    "frames": [[], [{"name": "frame00", "time_s": 0.0, "index": 0}]],
}
BAD: dict[str, list[Any]] = {
    "captions": ["a text", ["a text"], [{"text": 3}], {}],
    "qa": ["q", ["q"], [{"question": "q"}], [{"question": 1, "answer": "a"}]],
    "messages": [
        *("hello", ["hello"], [{"from": "human", "value": "hello"}], [{"role": "human", "content": "hello"}]),
        *([{"role": "user"}], [{"role": "user", "content": [{"text": "a"}]}]),
        *([{"role": "user", "content": [{"type": "text"}]}], [{"role": "user", "content": ["hello"]}]),
        [{"role": "user", "content": [{"type": "image", "image": 0}]}],
    ],
    "preference": [[], {}, {"prompt": "p", "chosen": "c", "rejected": "r"}, {"chosen": [], "rejected": []}],
    "facts": [[], "a fact", {"objects": []}, {"background": "white", "objects": [1]}],
    "negatives": [[], {"colour": 3}],
    "scores": [[], {"clip": "high"}, {"clip": True}],
    "source": ["flickr", []],
    "steps": [5, {}, ["caption"], [{"name": "x"}]],
    "synthetic": [True, {**SYNTHETIC, "images": 3}, {"image": 1, "caption": False}],
    "candidate": [3, {"of": "k"}, {"of": "k", "number": "0"}],
    "truth": [True, {"stated": 3}],
    "frames": [8, ["frame00"], [{"name": "frame00"}]],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_sources_take_as_ours_is_what_the_schema_says(name: str) -> None:
    for value in GOOD[name]:
        assert has_shape(name, value)
        VALIDATOR.validate({"synthetic": SYNTHETIC, name: value})
    for value in BAD[name]:
        assert not has_shape(name, value)
        assert not VALIDATOR.is_valid({"synthetic": SYNTHETIC, name: value}), f"{name}: {value}"


def test_other_fields_may_hold_anything() -> None:
    assert has_shape("width", "wide")
    VALIDATOR.validate({"synthetic": SYNTHETIC, "width": "wide", "url": None})


def test_foreign_messages_in_another_shape_are_kept_apart(tmp_path: Path) -> None:
    from tests.sources.source_files import picture, write_tar

    theirs = {"messages": [{"from": "human", "value": "hello"}], "preference": "the first", "frames": 8}
    members = [("k.png", picture()), ("k.json", json.dumps({**theirs, "url": "u"}).encode())]
    mm.read(write_tar(tmp_path / "in.tar", members)).write(tmp_path / "out")
    (record,) = check(tmp_path / "out")
    assert (record["source"]["json_conflicts"], record["url"]) == (theirs, "u")


def test_every_field_is_on_the_page_and_every_example_is_valid() -> None:
    table = re.findall(r"^\| `([a-z_]+)` \| .* \| `(.*)` \|$", PAGE, re.MULTILINE)
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    examples = [*blocks, *({name: json.loads(example)} for name, example in table)]
    assert {name for example in examples for name in example} == set(SCHEMA["properties"])
    for example in examples:
        VALIDATOR.validate({"synthetic": SYNTHETIC, **example})
    for name in SCHEMA["properties"]["source"]["properties"]:
        assert re.search(rf"[`.]{name}`", PAGE), name


@pytest.mark.parametrize("scores", [[1, 2], {"clip": "0.3"}, [{"by": "hand"}], "good", None])
def test_scores_of_captions_in_another_shape_are_no_captions_of_ours(scores: object) -> None:
    assert not has_shape("captions", [{"text": "a cat", "scores": scores}])
    assert has_shape("captions", [{"text": "a cat", "scores": {"clip": 0.3}}, {"text": "a dog", "votes": scores}])
