"""mmsynth: make image-text data for vision-language models.

    import mmsynth as mm
    mm.read("photos/").caption("vlm").filter("clip", min=0.26).write("pairs/")

Importing this loads no torch, and nothing heavy until it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmsynth.errors import MMSynthError
    from mmsynth.image import Image
    from mmsynth.pipeline import Pipeline, prompts, read, scenes, select, source
    from mmsynth.recipe import Recipe
    from mmsynth.report import Report
    from mmsynth.sample import Dropped, Sample
    from mmsynth.sources.base import Source
    from mmsynth.stage import Captioner, Filter, Renderer, Stage

__version__ = "0.1.0"

__all__ = [
    "Captioner",
    "Dropped",
    "Filter",
    "Image",
    "MMSynthError",
    "Pipeline",
    "Recipe",
    "Renderer",
    "Report",
    "Sample",
    "Source",
    "Stage",
    "prompts",
    "read",
    "scenes",
    "select",
    "source",
]

_HOMES = {
    "MMSynthError": "errors",
    "Image": "image",
    "Pipeline": "pipeline",
    "prompts": "pipeline",
    "read": "pipeline",
    "scenes": "pipeline",
    "select": "pipeline",
    "source": "pipeline",
    "Recipe": "recipe",
    "Report": "report",
    "Dropped": "sample",
    "Sample": "sample",
    "Source": "sources.base",
    "Captioner": "stage",
    "Filter": "stage",
    "Renderer": "stage",
    "Stage": "stage",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"mmsynth.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'mmsynth' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
