"""From table rows to samples. Knows cells, not files: all kinds of tables give the same rows."""

import base64
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

from mmsynth.errors import SourceError
from mmsynth.image import Image
from mmsynth.keys import safe_key
from mmsynth.sample import Sample, check_picture_name
from mmsynth.sources.base import Unreadable
from mmsynth.sources.captions import captions_of, note, note_key, printable, source_record, with_originals
from mmsynth.sources.foreign import columns_hint, header_hint, is_url

Row = Mapping[str, Any]
#: what is longer is an image itself, as base64
_LONGEST_PATH = 4096
_DATA_URI = re.compile(r"data:[^,]{0,100};base64,")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]+={0,2}\s*")
#: shorter than any image in base64
_SHORTEST_BASE64 = 40


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that could not be read."""

    detail: str


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that hold images, captions and keys."""

    image: str
    caption: str | None
    key: str | None = None
    #: name of a further picture → its column
    images: Mapping[str, str] = field(default_factory=dict)


def pictures_by_name(given: Any) -> dict[str, str]:
    """The parameter `images` as name → column. In a list of columns, each column names its picture."""
    if isinstance(given, str):
        given = (given,)
    columns = given if isinstance(given, Mapping) else {column: column for column in given}
    names: list[str] = []
    for name in columns:
        try:
            check_picture_name(str(name), names)
        except ValueError as error:
            raise ValueError(f"{error}; write images: {{name: column}}") from error
        names.append(str(name))
    return dict(columns)


def check_columns(columns: Columns, found: Sequence[str], where: str, caption_may_be_missing: bool) -> None:
    """Raise SourceError if a column is missing. The message lists the columns and suggests the closest one."""
    wanted = [("image", columns.image), ("caption", columns.caption), ("key", columns.key)]
    wanted += [("images", column) for column in columns.images.values()]
    for parameter, name in wanted:
        if name is None or name in found or (parameter == "caption" and caption_may_be_missing):
            continue
        if parameter == "image" and (said := header_hint(where, found)):
            raise SourceError(said)
        close = difflib.get_close_matches(name, list(found), n=1)
        meant = f" Did you mean '{close[0]}'?" if close else ""
        hint = columns_hint(found, columns.caption is not None)
        line = f", such as {hint}" if hint else ""
        raise SourceError(
            f"no column '{name}' in {where}.{meant} Columns: {', '.join(found)}. Name the {parameter} column with "
            f"{parameter}=…{line}"
        )


@dataclass(frozen=True, slots=True)
class RowReader:
    """Turns the rows of the table `name` into samples. Its paths are relative to `folder`."""

    kind: str
    name: str
    folder: Path
    columns: Columns

    def sample(self, row: Row | Broken, index: int, key: str) -> Sample | Unreadable:
        """Row number `index` as a sample called `key`."""
        where = f"{self.name}:{index}"
        if isinstance(row, Broken):
            return Unreadable(key, "row_unreadable", row.detail, where)
        first, *others = _cells(row.get(self.columns.image))
        image = _image(first, self.folder)
        if not isinstance(image, Image):
            return Unreadable(key, *image, where)
        repaired: list[str] = ["caption_not_utf8"] if isinstance(row, RepairedRow) else []
        captions = captions_of(row.get(self.columns.caption), repaired) if self.columns.caption else []
        original = _key_cell(row, self.columns)
        note_key(original, key, repaired)
        about = self._about(row, index, first)
        images = self._further(row, others, about, repaired)
        record = source_record(self.kind, about, original if original != key else None, repaired)
        return with_originals(Sample(key, image, record={"source": record}, images=images), captions)

    def _further(self, row: Row, others: Sequence[Any], about: dict[str, Any], repaired: list[str]) -> dict[str, Image]:
        """Further pictures: those in named columns, and all but the first of a list of images."""
        cells: dict[str, Any] = {}
        lists = {name: _cells(row.get(column)) for name, column in self.columns.images.items()}
        names = _Names([*lists])
        for name, (one, *more) in lists.items():
            cells |= {name: one, **names.numbered(name, more)}
        cells |= names.numbered("image", others)
        images = {}
        for name, cell in cells.items():
            if _is_empty(cell):
                continue
            image = _image(cell, self.folder)
            if isinstance(image, Image):
                images[name] = image
                if path := _image_name(cell, self.folder):
                    about.setdefault("pictures", {})[name] = path
            else:
                note(repaired, "picture_unreadable")
                about.setdefault("pictures_unreadable", {})[name] = f"{image[0]}: {image[1]}"
        return images

    def _about(self, row: Row, index: int, cell: object) -> dict[str, Any]:
        about: dict[str, Any] = {"path": self.name, "index": index}
        image_name = _image_name(cell, self.folder)
        if image_name:
            about["image"] = image_name
        used = {self.columns.image, self.columns.caption, self.columns.key, *self.columns.images.values()}
        rest = {printable(name): json_value(value) for name, value in row.items() if name not in used}
        return about | {"row": rest} if rest else about


class RepairedRow(dict[str, Any]):
    """A row whose text was not UTF-8 and now has replacement characters."""


def row_key(row: Row | Broken, columns: Columns, index: int) -> str:
    """The key of a row, before duplicates are renamed: its key cell, else its number."""
    original = None if isinstance(row, Broken) else _key_cell(row, columns)
    return safe_key(original) if original is not None else f"{index:09d}"


def _key_cell(row: Row, columns: Columns) -> str | None:
    return key_text(row.get(columns.key)) if columns.key else None


def key_text(value: object) -> str | None:
    """The key in a cell, or None if it is empty."""
    return None if value is None or value == "" else str(value)


def _cells(cell: object) -> list[Any]:
    """The images in a cell that holds one image or a list of them. [None] for an empty list."""
    return list(cell) or [None] if isinstance(cell, list | tuple) else [cell]


def _is_empty(cell: object) -> bool:
    if isinstance(cell, Mapping):
        return cell.get("bytes") is None and not cell.get("path")
    return cell is None or cell == ""


class _Names:
    """Gives names to the pictures of lists: image1, image2, …, skipping names in use."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {name.lower() for name in taken}

    def numbered(self, name: str, cells: Sequence[Any]) -> dict[str, Any]:
        free = (f"{name}{i}" for i in count(1) if f"{name}{i}".lower() not in self._taken)
        named = dict(zip(islice(free, len(cells)), cells, strict=True))
        self._taken |= {one.lower() for one in named}
        return named


def _image(cell: object, folder: Path) -> Image | tuple[str, str]:
    """The image in a cell (a path, bytes, or {"bytes", "path"}), or reason and detail."""
    if isinstance(cell, Mapping) and (cell.get("bytes") is not None or cell.get("path")):
        cell = cell.get("bytes") if cell.get("bytes") is not None else cell.get("path")
    if isinstance(cell, bytes):
        return Image(cell)
    if cell is None or cell == "":
        return "image_missing", "the image cell is empty"
    if not isinstance(cell, str):
        return "image_cell_unreadable", f"neither a path nor bytes but {type(cell).__name__}"
    if is_url(cell):
        return "image_is_url", f"{cell[:200]}: download it first, with img2dataset"
    return _in_base64(cell) or _from_file(cell, folder)


def _from_file(name: str, folder: Path) -> Image | tuple[str, str]:
    try:
        path = _found(folder, name.strip())
        return Image.from_file(path) if path.is_file() else ("image_missing", f"no such file: {printable(name)[:200]}")
    except (OSError, ValueError) as error:  # a NUL in it, or a name longer than any file's
        return "image_missing", str(error)[:200]


def paths_in(cells: Iterable[object], folder: Path) -> Iterator[Path]:
    """The files that cells name as images, whether they are there or not."""
    for cell in cells:
        for one in cell if isinstance(cell, list | tuple) else [cell]:
            name = one.get("path") if isinstance(one, Mapping) and one.get("bytes") is None else one
            if isinstance(name, str) and 0 < len(name) <= _LONGEST_PATH and not is_url(name):
                yield folder / name.strip()


def _in_base64(cell: str) -> Image | None:
    """The image that a cell holds as text, as VLMEvalKit's tables do and data: URIs; None where it holds none."""
    uri = _DATA_URI.match(cell)
    text = cell[uri.end() :] if uri else cell
    if len(text) < _SHORTEST_BASE64 or not (uri or "." not in cell) or not _BASE64.fullmatch(text):
        return None
    try:
        image = Image(base64.b64decode("".join(text.split()), altchars=b"-_" if set(text) & set("-_") else None))
    except ValueError:
        return None
    return image if image.has_header else None


def _found(folder: Path, name: str) -> Path:
    """The file of that name; one that Windows wrote with backslashes, too."""
    path = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not path.is_file() else path


def _image_name(cell: object, folder: Path) -> str | None:
    """The image's path for the record: as the row has it, relative to the folder, or just the file name."""
    name = cell.get("path") if isinstance(cell, Mapping) else cell
    if not isinstance(name, str) or not name or _in_base64(name):
        return None
    path = Path(name)
    if path.is_absolute():
        name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    return printable(name)


def json_value(value: Any) -> Any:
    """A cell as JSON: bytes as base64, dates and the like as text, NaN as null."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {str(k): json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    return value if value is None or isinstance(value, bool | int) else str(value)
