"""Weights that are all there: files checked by their headers, and loaded models by what the library says was missing.

A file cut short, a Git LFS pointer in its place, a checkpoint of another model: each is a ModelError of one line. Knows
safetensors and the loading reports of transformers and diffusers. Importing this loads neither.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmsynth.errors import ModelError

_POINTER = b"version https://git-lfs"
_POINTER_BYTES = 1024
_HEADER_BYTES = 100 * 2**20
_NAMED = 3
_DETAIL_CHARACTERS = 300


def check_files(model: str, folder: Path, weights: Iterable[Path]) -> None:
    """Raise ModelError where a file of `folder` is an LFS pointer, a shard is missing, or `weights` are cut short."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and _is_pointer(path):
            raise ModelError(
                f"model '{model}' could not be loaded: {path} is a Git LFS pointer: run git lfs pull in {folder}"
            )
    for index in folder.glob("*.safetensors.index.json"):
        if missing := [name for name in _shards(model, index) if not (folder / name).is_file()]:
            raise ModelError(
                f"model '{model}' could not be loaded: {folder} lacks {missing[0]}, which {index.name} names"
            )
    for path in weights:
        _check_weights(model, path)


def loaded_whole(model: str, part: str, loaded: tuple[Any, Mapping[str, Any]]) -> Any:
    """The model that `from_pretrained(…, output_loading_info=True)` gave. Raises ModelError where weights are missing.

    The libraries draw missing weights at random and go on. Tied weights and those that the model's class calls
    dispensable are in no such report.
    """
    found, report = loaded
    wrong = {
        "missing": [*report.get("missing_keys", ())],
        "of another shape": [*(_key(entry) for entry in report.get("mismatched_keys", ()))],
    }
    for what, keys in wrong.items():
        if keys:
            names = ", ".join(sorted(map(str, keys))[:_NAMED]) + (", …" if len(keys) > _NAMED else "")
            of = f" of its {part}" if part else ""
            raise ModelError(
                f"model '{model}': {len(keys)} weights{of} are {what} in its files ({names}); "
                "the checkpoint does not fit its config.json"
            )
    if errors := [*report.get("error_msgs", ())]:
        raise ModelError(f"model '{model}' could not be loaded: {in_one_line(errors[0])}")
    return found


def in_one_line(error: object) -> str:
    """What another library says, which is often a page, as one line."""
    said = " ".join(str(error).split())
    short = said if len(said) <= _DETAIL_CHARACTERS else f"{said[:_DETAIL_CHARACTERS]}…"
    return short or type(error).__name__


def _key(entry: Any) -> str:
    return str(entry[0] if isinstance(entry, tuple | list) else entry)


def _is_pointer(path: Path) -> bool:
    if path.stat().st_size > _POINTER_BYTES:
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _shards(model: str, index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"model '{model}' has a broken {index.name}: {in_one_line(error)}") from error


def _check_weights(model: str, path: Path) -> None:
    """Compare a file's size with what its header says, without reading the weights."""
    size = path.stat().st_size
    if _is_pointer(path):
        raise ModelError(
            f"model '{model}' could not be loaded: {path} is a Git LFS pointer: run git lfs pull in {path.parent}"
        )
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(size - 8, _HEADER_BYTES):
                raise ValueError(f"its header has {length} bytes, the file {size}")
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        wanted = 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"model '{model}' could not be loaded: {path} is no whole safetensors file, fetch it again: "
            f"{in_one_line(error)}"
        ) from error
    if size != wanted:
        raise ModelError(
            f"model '{model}' could not be loaded: {path} has {size} bytes, and its header says {wanted}: "
            "fetch it again"
        )
