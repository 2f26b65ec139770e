"""The folder source: a folder of image files, each with an optional caption file beside it.

Knows files and their names. Does not open images: the engine's threads read bytes on demand.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from mmsynth.errors import SourceError
from mmsynth.frames import MOST_FRAMES, VIDEO_EXTENSIONS
from mmsynth.image import Image
from mmsynth.io.locations import is_remote
from mmsynth.io.remote_files import files_below, infos_below, path_at
from mmsynth.keys import safe_key
from mmsynth.layout import RUN
from mmsynth.sample import Sample, is_picture_name
from mmsynth.sources.base import Slice, Source, Unreadable, in_groups
from mmsynth.sources.beside import A_RUN, CLUTTER, is_run, others_below
from mmsynth.sources.captions import (
    note,
    printable,
    source_record,
    with_originals,
)
from mmsynth.sources.files import InputFile, input_file, remote_file
from mmsynth.sources.frames import framed
from mmsynth.sources.sidecars import EXTENSIONS, FoundFile, Sidecars, read_captions
from mmsynth.sources.tables import TABLE_EXTENSIONS
from mmsynth.sources.unique import UniqueKeys

IMAGE_EXTENSIONS = ("avif", "bmp", "gif", "jfif", "jpeg", "jpg", "png", "tif", "tiff", "webp")
#: why a file has a row and is no input
_NO_INPUTS = frozenset({"not_an_image_file", "caption_without_image"})
_SET_FRAMES = "videos are read with frames: the number of frames of each"


class Folder(Source):
    """Read the image files of a folder in path order, with captions from `x.txt` or `x.json` beside `x.jpg`.

    `x.caption` and `x.jpg.txt` are as good as `x.txt`. A `metadata.jsonl` or `metadata.csv` with a column `file_name`,
    as Hugging Face's ImageFolder has it, gives the images beside it the captions in its `caption` or `text`.

    The key is the path in the folder without its extension, `sub/cat.jpg` → `sub_cat`. A file that is no image and
    no caption of one gets a `dropped` row; hidden files and folders are left out, and folders that mmsynth writes to.

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

    def not_read(self) -> Mapping[str, int]:
        """Runs of mmsynth below, and what lies in sub-folders that are not read. Every other file has a row."""
        if is_remote(self.path):
            return {}
        root = self._root()
        others = others_below(root, (str(root / file.path) for file in _files(root, self.recursive)))
        return {kind: number for kind, number in others.items() if kind == A_RUN or not self.recursive}

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        _remote_infos.cache_clear()
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
                is_input = item["reason"] not in _NO_INPUTS
                yield Unreadable(item["key"], item["reason"], self._detail(item), where, is_input)
            else:
                yield _sample(root, item)

    def keys(self, one: Slice) -> Iterator[str]:
        return (item["key"] for item in one.payload)

    def files(self, payload: Any) -> Iterator[InputFile]:
        root = str(self._root())
        infos = _remote_infos(root, self.recursive) if is_remote(root) else None
        for item in payload:
            if "reason" in item:
                continue
            for path in (item["path"], *(item[name] for name in EXTENSIONS if name in item), *_pictures(item).values()):
                if infos is None:
                    yield input_file(f"{root}/{path}")
                else:
                    yield remote_file(f"{root.rstrip('/')}/{path}", infos.get(path, {}))

    def _detail(self, item: dict[str, Any]) -> str:
        if item["reason"] != "not_an_image_file":
            return str(item["detail"])
        extension = item["path"].rpartition(".")[2].lower()
        if extension in TABLE_EXTENSIONS:
            return f"a table: to read its images and captions, give {printable(item['path'])} itself as the source"
        return _SET_FRAMES if extension in VIDEO_EXTENSIONS else f"not one of {', '.join(self.extensions)}"

    @property
    def _inputs_end_in(self) -> tuple[str, ...]:
        return self.extensions if self.frames is None else (*self.extensions, *VIDEO_EXTENSIONS)

    def _root(self) -> Path:
        return path_at(self.path)

    def _inputs(self) -> Iterator[dict[str, Any]]:
        """One item for each image and each file that is neither image nor caption, in order."""
        found = _remote_files if is_remote(str(self._root())) else _files
        files = sorted(found(self._root(), self.recursive), key=lambda file: file.path)
        pictured = [file for file in files if file.extension in {*self._inputs_end_in, *IMAGE_EXTENSIONS}]
        images = {name for file in pictured for name in (file.stem, file.path)}
        sidecars = Sidecars(self._root(), files)
        further = self._further(files, sidecars)
        belonging = {path for pictures in further.values() for path in pictures.values()}
        for file in files:
            if file.problem:
                yield _refused(file, *file.problem)
            elif file.path in belonging:
                continue
            elif file.extension in self._inputs_end_in:
                # the first of several images with this name has them
                pictures = {"pictures": further.pop(file.stem)} if file.stem in further else {}
                yield {"path": file.path, "key": safe_key(file.stem.replace("/", "_"))} | sidecars.of(file) | pictures
            elif file.extension in EXTENSIONS:
                if file.stem not in images:
                    yield _refused(file, "caption_without_image", "no image of that name beside it")
            elif file.extension not in IMAGE_EXTENSIONS and file.path not in sidecars.tables:
                yield _refused(file, "not_an_image_file", _as_in_0_1(self.extensions))
        there = {file.path for file in files}
        for path in sidecars.named():
            if path not in there:
                yield _refused(FoundFile(path), "image_missing", "named in the metadata of its folder, and not there")

    def _further(self, files: Sequence[FoundFile], sidecars: Sidecars) -> dict[str, dict[str, str]]:
        """Stem of an image → its further pictures: name → path."""
        stems = {file.stem for file in files if file.extension in self._inputs_end_in and not file.problem}
        further: dict[str, dict[str, str]] = {}
        for file in files:
            if file.extension not in self.extensions or file.problem or sidecars.has_text(file):
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


def _files(root: Path, recursive: bool) -> Iterator[FoundFile]:
    """Every file that is not hidden, in no order. Follows links to folders, but enters no folder twice."""
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
            yield FoundFile(folder or ".", ("folder_unreadable", error.strerror or str(error)))
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                if recursive and not is_run(Path(entry.path)):
                    (linked if entry.is_symlink() else folders).append(path)
            else:
                yield FoundFile(path, None if entry.is_file() else _why_not_a_file(entry))


def _remote_files(root: Path, recursive: bool) -> Iterator[FoundFile]:
    """The same of a folder at a URL, in one listing."""
    paths = files_below(str(root), depth=None if recursive else 1)
    runs = tuple(
        f"{path.rpartition('/')[0]}/" for path in paths if path.endswith(f"/{RUN}") and is_run((root / path).parent)
    )
    for path in paths:
        names = path.split("/")
        if (
            not path.startswith(runs)
            and not any(name.startswith(".") for name in names)
            and names[-1].lower() not in CLUTTER
        ):
            yield FoundFile(path)


@lru_cache(maxsize=4)
def _remote_infos(root: str, recursive: bool) -> dict[str, dict[str, Any]]:
    """What one listing tells of every file, for all slices of a run."""
    return infos_below(root, depth=None if recursive else 1)


def _pictures(item: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = item.get("pictures", {})
    return found


def _why_not_a_file(entry: "os.DirEntry[str]") -> tuple[str, str]:
    if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110 - entry.path is text
        return "link_to_nothing", "a symbolic link whose target is not there"
    return "not_a_regular_file", "a pipe, socket or device"


def _as_in_0_1(extensions: Sequence[str]) -> str:
    """Version 0.1's detail for a file that is no image. It may not change, because it enters the identity of blocks."""
    return f"not one of {', '.join(extension for extension in extensions if extension != 'avif')}"


def _refused(file: FoundFile, reason: str, detail: str) -> dict[str, Any]:
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
    captions = read_captions(root, item, about, repaired)
    original = item.get("repeat_of") if plain else stem
    if "pictures" in item:
        about["pictures"] = {name: printable(further) for name, further in item["pictures"].items()}
    record = {"source": source_record("folder", about, original, repaired)}
    images = {name: Image.from_file(root / further) for name, further in item.get("pictures", {}).items()}
    return with_originals(Sample(key, Image.from_file(root / path), record=record, images=images), captions)
