"""The folder source: a folder of image files, each with an optional caption file beside it.

Knows files and their names. Does not open images: the engine's threads read bytes on demand.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from mmsynth.errors import SourceError
from mmsynth.frames import MOST_FRAMES, VIDEO_EXTENSIONS
from mmsynth.image import Image
from mmsynth.io.locations import is_remote
from mmsynth.io.remote_files import files_below, path_at
from mmsynth.keys import safe_key
from mmsynth.sample import Sample, is_picture_name
from mmsynth.sources.base import Slice, Source, Unreadable, in_groups
from mmsynth.sources.captions import (
    caption_in,
    caption_of,
    note,
    printable,
    read_json,
    source_record,
    with_originals,
)
from mmsynth.sources.frames import framed
from mmsynth.sources.unique import UniqueKeys

IMAGE_EXTENSIONS = ("avif", "bmp", "gif", "jfif", "jpeg", "jpg", "png", "tif", "tiff", "webp")
_SIDECARS = ("txt", "json")
_SET_FRAMES = "videos are read with frames: the number of frames of each"
#: files that operating systems leave in folders; hidden files and folders (.name) are skipped too
_CLUTTER = frozenset({"thumbs.db", "desktop.ini"})


class Folder(Source):
    """Read the image files of a folder in path order, with captions from `x.txt` or `x.json` beside `x.jpg`.

    The key is the path in the folder without its extension: `sub/cat.jpg` → `sub_cat`. A file that is neither an
    image nor an image's caption gets a `failed` row. Hidden files and folders are skipped.

    `cat.before.jpg` beside `cat.jpg` is not a sample of its own but the picture `before` of that sample. It is a sample
    of its own if there is no `cat.jpg`, if it has its own caption (`cat.before.txt`), or if the name cannot be a
    picture's (`cat.2.jpg`, `my.cat.before.jpg`). With `frames: 8`, the source reads videos too: the first frame is the
    sample's image, and the video is a member. A video or an animation then gives the further pictures `frame00` …
    `frame07`.
    """

    path: str
    recursive: bool = True
    extensions: tuple[str, ...] = IMAGE_EXTENSIONS
    frames: int | None = Field(None, ge=1, le=MOST_FRAMES, description="frames per video or animation, as pictures")

    @field_validator("extensions")
    @classmethod
    def _plain_extensions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(extension.lower().lstrip(".") for extension in value)

    def check(self) -> None:
        root = self._root()
        if not root.exists():
            raise SourceError(f"no such folder: {self.path}")
        if not root.is_dir():
            raise SourceError(f"{self.path} is a file, not a folder: give the folder that it is in")
        found = _remote_files if is_remote(str(root)) else _files
        there = Counter(file.extension for file in found(root, self.recursive))
        if not any(there[extension] for extension in self._inputs_end_in):
            where = "in it or below" if self.recursive else "directly in it (recursive is off)"
            has_videos = any(there[extension] for extension in VIDEO_EXTENSIONS)
            raise SourceError(
                f"no images in {self.path}: no file {where} ends in {', '.join(self.extensions)}"
                + (f"; {_SET_FRAMES}" if has_videos else "")
            )

    def count(self) -> int | None:
        return sum(1 for _ in self._inputs())

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        keys = UniqueKeys()
        for items in in_groups(self._inputs(), samples_per_slice):
            for position, other in keys.claim([item["key"] for item in items]).items():
                items[position] |= {"key": other, "repeat_of": items[position]["key"]}
            yield Slice(items, len(items))

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        yield from framed(self._read(payload), self.frames)

    def _read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        root = self._root()
        for item in payload:
            if "reason" in item:
                where = printable(item["path"])
                yield Unreadable(item["key"], item["reason"], self._detail(item), where)
            else:
                yield _sample(root, item)

    def keys(self, one: Slice) -> Iterator[str]:
        return (item["key"] for item in one.payload)

    def _detail(self, item: dict[str, Any]) -> str:
        if item["reason"] != "not_an_image_file":
            return str(item["detail"])
        is_video = item["path"].rpartition(".")[2].lower() in VIDEO_EXTENSIONS
        return _SET_FRAMES if is_video else f"not one of {', '.join(self.extensions)}"

    @property
    def _inputs_end_in(self) -> tuple[str, ...]:
        return self.extensions if self.frames is None else (*self.extensions, *VIDEO_EXTENSIONS)

    def _root(self) -> Path:
        return path_at(self.path)

    def _inputs(self) -> Iterator[dict[str, Any]]:
        """One item for each image and each file that is neither image nor caption, in order."""
        found = _remote_files if is_remote(str(self._root())) else _files
        files = sorted(found(self._root(), self.recursive), key=lambda file: file.path)
        images = {file.stem for file in files if file.extension in {*self._inputs_end_in, *IMAGE_EXTENSIONS}}
        sidecars = _sidecars(files)
        further = self._further(files, {stem for paths in sidecars.values() for stem in paths})
        belonging = {path for pictures in further.values() for path in pictures.values()}
        for file in files:
            if file.problem:
                yield _refused(file, *file.problem)
            elif file.path in belonging:
                continue
            elif file.extension in self._inputs_end_in:
                beside = {name: paths[file.stem] for name, paths in sidecars.items() if file.stem in paths}
                # if several images share this name, the first one gets the further pictures
                pictures = {"pictures": further.pop(file.stem)} if file.stem in further else {}
                yield {"path": file.path, "key": safe_key(file.stem.replace("/", "_"))} | beside | pictures
            elif file.extension in sidecars:
                if file.stem not in images:
                    yield _refused(file, "caption_without_image", "no image of that name beside it")
            elif file.extension not in IMAGE_EXTENSIONS:
                yield _refused(file, "not_an_image_file", _as_in_0_1(self.extensions))

    def _further(self, files: Sequence["_File"], captioned: Collection[str]) -> dict[str, dict[str, str]]:
        """Stem of an image → its further pictures: name → path."""
        stems = {file.stem for file in files if file.extension in self._inputs_end_in and not file.problem}
        further: dict[str, dict[str, str]] = {}
        for file in files:
            if file.extension not in self.extensions or file.problem or file.stem in captioned:
                continue
            folder, slash, name = file.stem.rpartition("/")
            base, _, picture = name.rpartition(".")
            stem = folder + slash + base
            if stem not in stems or "." in base or not is_picture_name(picture):
                continue
            pictures = further.setdefault(stem, {})
            if picture.lower() not in map(str.lower, pictures):
                pictures[picture] = file.path
        return further


@dataclass(slots=True)
class _File:
    path: str  # relative to the root, with forward slashes
    stem: str = field(init=False)
    extension: str = field(init=False)
    problem: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        self.stem, suffix = os.path.splitext(self.path)  # noqa: PTH122 - twenty times as fast, for 100,000 files
        self.extension = suffix[1:].lower()


def _sidecars(files: Iterable[_File]) -> dict[str, dict[str, str]]:
    """By extension: stem → path as it is written."""
    sidecars: dict[str, dict[str, str]] = {extension: {} for extension in _SIDECARS}
    for file in files:
        if file.extension in sidecars:
            sidecars[file.extension].setdefault(file.stem, file.path)
    return sidecars


def _files(root: Path, recursive: bool) -> Iterator[_File]:
    """Every file that is not hidden, in no order. Follows links to folders, and enters each folder once."""
    entered: set[tuple[int, int]] = set()
    folders, linked = [""], list[str]()
    while folders or linked:
        # real folders first, so that a file's path does not depend on the links to it
        folder = folders.pop() if folders else linked.pop(0)
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            yield _File(folder or ".", ("folder_unreadable", error.strerror or str(error)))
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _CLUTTER:
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                if recursive:
                    (linked if entry.is_symlink() else folders).append(path)
            else:
                yield _File(path, None if entry.is_file() else _why_not_a_file(entry))


def _remote_files(root: Path, recursive: bool) -> Iterator[_File]:
    """Every file that is not hidden in the folder at a URL, from one listing."""
    for path in files_below(str(root), depth=None if recursive else 1):
        names = path.split("/")
        if not any(name.startswith(".") for name in names) and names[-1].lower() not in _CLUTTER:
            yield _File(path)


def _why_not_a_file(entry: "os.DirEntry[str]") -> tuple[str, str]:
    if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110 - entry.path is text
        return "link_to_nothing", "a symbolic link whose target is not there"
    return "not_a_regular_file", "a pipe, socket or device"


def _as_in_0_1(extensions: Sequence[str]) -> str:
    """Version 0.1's detail for a file that is no image. It may not change, because it enters the identity of blocks."""
    return f"not one of {', '.join(extension for extension in extensions if extension != 'avif')}"


def _refused(file: _File, reason: str, detail: str) -> dict[str, Any]:
    return {"path": file.path, "key": safe_key(file.path), "reason": reason, "detail": detail}


def _sample(root: Path, item: dict[str, Any]) -> Sample:
    path, key = item["path"], item["key"]
    repaired: list[str] = []
    about: dict[str, Any] = {"path": printable(path)}
    stem = path.rpartition(".")[0]
    if "repeat_of" in item:
        note(repaired, "duplicate_key")
    plain = item.get("repeat_of", key) == stem.replace("/", "_")
    if not plain:
        note(repaired, "key_cleaned")
    caption = _sidecar_caption(root, item, about, repaired)
    original = item.get("repeat_of") if plain else stem
    if "pictures" in item:
        about["pictures"] = {name: printable(further) for name, further in item["pictures"].items()}
    record = {"source": source_record("folder", about, original, repaired)}
    images = {name: Image.from_file(root / further) for name, further in item.get("pictures", {}).items()}
    return with_originals(Sample(key, Image.from_file(root / path), record=record, images=images), caption)


def _sidecar_caption(root: Path, item: dict[str, Any], about: dict[str, Any], repaired: list[str]) -> Iterable[str]:
    """The caption in the `.txt` beside the image, else in its `.json`, whose fields go into `about["json"]`."""
    caption = None
    if "txt" in item:
        caption = caption_of(_sidecar_bytes(root / item["txt"], repaired), repaired)
    if "json" in item:
        data = _sidecar_bytes(root / item["json"], repaired)
        fields = read_json(data, about, repaired) if data is not None else None
        if fields is not None:
            about["json"] = fields
            caption = caption or caption_in(fields, repaired)
    return [caption] if caption else []


def _sidecar_bytes(path: Path, repaired: list[str]) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        note(repaired, "sidecar_unreadable")
        return None
