"""Finds an open_clip model by name, before anything is loaded.

A name is `nano`, a local folder in open_clip's format, `hf-hub:owner/name`, `NAME/PRETRAINED` as in
`open_clip.list_pretrained()`, or `NAME/path/to/checkpoint`. A missing model raises a one-line ModelError.
"""

import difflib
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmsynth.errors import ModelError, PluginError
from mmsynth.models.files import ModelFiles, find_model, first_line, nano_files
from mmsynth.models.weights import check_files

_CONFIG = "open_clip_config.json"
_WEIGHTS = ("*.safetensors",)
#: files pickled by torch; reading one may run code that is in it
_PICKLES = ("*.bin", "*.pth", "*.pt", "*.ckpt")
_TOKENIZER = ["tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model"]


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """A local model, with the names that open_clip's factory takes."""

    id: str
    revision: str
    name: str
    pretrained: str | None = None
    tokenizer: str = ""
    #: training details that the model's name does not give: preprocessing, and QuickGELU
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False


def find_clip(model: str, revision: str | None = None) -> ClipFiles:
    """Find `model`, and download its files if they are on a hub. Raises ModelError, PluginError."""
    if importlib.util.find_spec("open_clip") is None:
        raise PluginError(
            f"the CLIP model '{model}' needs 'open_clip', which is not installed: pip install 'mmsynth[clip]'"
        )
    if model == "nano":
        return _in_folder(nano_files("clip"))
    if model.startswith("hf-hub:"):
        return _on_hub(model, revision)
    folder = Path(model.removeprefix("local-dir:")).expanduser()
    if folder.is_dir():
        files = find_model(str(folder))
        return _in_folder(ModelFiles(model, files.folder, files.revision))
    if model.startswith((".", "/", "~", "local-dir:")):
        raise ModelError(f"model '{model}' could not be found: there is no folder '{folder}'")
    return _by_name(model)


def _in_folder(files: ModelFiles, tokenizer: str = "") -> ClipFiles:
    try:
        text = json.loads((files.folder / _CONFIG).read_text("utf-8"))["model_cfg"]["text_cfg"]
    except FileNotFoundError as error:
        raise ModelError(f"model '{files.id}' is not in open_clip's format: {files.folder} has no {_CONFIG}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"model '{files.id}': {_CONFIG} in {files.folder} could not be read: {error!r}") from error
    if not _has(files.folder, _WEIGHTS):
        if _has(files.folder, _PICKLES):
            raise _pickled(files.id, files.folder)
        raise ModelError(f"model '{files.id}' has no weights: put an open_clip_model.safetensors into {files.folder}")
    _check_text_tower(files.id, text)
    check_files(files.id, files.folder, files.folder.glob("*.safetensors"))
    name = f"local-dir:{files.folder}"
    # a hub repository may name another repository's tokenizer; a local folder always holds its own
    borrowed = tokenizer and text.get("hf_tokenizer_name") and not _has(files.folder, ("tokenizer*",))
    return ClipFiles(files.id, files.revision, name, tokenizer=tokenizer if borrowed else name)


def _on_hub(model: str, revision: str | None) -> ClipFiles:
    repository = model.removeprefix("hf-hub:")
    files = find_model(repository, revision=revision, patterns=[_CONFIG, "open_clip_model.safetensors", *_TOKENIZER])
    return _in_folder(ModelFiles(model, files.folder, files.revision), tokenizer=model)


def _by_name(model: str) -> ClipFiles:
    import open_clip

    name, _, pretrained = model.partition("/")
    names = open_clip.list_models()
    if name not in names:
        elsewhere = f"; a repository on the hub is hf-hub:{model}" if pretrained else ""
        raise ModelError(
            f"open_clip has no model '{name}'.{_meant(name, names)} A model is nano, a local folder, "
            f"hf-hub:owner/name or NAME/PRETRAINED from open_clip.list_pretrained(){elsewhere}"
        )
    config: dict[str, Any] = open_clip.get_model_config(name)
    about: dict[str, Any] = {}
    path = Path(pretrained).expanduser()
    if not (pretrained and path.is_file()):
        about = _tag(name, pretrained)
        path = _tagged_weights(model, about)
    if path.suffix != ".safetensors":
        raise _pickled(model, path)
    check_files(model, path.parent, [path])
    _check_text_tower(model, config["text_cfg"])
    return ClipFiles(
        model,
        _file_revision(path),
        name,
        str(path),
        tokenizer=name,
        preprocessing={key: about[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in about},
        quick_gelu=bool(about.get("quick_gelu")) and not config.get("quick_gelu"),
    )


def _tag(name: str, tag: str) -> dict[str, Any]:
    """open_clip's entry for a pretrained tag: where its weights are and how they were trained."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    about: dict[str, Any] = get_pretrained_cfg(name, tag) if tag else {}
    if not about:
        tags = list_pretrained_tags_by_model(name)
        asked = (
            f"no weights '{tag}' for the model '{name}'.{_meant(tag, tags)}" if tag else f"'{name}' needs its weights."
        )
        raise ModelError(f"open_clip: {asked} Choose {name}/PRETRAINED of: {', '.join(tags) or 'none'}")
    return about


def _tagged_weights(model: str, about: Mapping[str, Any]) -> Path:
    """The file of a tag's weights, from the cache or downloaded into it. Safetensors only."""
    if not about.get("hf_hub"):
        raise _pickled(model, Path(str(about.get("url") or about.get("file") or model)))
    # owner/name/ or owner/name/file
    repository, _, file = about["hf_hub"].rpartition("/")
    file = file or "open_clip_pytorch_model.bin"
    safe = "open_clip_model.safetensors" if file == "open_clip_pytorch_model.bin" else f"{Path(file).stem}.safetensors"
    try:
        path = find_model(repository, patterns=[safe]).folder / safe
    except ModelError as error:
        raise ModelError(f"the weights of '{model}' could not be found or downloaded: {error}") from error
    if not path.is_file():
        raise ModelError(f"the weights of '{model}' could not be found: there is no {safe} in hf-hub:{repository}")
    return path


def _pickled(model: str, where: Path) -> ModelError:
    return ModelError(
        f"the weights of '{model}' are a pickle ({where.name}), which may run code that is in it; mmsynth loads "
        "safetensors only: convert a checkpoint that you trust with torch.load(…, weights_only=True) and "
        "safetensors.torch.save_file"
    )


def _check_text_tower(model: str, text_config: dict[str, Any]) -> None:
    """Raise ModelError if the text tower is one of transformers' and its configuration is not found."""
    if not (tower := text_config.get("hf_model_name")):
        return
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(tower, trust_remote_code=False)
    except Exception as error:
        raise ModelError(
            f"model '{model}' needs the text tower '{tower}', which could not be found or downloaded: "
            f"{first_line(error)}"
        ) from error


def _file_revision(path: Path) -> str:
    if "snapshots" in path.parts:  # the hub's cache: snapshots/REVISION/file
        return path.parts[path.parts.index("snapshots") + 1]
    with path.open("rb") as file:
        return f"sha256-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def _has(folder: Path, patterns: Iterable[str]) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in patterns)


def _meant(name: str, names: list[str]) -> str:
    # people misremember the case and the dashes of open_clip's names
    by_lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f" Did you mean '{by_lower[close[0]]}'?" if close else ""
