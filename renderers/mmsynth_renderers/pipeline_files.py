"""Finds the files that a diffusers pipeline needs: safetensors, in the requested variant.

Reads names and `model_index.json` only. Does not import diffusers and loads no weights, so `check()` is quick. Never
downloads a hub repository's other formats (.ckpt, .bin, ONNX, Flax).
"""

import json
import re
from pathlib import Path

from mmsynth.errors import ModelError, RecipeError
from mmsynth.models import ModelFiles, check_files, find_model, nano_files

_INDEX = "model_index.json"
_SMALL_FILES = ("json", "txt", "model", "jinja", "tiktoken")
#: the names that diffusers and transformers give to weights
_STEMS = ("diffusion_pytorch_model", "model")


def find_pipeline(model: str, *, revision: str | None = None, variant: str | None = None) -> ModelFiles:
    """The folder of a diffusers pipeline: `nano`, a local folder, or a hub id. Raises ModelError in one line."""
    if model == "nano":
        files = nano_files("diffusion")
    elif Path(model).expanduser().is_dir():
        if revision is not None:
            raise RecipeError(f"revision names a version on the hub, and the model '{model}' is a local folder")
        files = find_model(model)
    else:
        files = _fetch(model, revision, variant)
    _check_weights(files, variant)
    return files


def _fetch(model: str, revision: str | None, variant: str | None) -> ModelFiles:
    """Get the files from the cache or the hub: first the index, then the files of its components."""
    components = _components(find_model(model, revision=revision, patterns=[_INDEX]))
    patterns = file_patterns(list(components), variant)
    files = find_model(model, revision=revision, patterns=patterns)
    # a repository may hold the variant of some components only: the others come as they are
    plain = [name for name in _models(files) if not has_weights(files.folder / name, variant)]
    if variant and plain:
        files = find_model(model, revision=revision, patterns=[*patterns, *_weight_patterns(plain, None)])
    return files


def file_patterns(components: list[str], variant: str | None) -> list[str]:
    """Shell patterns of the files that these components load."""
    small = [f"{name}/*.{ending}" for name in components for ending in _SMALL_FILES]
    return [_INDEX, *small, *_weight_patterns(components, variant)]


def _weight_patterns(components: list[str], variant: str | None) -> list[str]:
    # without a variant, not `*.safetensors`, which would download the fp16 files too
    stems = [f"{stem}.{variant}" if variant else stem for stem in _STEMS]
    return [f"{name}/{stem}{end}.safetensors" for name in components for stem in stems for end in ("", "-*")]


def _check_weights(files: ModelFiles, variant: str | None) -> None:
    models = _models(files)
    if variant and not any(has_weights(files.folder / name, variant) for name in models):
        raise ModelError(f"model '{files.id}' has no files of the variant '{variant}'{_variants(files, models)}")
    for name in models:
        folder = files.folder / name
        if not has_weights(folder, None) and not (variant and has_weights(folder, variant)):
            raise ModelError(
                f"model '{files.id}' has no safetensors weights for its {name}, and no other kind is loaded"
                f"{_variants(files, models)}"
            )
        check_files(files.id, folder, folder.glob("*.safetensors"))


def _variants(files: ModelFiles, models: list[str]) -> str:
    """The possible values of `variant`, for a message: the middle of names like `model.fp16.safetensors`."""
    names = [path.name for name in models for path in (files.folder / name).glob("*.safetensors")]
    found = {match[1] for name in names if (match := re.fullmatch(r"[^.]+\.([^.]+?)(-\d+-of-\d+)?\.safetensors", name))}
    return f" (variants that are there: {', '.join(sorted(found))})" if found else ""


def has_weights(folder: Path, variant: str | None) -> bool:
    """Whether a component's folder has safetensors weights of this variant, or plain ones where it is None."""
    stems = "|".join(_STEMS)
    middle = re.escape(f".{variant}") if variant else ""
    name = re.compile(rf"({stems}){middle}(-\d+-of-\d+)?\.safetensors")
    return any(name.fullmatch(path.name) for path in folder.glob("*.safetensors"))


def _models(files: ModelFiles) -> list[str]:
    """The components with weights: those with a config that are neither tokenizers nor image processors."""
    return [
        name
        for name, kind in _components(files).items()
        if not re.search("Tokenizer|Processor|FeatureExtractor|Scheduler", kind)
        and (files.folder / name / "config.json").is_file()
    ]


def _components(files: ModelFiles) -> dict[str, str]:
    """Component → class name, of the same."""
    return {name: kind for name, (_, kind) in libraries(files).items()}


def libraries(files: ModelFiles) -> dict[str, tuple[str, str]]:
    """Component → library and class name, from the index; those that the pipeline goes without are left out."""
    index = files.folder / _INDEX
    if not index.is_file():
        raise ModelError(f"model '{files.id}' is not a diffusers pipeline: it has no {_INDEX}")
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"model '{files.id}' has a broken {_INDEX}: {error}") from error
    pairs = {name: entry for name, entry in entries.items() if isinstance(entry, list) and not name.startswith("_")}
    return {name: (str(pair[0]), str(pair[1])) for name, pair in pairs.items() if len(pair) == 2 and None not in pair}
