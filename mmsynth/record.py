"""Checks the shapes of the record's own fields, because JSON that came with a sample may use our names differently.

docs/record.md describes every field. docs/record.schema.json is the schema of the whole record.
"""

from collections.abc import Callable
from typing import Any

ROLES = frozenset({"system", "user", "assistant", "tool"})


def has_shape(name: str, value: object) -> bool:
    """Whether the record's field `name` may hold `value`. Fields that are not ours may hold anything."""
    return name not in _SHAPES or _SHAPES[name](value)


def _a_dict(value: object) -> bool:
    return isinstance(value, dict)


def _dicts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _captions(value: object) -> bool:
    return _dicts(value) and all(
        isinstance(entry.get("text"), str)
        and isinstance(entry.get("origin", ""), str)
        and _scores(entry.get("scores", {}))
        for entry in _list(value)
    )


def _qa(value: object) -> bool:
    return _dicts(value) and _all_have(value, "question", str) and _all_have(value, "answer", str)


def _scores(value: object) -> bool:
    return isinstance(value, dict) and all(map(_a_number, value.values()))


def _a_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _messages(value: object) -> bool:
    return _dicts(value) and all(_a_message(message) for message in _list(value))


def _a_message(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return message.get("role") in ROLES and (isinstance(content, str) or (_dicts(content) and _parts(_list(content))))


def _parts(parts: list[Any]) -> bool:
    return all(
        isinstance(part.get("type"), str)
        and (part["type"] != "text" or isinstance(part.get("text"), str))
        and isinstance(part.get("image", ""), str)
        for part in parts
    )


def _preference(value: object) -> bool:
    return isinstance(value, dict) and all(_messages(value.get(side)) for side in ("prompt", "chosen", "rejected"))


def _facts(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("background"), str) and _dicts(value.get("objects"))


def _negatives(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _steps(value: object) -> bool:
    return _dicts(value) and all(
        isinstance(step.get("stage"), str)
        and all(_texts(step.get(name, [])) for name in ("judges", "scores", "arrays"))
        for step in _list(value)
    )


def _synthetic(value: object) -> bool:
    if not isinstance(value, dict) or not _texts(value.get("images", [])):
        return False
    return all(isinstance(value.get(name, False), bool) for name in ("image", "caption"))


def _candidate(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("of"), str) and _whole(value.get("number"))


def _truth(value: object) -> bool:
    return isinstance(value, dict) and _whole(value.get("stated")) and _whole(value.get("true"))


def _frames(value: object) -> bool:
    if not _dicts(value) or not _all_have(value, "name", str):
        return False
    return all(_whole(frame.get("index")) and _a_number(frame.get("time_s")) for frame in _list(value))


def _all_have(items: object, name: str, kind: type) -> bool:
    return all(isinstance(item.get(name), kind) for item in _list(items))


def _list(value: object) -> list[Any]:
    assert isinstance(value, list)
    return value


_SHAPES: dict[str, Callable[[object], bool]] = {
    "captions": _captions,
    "qa": _qa,
    "messages": _messages,
    "preference": _preference,
    "facts": _facts,
    "negatives": _negatives,
    "scores": _scores,
    "source": _a_dict,
    "steps": _steps,
    "synthetic": _synthetic,
    "candidate": _candidate,
    "truth": _truth,
    "frames": _frames,
}
