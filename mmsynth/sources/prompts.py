"""The prompts source: text to draw images from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from mmsynth.errors import SourceError
from mmsynth.io.remote_files import path_at
from mmsynth.keys import safe_key
from mmsynth.sample import Sample
from mmsynth.sources.base import Slice, Source, Unreadable
from mmsynth.sources.captions import caption_of, note_key, source_record
from mmsynth.sources.files import InputFile, input_file
from mmsynth.sources.lines import check_text, cut_lines, read_lines
from mmsynth.sources.rows import Broken, RepairedRow, Row, json_value, key_text
from mmsynth.sources.tables import json_row
from mmsynth.sources.unique import UniqueKeys

_PROMPT_FIELDS = ("prompt", "text", "caption")
_JSONL = (".jsonl", ".ndjson")


class Prompts(Source):
    """Read prompts, one per line of a text or jsonl file, or given as `texts`. The samples have no image.

    Blank lines are skipped. A jsonl line holds `prompt` (or `text` or `caption`), and may hold `key` and `facts`. Its
    other fields are kept in `record["source"]["row"]`. A prompt without a key gets its number as the key.
    """

    path: str | None = None
    texts: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.path is None) == (self.texts is None):
            raise ValueError("prompts need either path (a .txt or .jsonl file) or texts (a list)")
        return self

    def check(self) -> None:
        if self.texts is not None:
            if not self.texts:
                raise SourceError("texts holds no prompt")
            return
        if not self._path.exists():
            raise SourceError(f"no such file: {self.path}")
        if not self._path.is_file():
            raise SourceError(f"{self.path} is a folder: give a .txt or .jsonl file with a prompt in each line")
        check_text(self._path)
        if next(cut_lines(self._path, 1), None) is None:
            raise SourceError(f"no prompts in {self.path}: it has no line with text")

    def count(self) -> int | None:
        return len(self.texts) if self.texts is not None else None

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        if self.texts is not None:
            for start in range(0, len(self.texts), samples_per_slice):
                stop = min(start + samples_per_slice, len(self.texts))
                yield Slice({"index": start, "stop": stop}, stop - start)
            return
        keys = UniqueKeys()
        index = 0
        for span, size in cut_lines(self._path, samples_per_slice):
            payload = {"index": index, "span": list(span), "renamed": []}
            if self._is_jsonl:
                names = [_key(json_row(line), index + i) for i, line in enumerate(read_lines(self._path, span))]
                payload["renamed"] = [[i, other] for i, other in keys.claim(names).items()]
            yield Slice(payload, size)
            index += size

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        first = payload["index"]
        if self.texts is not None:
            for index in range(first, payload["stop"]):
                yield _sample({"prompt": self.texts[index]}, f"{index:09d}", {"index": index})
            return
        start, stop = payload["span"]
        renamed = dict(payload["renamed"])
        for i, line in enumerate(read_lines(self._path, (start, stop))):
            about = {"path": self._path.name, "index": first + i}
            row = json_row(line) if self._is_jsonl else {"prompt": line}
            yield _sample(row, renamed.get(i) or _key(row, first + i), about)

    def files(self, payload: Any) -> Iterator[InputFile]:
        if self.texts is None:
            yield input_file(self._path, *payload["span"])

    @property
    def _path(self) -> Path:
        return path_at(self.path or "")

    @property
    def _is_jsonl(self) -> bool:
        return self._path.suffix.lower() in _JSONL


def _key(row: Row | Broken, index: int) -> str:
    original = None if isinstance(row, Broken) else key_text(row.get("key"))
    return f"{index:09d}" if original is None else safe_key(original)


def _sample(row: Row | Broken, key: str, about: dict[str, Any]) -> Sample | Unreadable:
    where = f"{about.get('path', 'texts')}:{about['index']}"
    if isinstance(row, Broken):
        return Unreadable(key, "row_unreadable", row.detail, where)
    repaired: list[str] = ["caption_not_utf8"] if isinstance(row, RepairedRow) else []
    name = next((name for name in _PROMPT_FIELDS if caption_of(row.get(name), [])), None)
    if name is None:
        return Unreadable(key, "prompt_missing", f"no text in {' or '.join(_PROMPT_FIELDS)}", where)
    prompt = caption_of(row[name], repaired) or ""
    original = key_text(row.get("key"))
    note_key(original, key, repaired)
    facts = row.get("facts")
    used = {name, "key", *(["facts"] if isinstance(facts, dict) else [])}
    rest = {field: json_value(value) for field, value in row.items() if field not in used}
    about |= {"row": rest} if rest else {}
    source = source_record("prompts", about, original if original != key else None, repaired)
    record = {"source": source} | ({"facts": facts} if isinstance(facts, dict) else {})
    return Sample(key, record=record).with_caption(prompt, origin="prompt")
