"""The table source: one row per image, in csv, tsv, jsonl or parquet."""

import glob
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from mmsynth.errors import SourceError, Unreachable
from mmsynth.frames import MOST_FRAMES
from mmsynth.io.locations import is_remote
from mmsynth.io.remote_files import path_at, urls_matching
from mmsynth.sample import Sample
from mmsynth.sources.base import Slice, Source, Unreadable
from mmsynth.sources.beside import others_below
from mmsynth.sources.files import InputFile, input_file
from mmsynth.sources.folder import IMAGE_EXTENSIONS
from mmsynth.sources.foreign import is_url
from mmsynth.sources.frames import framed
from mmsynth.sources.lines import first_line
from mmsynth.sources.rows import Broken, Columns, Row, RowReader, check_columns, paths_in, pictures_by_name, row_key
from mmsynth.sources.tables import TABLE_EXTENSIONS, TableFile, open_table
from mmsynth.sources.unique import UniqueKeys

_ROWS_TO_LOOK_AT = 100
_TEXT_COLUMNS = {"text", "alt", "alt_text", "prompt", "captions"}
#: read by the byte: their rows are the bytes from one place to another
_WITH_HEADER = (".csv", ".tsv")
_PLAIN_TEXT = (*_WITH_HEADER, ".jsonl", ".ndjson")
_URL_COLUMNS = ("url", "image_url", "img_url", "image_link")


class Table(Source):
    """Read images that table rows name or hold: a csv, tsv, jsonl or parquet file, a glob, or a folder of them.

    The image column holds a path (absolute, or relative to the table's folder), the bytes themselves, or the datasets
    library's {"bytes", "path"}. If it holds lists, the first item is the main picture, and the others become `image1`,
    `image2`, … Name other columns that hold images with `images: {before: source_image}`. The record notes a further
    image that is not found as `picture_unreadable`. With `frames: 8`, a video or an animation gives the pictures
    `frame00` … `frame07`.

    The caption column holds a text or a list of texts. Other columns are kept in `record["source"]["row"]`. Without a
    key column, keys are the rows' numbers.
    """

    path: str
    image: str = "image"
    caption: str | None = "caption"
    key: str | None = None
    images: dict[str, str] = Field({}, description="further pictures, name → column, or a list of columns")
    frames: int | None = Field(None, ge=1, le=MOST_FRAMES, description="frames per video or animation, as pictures")

    @field_validator("images", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return pictures_by_name(given)

    def check(self) -> None:
        files = self._files()
        if not files:
            raise SourceError(f"no tables at {self.path}: a table's name ends in {', '.join(TABLE_EXTENSIONS)}")
        if not files[0].is_file():
            raise SourceError(f"no such table: {self.path}")
        table = open_table(files[0])
        found = table.columns()
        if self.image not in found:
            self._refuse_urls(next((name for name in found if name.lower() in _URL_COLUMNS), None))
        may_be_missing = self.caption == "caption" and "caption" not in self.model_fields_set
        texts = [name for name in found if name.lower() in _TEXT_COLUMNS]
        if may_be_missing and "caption" not in found and texts:
            raise SourceError(
                f"{files[0]} has no column 'caption', but '{texts[0]}': name the one with the captions "
                f"(caption={texts[0]}), or say that there is none (caption=null)"
            )
        check_columns(self._columns, found, str(files[0]), may_be_missing)
        rows = [row for row in islice(_first_rows(table, self.image), _ROWS_TO_LOOK_AT) if not isinstance(row, Broken)]
        cells = [row[self.image] for row in rows if row.get(self.image)]
        if cells and all(is_url(cell) for cell in cells):
            self._refuse_urls(self.image)

    def count(self) -> int | None:
        """The number of rows of parquet files. Other files would have to be read, so they give None."""
        files = self._files()
        if any(path.suffix.lower() != ".parquet" for path in files):
            return None
        try:
            return sum(rows for path in files for _, rows in open_table(path).cut(2**62))
        except SourceError:
            return None

    def not_read(self) -> Mapping[str, int]:
        """Other files in a folder of tables. Images do not count, because rows may name them."""
        folder = path_at(self.path)
        if not folder.is_dir():
            return {}
        others = others_below(self.path if is_remote(self.path) else folder, map(str, self._files()))
        return {kind: number for kind, number in others.items() if kind.removeprefix(".") not in IMAGE_EXTENSIONS}

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        keys = UniqueKeys()
        index = 0
        for path in self._files():
            row = 0
            table = open_table(path)
            try:
                table.columns()
            except Unreachable:
                raise
            except (SourceError, OSError) as error:
                yield Slice({"table": str(path), "broken": str(error), "index": index}, 1)
                index += 1
                continue
            for span, size in table.cut(samples_per_slice):
                payload = {"table": str(path), "span": list(span), "index": index, "row": row, "renamed": []}
                if self.key:
                    found = table.rows(span, only=[self.key])
                    names = [row_key(cells, self._columns, index + i) for i, cells in enumerate(found)]
                    payload["renamed"] = [[i, other] for i, other in keys.claim(names).items()]
                yield Slice(payload, size)
                index, row = index + size, row + size

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        yield from framed(self._read(payload), self.frames)

    def _read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        path, index = path_at(payload["table"]), payload["index"]
        if "broken" in payload:
            yield Unreadable(f"{index:09d}", "table_unreadable", payload["broken"], path.name)
            return
        start, stop = payload["span"]
        renamed = dict(payload["renamed"])
        reader = RowReader("table", path.name, path.parent, self._columns)
        for i, row in enumerate(open_table(path).rows((start, stop))):
            key = renamed.get(i) or row_key(row, self._columns, index + i)
            yield reader.sample(row, payload["row"] + i, key)

    def keys(self, one: Slice) -> Iterator[str]:
        index, renamed = one.payload["index"], dict(one.payload.get("renamed", ()))
        rows: Iterable[Row | Broken] = repeat({}, one.size or 0)  # numbered
        if self.key and "broken" not in one.payload:
            start, stop = one.payload["span"]
            rows = open_table(path_at(one.payload["table"])).rows((start, stop), only=[self.key])
        return (renamed.get(i) or row_key(row, self._columns, index + i) for i, row in enumerate(rows))

    def files(self, payload: Any) -> Iterator[InputFile]:
        """The rows, the header above them, and the images that they name."""
        path = path_at(payload["table"])
        if "broken" in payload or path.suffix.lower() not in _PLAIN_TEXT:
            yield input_file(path)
        else:
            start, stop = payload["span"]
            if path.suffix.lower() in _WITH_HEADER:
                yield input_file(path, 0, first_line(path))
            yield input_file(path, start, stop)
        if "broken" in payload or is_remote(str(path)):
            return
        table = open_table(path)
        columns = table.with_paths([self.image, *self.images.values()])
        if columns:
            start, stop = payload["span"]
            for row in table.rows((start, stop), only=columns):
                if not isinstance(row, Broken):
                    yield from map(input_file, paths_in((row.get(name) for name in columns), path.parent))

    @property
    def _columns(self) -> Columns:
        return Columns(self.image, self.caption, self.key, self.images)

    def _files(self) -> list[Path]:
        path = path_at(self.path)
        if path.is_dir():
            found = [p for p in sorted(path.iterdir()) if not p.name.startswith(".") and p.is_file()]
            # in a folder of mixed formats, the parquet files are the table, and the others describe it
            for extension in ("parquet", "jsonl", "ndjson", "csv", "tsv"):
                files = [p for p in found if p.suffix.lower() == f".{extension}"]
                if files:
                    return files
            return []
        if not path.exists() and any(character in self.path for character in "*?["):
            if is_remote(self.path):
                return [path_at(url) for url in urls_matching(self.path)]
            return [Path(p) for p in sorted(glob.glob(str(path)))]  # noqa: PTH207 - the pattern may be absolute
        return [path]

    def _refuse_urls(self, column: str | None) -> None:
        """Raise SourceError with the command that downloads a column of URLs. Does nothing without a column."""
        if column is None:
            return
        path = Path(self.path)
        caption = f" --caption_col {self.caption}" if self.caption else ""
        raise SourceError(
            f"the column '{column}' of {self.path} holds URLs, and mmsynth does not download: pip install img2dataset; "
            f"img2dataset --url_list {self.path} --input_format {path.suffix.lower().lstrip('.') or 'parquet'} "
            f"--url_col {column}{caption} --output_format webdataset --output_folder {path.stem}-images; "
            f"then read {path.stem}-images/"
        )


def _first_rows(table: TableFile, column: str) -> Iterator[Row | Broken]:
    for span, _ in islice(table.cut(_ROWS_TO_LOOK_AT), 1):
        yield from table.rows(span, only=[column])
