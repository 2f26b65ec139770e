"""Sources as recipes write them: `{kind: folder, path: photos/}` → the source, and back."""

from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import PlainSerializer

from mmsynth import registry
from mmsynth.errors import RecipeError
from mmsynth.sources.base import Source
from mmsynth.validation import build, mapping


def build_source(spec: object, where: str = "recipe") -> Source:
    """A source from {"kind": name, **parameters}. Raises RecipeError or PluginError."""
    fields = mapping(spec, where, "source")
    kind = fields.pop("kind", None)
    if not isinstance(kind, str):
        kinds = ", ".join(sorted(registry.entry_points("source")))
        raise RecipeError(f"source needs a kind: {kinds} ({where}, source)")
    plugin = registry.load("source", kind, may_import=False)
    if not issubclass(plugin, Source):
        raise RecipeError(f"'{kind}' is not a source ({where}, source)")
    built: Source = build(plugin, fields, f"{where}, source {kind}")
    return built


def as_source(given: object, where: str) -> Source:
    """A source from a source object, from {"kind": name, **parameters}, or from a path, whose kind is detected."""
    if isinstance(given, Source):
        return given
    if not isinstance(given, str | Path):
        return build_source(given, where)
    from mmsynth.sources.detect import detect

    kind, parameters = detect(str(given))
    return build_source({"kind": kind, **parameters}, where)


def source_spec(source: Source) -> dict[str, Any]:
    """A source as a recipe writes it, without defaults."""
    kind = registry.name_of("source", type(source))
    return {"kind": kind, **source.model_dump(mode="json", exclude_defaults=True)}


#: the type of a field that holds another source. Recipes write that source with its kind
SourceField: TypeAlias = Annotated[Source, PlainSerializer(source_spec)]
