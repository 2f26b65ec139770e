"""The plugin registry: names → classes, found by entry point, built-ins exactly as strangers.

A plugin is a class named in its distribution's entry points, in one of GROUPS, with the extra that installs what it
imports, if there is one:

    [project.entry-points."mmsynth.filters"]
    short_side = "my_package:ShortSide"
    sharpness = "my_package:Sharpness [opencv]"

A name with a colon (`my_module:ShortSide`) is imported as it stands, for stages that nobody has registered; where a
recipe has it, only once somebody has asked for the module: a recipe cannot run code.
"""

import importlib
import importlib.metadata
import sys
from functools import cache
from pathlib import Path
from typing import Any

from mmsynth.errors import PluginError
from mmsynth.validation import meant

#: the recipe's word → the entry point group; the stages of `grouping` have their own names for a word
GROUPS = {
    "source": "mmsynth.sources",
    "caption": "mmsynth.captioners",
    "render": "mmsynth.renderers",
    "filter": "mmsynth.filters",
    "grouping": "mmsynth.groupings",
    "chat_engine": "mmsynth.chat_engines",
}
_NOUNS = {
    "source": "source",
    "caption": "captioner",
    "render": "renderer",
    "filter": "filter",
    "grouping": "grouping",
    "chat_engine": "chat engine",
}


@cache
def entry_points(word: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Name → entry point for one of the words in GROUPS. Raises PluginError when two share a name."""
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for entry in sorted(importlib.metadata.entry_points(group=GROUPS[word]), key=lambda e: (e.name, e.value)):
        other = found.get(entry.name)
        if other is not None and other.value != entry.value:
            raise PluginError(
                f"two {_NOUNS[word]}s are named '{entry.name}': {_origin(other)} and {_origin(entry)}; "
                "uninstall one, or name one by its import path (package.module:Class)"
            )
        found[entry.name] = entry
    return found


def _origin(entry: importlib.metadata.EntryPoint) -> str:
    return f"{entry.value} (from {entry.dist.name})" if entry.dist else entry.value


def load(word: str, name: str, *, may_import: bool = True) -> type[Any]:
    """The class registered as `name`. Raises PluginError that says what is installed and was probably meant.

    Without `may_import` an import path counts only where its module is imported already: for names that others wrote.
    """
    if ":" in name:
        return _import_path(word, name, may_import)
    entries = entry_points(word)
    if name not in entries:
        raise PluginError(_not_found(word, name, sorted(entries)))
    try:
        loaded = entries[name].load()
    except ImportError as error:
        raise PluginError(
            f"the {_NOUNS[word]} '{name}' needs '{error.name or error}', which is not installed: "
            f"{_how_to_install(entries[name])}"
        ) from error
    return _checked_class(loaded, name)


def _how_to_install(entry: importlib.metadata.EntryPoint) -> str:
    """The command that installs what the plugin imports: its distribution with the extra that the entry point names."""
    distribution = entry.dist.name if entry.dist else "mmsynth"
    return f"pip install '{distribution}[{','.join(entry.extras)}]'" if entry.extras else f"pip install {distribution}"


def name_of(word: str, plugin: type[Any]) -> str:
    """The name a class is registered under, or its import path."""
    path = f"{plugin.__module__}:{plugin.__qualname__}"
    for name, entry in entry_points(word).items():
        if f"{entry.module}:{entry.attr}" == path or (entry.attr == plugin.__qualname__ and entry.load() is plugin):
            return name
    return path


def import_module(name: str) -> Any:
    """The module `name`, of this folder or installed. Raises PluginError."""
    # a stage in a file beside the recipe: the `mmsynth` script, unlike `python -m`, does not look here by itself
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError) as error:
        raise PluginError(f"cannot import '{name}': {error}") from error


def _import_path(word: str, name: str, may_import: bool) -> type[Any]:
    module_name, _, attribute = name.partition(":")
    module = sys.modules.get(module_name)
    if module is None and not may_import:
        raise PluginError(
            f"the {_NOUNS[word]} '{name}' is code, which no recipe runs by itself: if you trust it, import the module "
            f"first (--import {module_name}, or in Python import {module_name})"
        )
    try:
        loaded = getattr(module or import_module(module_name), attribute)
    except (PluginError, AttributeError) as error:
        raise PluginError(f"no {_NOUNS[word]} at '{name}': {error}") from error
    return _checked_class(loaded, name)


def _checked_class(loaded: object, name: str) -> type[Any]:
    if not isinstance(loaded, type):
        raise PluginError(f"'{name}' names {loaded!r}, which is not a class")
    return loaded


def _not_found(word: str, name: str, installed: list[str]) -> str:
    said = meant(name, installed)
    elsewhere = [other for other in GROUPS if other != word and name in entry_points(other)]
    if elsewhere:
        said = f" There is a {_NOUNS[elsewhere[0]]} of that name."
    return f"no {_NOUNS[word]} named '{name}'.{said} Installed: {', '.join(installed) or 'none'}"
