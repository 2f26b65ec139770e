"""Finds models: `model:` is a hub id, a local folder, or `nano`, a small model that a plugin ships."""

import hashlib
import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

from mmsynth.errors import ModelError

#: distributions name the folders of the small models that they ship in this entry point group: kind → a Path
NANO_GROUP = "mmsynth.nano"
_WHOLE_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model's entry in provenance and run.json."""

    id: str
    revision: str
    dtype: str


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's folder, and the revision of its content."""

    id: str
    folder: Path
    revision: str


def find_model(
    model: str, *, revision: str | None = None, patterns: list[str] | None = None, ignored: list[str] | None = None
) -> ModelFiles:
    """The folder of `model`: a local folder as it is, a hub id from the cache or the hub.

    `patterns` limits which files of a hub repository are fetched, less those that are `ignored`. Raises ModelError in
    one line, offline too.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return ModelFiles(model, folder, _folder_revision(folder))
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise ModelError(f"model '{model}' is neither a local folder nor a hub id (owner/name)")
    return _from_hub(model, revision, patterns, ignored)


def nano_files(kind: str) -> ModelFiles:
    """The small model of a kind (`chat`, `clip`, `diffusion`) that an installed plugin ships. Raises ModelError."""
    for entry in importlib.metadata.entry_points(group=NANO_GROUP, name=kind):
        folder = Path(entry.load())
        return ModelFiles("nano", folder, _folder_revision(folder))
    raise ModelError(f"no installed plugin ships a nano model for {kind}: name another model by folder or hub id")


def first_line(error: BaseException) -> str:
    """The first line of another library's error."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _from_hub(model: str, revision: str | None, patterns: list[str] | None, ignored: list[str] | None) -> ModelFiles:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ModelError(f"model '{model}' comes from the hub: pip install 'mmsynth[all]'") from error
    try:
        folder = snapshot_download(model, revision=revision, allow_patterns=patterns, ignore_patterns=ignored)
    except Exception as error:  # the hub's client raises a dozen kinds; all mean that there is no model
        raise ModelError(
            f"model '{model}' could not be found or downloaded: no local folder, not in the hub's cache, and "
            f"the hub says: {first_line(error)} "
            "(check the name, the network and HF_TOKEN, or use a local folder or 'nano')"
        ) from error
    return ModelFiles(model, Path(folder), Path(folder).name)


def _folder_revision(folder: Path) -> str:
    """A digest of a local folder's files. Covers small files whole, and size and both ends of large ones."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_WHOLE_FILE_BYTES))
            if size > _WHOLE_FILE_BYTES:
                file.seek(-min(size - _WHOLE_FILE_BYTES, 2**20), os.SEEK_END)
                digest.update(file.read())
    return f"files-{digest.hexdigest()}"
