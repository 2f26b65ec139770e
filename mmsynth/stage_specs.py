"""Stages as recipes write them: `{filter: clip, min: 0.26}` or `{repeat: 4}` → the stage, and back."""

from collections.abc import Mapping
from typing import Any

from mmsynth import registry
from mmsynth.errors import RecipeError
from mmsynth.models.loading import is_trusted
from mmsynth.stage import Stage
from mmsynth.validation import build, mapping, meant

VERBS = ("render", "caption", "filter")
#: the registry's word for stages whose own name is the word in a recipe
GROUPING = "grouping"


def build_stage(spec: object, where: str) -> Stage:
    """A stage from {verb: name, **parameters}, or {name: value, **parameters} if its own name is the word."""
    fields = mapping(spec, where, "a stage")
    words = [word for word in fields if word in VERBS or word in registry.entry_points(GROUPING) or ":" in word]
    if len(words) != 1:
        said = f"a stage has exactly one of {stage_words()}, got {sorted(fields)}"
        raise RecipeError(f"{said}{'' if words else _meant_word(fields)} ({where})")
    word = words[0]
    value = fields.pop(word)
    if word not in VERBS:
        return build_grouping(word, value, fields, where)
    if not isinstance(value, str):
        raise RecipeError(f"{word} must name a plugin, got {value!r} ({where})")
    plugin = registry.load(word, value, may_import=False)
    if not issubclass(plugin, Stage) or plugin.verb != word:
        raise RecipeError(f"'{value}' is not for {word} ({where})")
    return build(plugin, fields, f"{where}, {word} {value}")


def build_grouping(name: str, value: object, parameters: Mapping[str, Any], where: str) -> Stage:
    """A stage whose own name is the recipe's word. `value` is for its main parameter, and stands beside the name."""
    fields = dict(parameters)
    plugin = registry.load(GROUPING, name, may_import=False)
    if not issubclass(plugin, Stage) or plugin.verb:
        raise RecipeError(f"'{name}' is not a stage whose name stands alone ({where})")
    if value is not None:
        if not plugin.main:
            raise RecipeError(f"{name} takes no value beside its name, got {value!r} ({where})")
        if plugin.main in fields:
            raise RecipeError(
                f"{name}: {plugin.main} is the value beside the name, and cannot be given twice ({where})"
            )
        fields[plugin.main] = value
    return build(plugin, fields, f"{where}, {name}")


def stage_spec(stage: Stage) -> dict[str, Any]:
    """A stage as a recipe writes it, without defaults."""
    parameters = stage.model_dump(mode="json", exclude_defaults=True)
    if stage.verb:
        return {stage.verb: registry.name_of(stage.verb, type(stage)), **parameters}
    main = stage.model_dump(mode="json", include={stage.main}).get(stage.main)
    return {registry.name_of(GROUPING, type(stage)): main, **{k: v for k, v in parameters.items() if k != stage.main}}


def step_name(stage: Stage) -> str:
    """The stage's name in provenance: `caption:vlm`, or its own name if that is the recipe's word."""
    if stage.verb:
        return f"{stage.verb}:{registry.name_of(stage.verb, type(stage))}"
    return registry.name_of(GROUPING, type(stage))


def stage_words() -> str:
    """The words that a recipe's stage may start with."""
    return ", ".join((*VERBS, *sorted(registry.entry_points(GROUPING))))


def _meant_word(fields: Mapping[str, Any]) -> str:
    """ ". Did you mean 'caption'?" if a field is close to one of the words, else empty."""
    words = [*VERBS, *registry.entry_points(GROUPING)]
    found = [said for said in (meant(name, words) for name in fields) if said]
    return f".{found[0]}" if found else ""


def trusted(stage: Stage) -> Stage:
    """The stage itself. Raises RecipeError if it would run a model's own code that the user did not trust."""
    model = getattr(stage, "model", None)
    if getattr(stage, "trust_remote_code", False) and not is_trusted(str(model)):
        raise RecipeError(
            f"the recipe runs the code that comes with the model '{model}', which no recipe does by itself: read it; "
            f"if you trust it, --trust {model}, or in Python mmsynth.models.trust('{model}')"
        )
    return stage
