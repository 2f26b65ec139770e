"""The plugin registry: names → classes, found by entry point. Built-ins register exactly like other plugins.

A plugin is a class named in its distribution's entry points, in one of GROUPS, with the extra that installs its
imports, if there is one:

    [project.entry-points."mmsynth.filters"]
    short_side = "my_package:ShortSide"
    sharpness = "my_package:Sharpness [opencv]"

A name with a colon (`my_module:ShortSide`) is an import path, for stages that are not registered. In a recipe it works
only if the module is already imported, because a recipe cannot run code.
"""

import importlib
import importlib.metadata
import sys
from functools import cache
from pathlib import Path
from typing import Any

from mmsynth.errors import PluginError
from mmsynth.validation import meant

#: the recipe's word → the entry point group; a stage of `grouping` uses its own name as the word
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
    """Name → entry point for one of the words in GROUPS. Raises PluginError if two plugins share a name."""
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
    """The class registered as `name`. Raises PluginError, which lists the installed plugins and suggests the closest.

    Without `may_import`, an import path works only if its module is already imported. Use that for names from recipes.
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
    """The command that installs the plugin's imports: its distribution with the extra that the entry point names."""
    distribution = entry.dist.name if entry.dist else "mmsynth"
    return f"pip install '{distribution}[{','.join(entry.extras)}]'" if entry.extras else f"pip install {distribution}"


def name_of(word: str, plugin: type[Any]) -> str:
    """The registered name of a class, or its import path."""
    path = f"{plugin.__module__}:{plugin.__qualname__}"
    for name, entry in entry_points(word).items():
        if f"{entry.module}:{entry.attr}" == path or (entry.attr == plugin.__qualname__ and entry.load() is plugin):
            return name
    return path


def import_module(name: str) -> Any:
    """Import the module `name`, from the current folder or installed. Raises PluginError."""
    # for a stage in a file beside the recipe: unlike `python -m`, the `mmsynth` script does not search this folder
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
