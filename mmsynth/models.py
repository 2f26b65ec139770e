"""Where models come from: `model:` is a hub id, a local folder, or `nano`; which device and dtype they run in.

Importing this loads no torch. Loading weights is each stage's own business, with the library made for it.
"""

import hashlib
import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmsynth.errors import ModelError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

DTYPES = ("auto", "float32", "float16", "bfloat16")
_WHOLE_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that was loaded: what goes into provenance and run.json."""

    id: str
    revision: str
    dtype: str


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model found: the folder it is loaded from, and the revision of what is in it."""

    id: str
    folder: Path
    revision: str


def find_model(model: str, *, revision: str | None = None, patterns: list[str] | None = None) -> ModelFiles:
    """The folder of `model`: a local folder as it is, a hub id from the cache or the hub.

    `patterns` limits which files of a hub repository are fetched. Raises ModelError in one line, offline too.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return ModelFiles(model, folder, _folder_revision(folder))
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise ModelError(f"model '{model}' is no local folder and no hub id (owner/name)")
    return _from_hub(model, revision, patterns)


def _from_hub(model: str, revision: str | None, patterns: list[str] | None) -> ModelFiles:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ModelError(f"model '{model}' comes from the hub: pip install 'mmsynth[all]'") from error
    try:
        folder = snapshot_download(model, revision=revision, allow_patterns=patterns)
    except Exception as error:  # the hub's client raises a dozen kinds; all mean "cannot be had"
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model '{model}' cannot be had: not a local folder, not in the hub's cache, and the hub says: "
            f"{first_line} (check the name, the network and HF_TOKEN, or use a local folder or 'nano')"
        ) from error
    return ModelFiles(model, Path(folder), Path(folder).name)


_trusted: set[str] = set()


def trust(model: str) -> None:
    """Let recipes run the code that comes with `model`. Stages that are built in Python need no such word."""
    _trusted.add(model)


def is_trusted(model: str) -> bool:
    """Whether `trust` was said of it in this process."""
    return model in _trusted


@contextmanager
def loading_quietly(*libraries: str) -> Iterator[None]:
    """Without the bars of `libraries` (transformers, diffusers) and without what they or their imports deprecate.

    The weights are on disk already, and a bar within ours tears it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        bars = [importlib.import_module(f"{name}.utils.logging") for name in libraries]
        shown = [bar for bar in bars if bar.is_progress_bar_enabled()]
        for bar in shown:
            bar.disable_progress_bar()
        try:
            yield
        finally:
            for bar in shown:
                bar.enable_progress_bar()


def tell_of_nano(stage: str, real: str) -> None:
    """Say in one line that `stage` runs on its nano model, and name a `real` one."""
    log.info(
        "%s runs on 'nano', the small offline default, which knows drawn scenes and nothing else; "
        "name a real model for the rest, such as model='%s'",
        stage,
        real,
    )


def _folder_revision(folder: Path) -> str:
    """A digest of a local folder's files: whole where small, size and both ends where large."""
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


def resolve_device(device: str = "auto") -> str:
    """`auto` is the first CUDA device, else Apple's, else the CPU. Loads torch only when asked for `auto`."""
    if device != "auto":
        return device
    try:
        import torch
    except ImportError:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def resolve_dtype(dtype: str, device: str) -> "torch.dtype":
    """`auto` is bfloat16 where the hardware has it (CUDA, CPUs with avx512_bf16 or amx) and float32 elsewhere."""
    import torch

    if dtype != "auto":
        resolved = getattr(torch, dtype)
        assert isinstance(resolved, torch.dtype)
        return resolved
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device == "cpu" and _cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def _cpu_has_bfloat16() -> bool:
    import torch

    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)
