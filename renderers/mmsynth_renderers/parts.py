"""The models inside a diffusers pipeline, each loaded by itself, so that its loading report can be read.

A pipeline that loads its parts asks none of them what was missing, and draws with random weights. Parts that are no
models of diffusers or transformers (tokenizers, schedulers) are left to the pipeline.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mmsynth.models import ModelFiles, loaded_whole
from mmsynth_renderers.pipeline_files import has_weights, libraries

if TYPE_CHECKING:
    import torch


def load_parts(files: ModelFiles, dtype: "torch.dtype", variant: str | None) -> dict[str, Any]:
    """Name → model, for the pipeline to take. Raises ModelError where weights are missing."""
    from diffusers import ModelMixin
    from transformers import PreTrainedModel

    parts = {}
    for name, (library, kind) in libraries(files).items():
        folder = files.folder / name
        found = _class_of(library, kind)
        if not isinstance(found, type) or not folder.is_dir() or not issubclass(found, ModelMixin | PreTrainedModel):
            continue
        loads: Any = found
        of_diffusers = issubclass(found, ModelMixin)
        options = {"torch_dtype" if of_diffusers else "dtype": dtype, "low_cpu_mem_usage": True}
        if variant and has_weights(folder, variant):
            options["variant"] = variant
        model, report = loads.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
        if of_diffusers:  # these compute their buffers, and may leave them out of their files
            missing = set(report["missing_keys"]) & {weight for weight, _ in model.named_parameters()}
            report = {**report, "missing_keys": missing}
        parts[name] = loaded_whole(files.id, name, (model, report))
    return parts


def _class_of(library: str, kind: str) -> Any:
    """The class that the pipeline's index names; None for one of other libraries, whose code is not run for it."""
    from diffusers import pipelines

    if hasattr(pipelines, library):
        return getattr(getattr(pipelines, library), kind, None)
    if library not in {"diffusers", "transformers"}:
        return None
    return getattr(importlib.import_module(library), kind, None)
