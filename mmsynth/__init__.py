"""mmsynth: make image-text data for vision-language models.

    import mmsynth as mm
    mm.read("photos/").caption("vlm").filter("clip", min=0.26).write("pairs/")

Importing this loads no torch, and nothing heavy until it is used.
"""

import functools
import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmsynth.errors import MMSynthError
    from mmsynth.image import Image
    from mmsynth.pipeline import Pipeline, concat, mix, read, select, source
    from mmsynth.recipe import Recipe
    from mmsynth.report import Report
    from mmsynth.sample import Dropped, Failed, Result, Sample
    from mmsynth.sources.base import Source
    from mmsynth.stage import Captioner, Filter, Grouping, Renderer, Stage

__version__ = "0.2.0"

__all__ = [
    "Captioner",
    "Dropped",
    "Failed",
    "Filter",
    "Grouping",
    "Image",
    "MMSynthError",
    "Pipeline",
    "Recipe",
    "Renderer",
    "Report",
    "Result",
    "Sample",
    "Source",
    "Stage",
    "concat",
    "mix",
    "read",
    "select",
    "source",
]

_HOMES = {
    "MMSynthError": "errors",
    "Image": "image",
    "Pipeline": "pipeline",
    "concat": "pipeline",
    "mix": "pipeline",
    "read": "pipeline",
    "select": "pipeline",
    "source": "pipeline",
    "Recipe": "recipe",
    "Report": "report",
    "Dropped": "sample",
    "Failed": "sample",
    "Result": "sample",
    "Sample": "sample",
    "Source": "sources.base",
    "Captioner": "stage",
    "Filter": "stage",
    "Grouping": "stage",
    "Renderer": "stage",
    "Stage": "stage",
}


def __getattr__(name: str) -> Any:
    """Find the public names, and every registered source by name: `mm.prompts("prompts.txt")`, `mm.scenes(40)`."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"mmsynth.{_HOMES[name]}"), name)
    # `from mmsynth import …` asks here before it looks for a module of that name
    if not name.startswith("_") and importlib.util.find_spec(f"mmsynth.{name}") is None:
        registry = importlib.import_module("mmsynth.registry")
        if name in registry.entry_points("source"):
            return functools.partial(importlib.import_module("mmsynth.pipeline").source, name)
    raise AttributeError(f"module 'mmsynth' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
