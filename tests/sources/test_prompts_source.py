"""The prompts source: lines of text become samples that wait for their image."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from mmsynth.errors import SourceError
from mmsynth.sources.prompts import Prompts
from tests.sources.source_files import everything, reasons, samples, source_of


def test_each_line_that_is_not_blank_is_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("\ufeffa red cat\r\n\n  \n  two dogs  \n猫".encode())
    source = Prompts(path=str(tmp_path / "p.txt"))
    source.check()
    found = samples(everything(source, 2))
    assert [(s.key, s.caption, s.image) for s in found] == [
        ("000000000", "a red cat", None),
        ("000000001", "two dogs", None),
        ("000000002", "猫", None),
    ]
    assert found[0].record["captions"] == [{"text": "a red cat", "origin": "prompt"}]
    assert source_of(found[1]) == {"kind": "prompts", "path": "p.txt", "index": 1}


def test_jsonl_prompts_bring_keys_facts_and_more(tmp_path: Path) -> None:
    rows = [
        {"prompt": "one", "key": "a", "facts": {"background": "white"}, "style": "photo"},
        {"text": "two", "key": "a"},
        {"caption": "three", "key": ["odd"]},
        {"prompt": " ", "text": "four", "facts": "no facts"},
        {"prompt": ""},
        {"nothing": 1},
    ]
    lines = [json.dumps(row) for row in rows]
    lines.insert(3, "{broken")
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    found = everything(Prompts(path=str(tmp_path / "p.jsonl")), 2)
    assert [sample.caption for sample in samples(found)] == ["one", "two", "three", "four"]
    one, two, _, four = samples(found)
    assert one.record["facts"] == {"background": "white"}
    assert source_of(one)["row"] == {"style": "photo"}
    assert (one.key, source_of(two)["original_key"], source_of(two)["repaired"]) == ("a", "a", ["duplicate_key"])
    assert source_of(four)["row"] == {"prompt": " ", "facts": "no facts"}
    assert reasons(found) == {
        "000000003": "row_unreadable",
        "000000005": "prompt_missing",
        "000000006": "prompt_missing",
    }


def test_prompts_may_be_given_as_texts() -> None:
    source = Prompts(texts=("a", " ", "b\0c"))
    source.check()
    found = everything(source, 2)
    assert [sample.caption for sample in samples(found)] == ["a", "bc"]
    assert source_of(samples(found)[1])["repaired"] == ["nul_removed"]
    assert reasons(found) == {"000000001": "prompt_missing"}
    assert source.count() == 3


def test_text_of_any_kind_is_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"caf\xe9\n" + b"long " * 2000 + b"\n")
    found = samples(everything(Prompts(path=str(tmp_path / "p.txt"))))
    assert found[0].caption == "caf�"
    assert source_of(found[0])["repaired"] == ["caption_not_utf8"]
    assert found[1].caption == ("long " * 2000).strip()


def test_what_holds_no_prompts_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "utf16.txt").write_bytes("x".encode("utf-16"))
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\0\0")
    for name, message in {
        "gone.txt": "no such file",
        "blank.txt": "no prompts in",
        "utf16.txt": "save it as UTF-8",
        "image.txt": "not a text file",
        ".": "is a folder",
    }.items():
        with pytest.raises(SourceError, match=message):
            Prompts(path=str(tmp_path / name)).check()
    with pytest.raises(SourceError, match="no prompt"):
        Prompts(texts=()).check()
    for given in ({}, {"path": "p.txt", "texts": ("a",)}):
        with pytest.raises(ValidationError, match="either path"):
            Prompts(**given)
