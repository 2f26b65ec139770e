"""Detects which source reads a bare path, for `mm.read("photos/")` and the command line."""

import os
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from mmsynth.errors import SourceError
from mmsynth.frames import VIDEO_EXTENSIONS
from mmsynth.io.locations import is_remote, is_web, local
from mmsynth.io.remote_files import files_below, path_at
from mmsynth.layout import RUN, STATS_ENDING
from mmsynth.secrets import without_secrets
from mmsynth.sources.beside import is_run
from mmsynth.sources.captions import load_json
from mmsynth.sources.folder import IMAGE_EXTENSIONS
from mmsynth.sources.foreign import is_captions_txt, json_hint
from mmsynth.sources.lines import cut_lines, read_lines
from mmsynth.sources.tables import TABLE_EXTENSIONS
from mmsynth.sources.tars import TAR_ENDINGS

_SAVED_DATASET = ("state.json", "dataset_dict.json")
_PATTERN = frozenset("*?[{")
_FILES_TO_LOOK_AT = 10_000


def detect(path: str) -> tuple[str, dict[str, Any]]:
    """The kind of source that reads `path`, and its parameters. Raises SourceError that says what is there."""
    if is_remote(path):
        return _remote(path)
    there = local(path)
    if there.is_dir():
        return _folder(path, there), {"path": path}
    if not there.exists() and not _PATTERN & set(path):
        hub = f"; for a dataset on the hub say kind: huggingface, path: {path}" if path.count("/") == 1 else ""
        raise SourceError(f"no such file or folder: {path}{hub}")
    return _file(path, there), {"path": path}


def _remote(url: str) -> tuple[str, dict[str, Any]]:
    bare = url.partition("?")[0]
    if bare.lower().endswith(TAR_ENDINGS):
        return "webdataset", {"path": url}
    extension = bare.rpartition(".")[2].lower()
    if extension == "txt":
        return "prompts", {"path": url}
    if extension in TABLE_EXTENSIONS:
        is_prompts = extension in {"jsonl", "ndjson"} and not _PATTERN & set(bare) and _holds_prompts(path_at(url))
        return "prompts" if is_prompts else "table", {"path": url}
    if not bare.endswith("/"):
        tables = ", ".join(f".{name}" for name in TABLE_EXTENSIONS)
        raise SourceError(
            f"cannot tell what {without_secrets(bare)} is: known at URLs are folders (with a / at the end), "
            f"{', '.join(TAR_ENDINGS)}, {tables} and .txt"
        )
    return _remote_folder(url), {"path": url}


def _remote_folder(url: str) -> str:
    """The kind of source for a remote folder, by its file names. If it cannot be listed (web servers), assume tars."""
    if is_web(url):
        return "webdataset"
    try:
        names = [name.lower() for name in islice(files_below(url), _FILES_TO_LOOK_AT)]
    except SourceError:
        return "webdataset"  # its check reports the problem
    ours = Counter(name.rpartition(".")[2] for name in names)
    if any(name.endswith(TAR_ENDINGS) for name in names):
        return "webdataset"
    if any(ours[extension] for extension in IMAGE_EXTENSIONS):
        return "folder"
    if any(ours[extension] for extension in TABLE_EXTENSIONS):
        return "table"
    if any(ours[extension] for extension in VIDEO_EXTENSIONS):
        return "folder"
    raise SourceError(f"no images, tars or tables in {without_secrets(url)}")


def _file(path: str, there: Path) -> str:
    extension = there.suffix.lower().removeprefix(".")
    if there.name.lower().endswith(TAR_ENDINGS):
        return "webdataset"
    if extension == "txt":
        return "table" if there.is_file() and is_captions_txt(there) else "prompts"
    if extension == "json" and there.is_file():
        raise SourceError(json_hint(path, there))
    if extension in {"gz", "bz2", "xz", "zst"}:
        raise SourceError(
            f"{path} is compressed, and only tars are read so (.tar.gz, .tgz): unpack it, and give what is in it"
        )
    if extension in {"jsonl", "ndjson"} and there.is_file() and _holds_prompts(there):
        return "prompts"
    if extension in TABLE_EXTENSIONS:
        return "table"
    if extension in IMAGE_EXTENSIONS:
        raise SourceError(f"{path} is one image: give the folder that it is in")
    tables = ", ".join(f".{name}" for name in TABLE_EXTENSIONS)
    raise SourceError(f"cannot tell what {path} is: known are folders, {', '.join(TAR_ENDINGS)}, {tables} and .txt")


def _holds_prompts(path: Path) -> bool:
    """Whether the first line of a jsonl file has a prompt and no image."""
    for span, _ in islice(cut_lines(path, 1), 1):
        for line in read_lines(path, span):
            try:
                first = load_json(line)
            except ValueError:
                return False
            return isinstance(first, dict) and "prompt" in first and "image" not in first
    return False


def _folder(path: str, there: Path) -> str:
    if any((there / name).is_file() for name in _SAVED_DATASET):
        return "huggingface"
    names = [entry.name.lower() for entry in os.scandir(there) if not entry.name.startswith(".")]
    if any(name.endswith(TAR_ENDINGS) for name in names):
        return "webdataset"
    below = Counter(_extensions(there))
    if any(below[extension] for extension in IMAGE_EXTENSIONS):
        return "folder"
    if RUN in names and any(name.endswith(STATS_ENDING) for name in names):
        raise SourceError(f"{path} is a run that kept no sample: mmsynth info {path} tells why")
    if any(name.rpartition(".")[2] in TABLE_EXTENSIONS for name in names):
        return "table"
    if any(below[extension] for extension in VIDEO_EXTENSIONS):
        return "folder"
    found = ", ".join(f"{n} .{extension}" for extension, n in below.most_common(4) if extension) or "nothing"
    raise SourceError(f"no images, tars or tables in {path}: found {found}")


def _extensions(there: Path) -> list[str]:
    """The extensions of the first files in a folder and below, hidden ones left out."""
    found: list[str] = []
    for folder, folders, files in os.walk(there):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not is_run(Path(folder, name)))
        found.extend(Path(folder, name).suffix.lower().removeprefix(".") for name in files if not name.startswith("."))
        if len(found) >= _FILES_TO_LOOK_AT:
            break
    return found
