"""Text and JSON that came with an image: read from bytes, cleaned, put into the sample.

Knows what may be wrong with text. Does not know where it lies: a sidecar file, a tar member, a table's cell.
Each repair appends a short code to the caller's list: `nul_removed`, `caption_not_utf8`, `sidecar_unreadable`,
`duplicate_key`, `key_cleaned`.
"""

import codecs
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mmsynth.keys import safe_key
from mmsynth.sample import Sample

_SURROGATES = re.compile("[\ud800-\udfff]")
_CAPTION_FIELDS = ("caption", "text", "alt")


def caption_of(raw: object, repaired: list[str]) -> str | None:
    """`raw` (bytes, or decoded text) as a stripped caption. None if nothing is left or `raw` is not text."""
    if isinstance(raw, bytes):
        raw = decoded(raw, repaired)
    if not isinstance(raw, str):
        return None
    if "\0" in raw:
        raw = raw.replace("\0", "")
        note(repaired, "nul_removed")
    if _SURROGATES.search(raw):
        raw = printable(raw)
        note(repaired, "caption_not_utf8")
    return raw.strip() or None


def captions_of(raw: object, repaired: list[str]) -> list[str]:
    """All captions in a cell that holds one text or a list of texts."""
    texts = raw if isinstance(raw, list | tuple) else [raw]
    return [text for text in (caption_of(item, repaired) for item in texts) if text]


def decoded(data: bytes, repaired: list[str]) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark. Invalid bytes become replacement characters."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        note(repaired, "caption_not_utf8")
        return data.decode(encoding, "replace")


def printable(text: str) -> str:
    """`text` without lone surrogates (from file names and JSON escapes), which no UTF-8 file can hold."""
    return _SURROGATES.sub("�", text)


def load_json(data: bytes | str) -> Any:
    """The JSON value in `data`. Raises ValueError for invalid JSON."""
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    try:
        # many programs write NaN and Infinity, but they are not JSON, and readers of our records would reject them
        value = json.loads(text, parse_constant=lambda _name: None)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return _without_surrogates(value) if "\\ud" in text or "\\uD" in text else value


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): _without_surrogates(item) for key, item in value.items()}
    return value


def read_json(data: bytes, about: dict[str, Any], repaired: list[str]) -> dict[str, Any] | None:
    """The JSON object in `data`. For anything else, keep it as text in `about["json_text"]` and return None."""
    try:
        value = load_json(data)
    except ValueError:
        note(repaired, "sidecar_unreadable")
        value = None
    if not isinstance(value, dict):
        about["json_text"] = data.decode("utf-8", "replace")
        return None
    return value


def captions_in(fields: Mapping[str, Any], repaired: list[str]) -> list[str]:
    """The captions in a JSON object: those of its `caption`, a text or a list, else of its `text`, else its `alt`."""
    return next(filter(None, (captions_of(fields.get(name), repaired) for name in _CAPTION_FIELDS)), [])


def with_originals(sample: Sample, captions: Iterable[str]) -> Sample:
    """`sample` with its original captions. Training reads the first one."""
    texts = list(captions)
    known = {entry["text"] for entry in sample.record.get("captions", ())}
    new = [{"text": text, "origin": "original"} for text in dict.fromkeys(texts) if text not in known]
    if not texts:
        return sample
    record = sample.record
    if new:
        record = {**record, "captions": [*record.get("captions", ()), *new]}
    return replace(sample, caption=texts[0], record=record)


def note(repaired: list[str], code: str) -> None:
    """Add a code, unless it is there already."""
    if code not in repaired:
        repaired.append(code)


def note_key(original: str | None, key: str, repaired: list[str]) -> None:
    """Add the codes that say how `original`, the key in the input, became `key`."""
    if original is not None and safe_key(original) != key:
        note(repaired, "duplicate_key")
    if original is not None and safe_key(original) != original:
        note(repaired, "key_cleaned")


def source_record(kind: str, about: Mapping[str, Any], original_key: str | None, repaired: list[str]) -> dict[str, Any]:
    """`record["source"]`: the kind of source, the sample's place in it, and the repairs made on reading."""
    record: dict[str, Any] = {"kind": kind, **about}
    if original_key is not None:
        record["original_key"] = printable(original_key)
    if repaired:
        record["repaired"] = repaired
    return record
