"""Validation: plain data → frozen pydantic models, with errors that name field, value and place, and suggest a fix.

Knows pydantic and YAML; does not know sources, stages or recipes.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from mmsynth.errors import RecipeError

ModelT = TypeVar("ModelT", bound=BaseModel)


def build(model: type[ModelT], fields: Mapping[str, Any], where: str) -> ModelT:
    """`model(**fields)` with pydantic's errors as one RecipeError that names field, value and place.

    Validators of nested data find the place in their context, as `where`.
    """
    try:
        return model.model_validate(dict(fields), context={"where": where})
    except ValidationError as error:
        said = "; ".join(_explain(model, one) for one in error.errors()[:3])
        raise RecipeError(f"{said} ({where})") from error


_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def _explain(model: type[BaseModel], error: Any) -> str:
    field = ".".join(str(part) for part in error["loc"])
    kind, got = error["type"], error["input"]
    if kind == "extra_forbidden":
        return f"no field '{field}'.{meant(field, model.model_fields)} Fields: {', '.join(model.model_fields)}"
    if kind == "missing":
        return f"{field} is required"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{field} must be {words} {error['ctx'][key]}, got {got!r}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{field}: {message}, got {got!r}" if field else message


def meant(name: str, among: Iterable[str]) -> str:
    """ " Did you mean 'clip'?" if one of the names is close, else empty."""
    close = difflib.get_close_matches(name, list(among), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def mapping(data: object, where: str, what: str) -> dict[str, Any]:
    """`data` as a dict of names to values. Raises RecipeError."""
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise RecipeError(f"{what} must be a mapping of names to values, got {type(data).__name__} ({where})")
    return dict(data)


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML (or JSON) text. Raises RecipeError, also for a duplicate key in a mapping."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except _KeyTwice as error:
        raise RecipeError(f"{error} ({where})") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()


class _KeyTwice(Exception):
    """A duplicate key. YAML requires unique keys, but PyYAML takes the last one."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise _KeyTwice(f"'{key.value}' stands twice, in lines {lines[key.value]} and {line}")
            lines[key.value] = line
        return super().construct_mapping(node, deep)
