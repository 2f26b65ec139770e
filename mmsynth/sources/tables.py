"""Table files: csv and tsv, jsonl, parquet. Each gives its columns, its parts, and the rows of a part."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from mmsynth.errors import SourceError
from mmsynth.io.locations import is_remote
from mmsynth.sources.csv_table import CsvTable
from mmsynth.sources.lines import Span, check_text, cut_lines, json_line, read_lines
from mmsynth.sources.rows import Broken, RepairedRow, Row

_ROWS_TO_LOOK_AT = 100
#: rows decoded together: many if they are short, few if they hold whole images
_BYTES_PER_BATCH = 2**24
_MOST_ROWS_PER_BATCH = 2**14


class TableFile(Protocol):
    """One file of a table."""

    @property
    def path(self) -> Path: ...

    def columns(self) -> list[str]:
        """The names of the columns. Raises SourceError if the file is not of the format that its name says."""

    def cut(self, rows_per_part: int) -> Iterator[tuple[Span, int]]:
        """Parts for `rows` to read, each with its number of rows."""

    def rows(self, span: Span, only: Sequence[str] | None = None) -> Iterator[Row | Broken]:
        """The rows of a part. With `only`, it may leave out other columns."""

    def with_paths(self, columns: Sequence[str]) -> list[str]:
        """Those of `columns` that may name files, and hold no images themselves."""


@dataclass(frozen=True)
class JsonLines:
    """A JSON object in each line."""

    path: Path

    def columns(self) -> list[str]:
        check_text(self.path)
        found: dict[str, None] = {}
        for span, _ in islice(cut_lines(self.path, _ROWS_TO_LOOK_AT), 1):
            for row in self.rows(span):
                found |= dict.fromkeys(row) if not isinstance(row, Broken) else {}
        if not found:
            raise SourceError(f"no JSON objects in {self.path}: each line must hold one")
        return list(found)

    def cut(self, rows_per_part: int) -> Iterator[tuple[Span, int]]:
        return cut_lines(self.path, rows_per_part)

    def rows(self, span: Span, only: Sequence[str] | None = None) -> Iterator[Row | Broken]:
        for line in read_lines(self.path, span):
            yield json_row(line)

    def with_paths(self, columns: Sequence[str]) -> list[str]:
        return list(columns)


def json_row(line: bytes) -> Row | Broken:
    """The JSON object in a line, as a row."""
    try:
        return json_line(line)
    except UnicodeDecodeError:
        try:
            return RepairedRow(json_line(line.decode("utf-8", "replace")))
        except ValueError as error:
            return Broken(str(error))
    except ValueError as error:
        return Broken(str(error))


@dataclass(frozen=True)
class Parquet:
    """A parquet file; its parts are row ranges."""

    path: Path

    @cached_property
    def _file(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            there = self.path.open("rb") if self._is_remote else self.path
            # not ahead in threads, which would outlive a run that ends early
            return pq.ParquetFile(there, page_checksum_verification=True, pre_buffer=not self._is_remote)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{self.path} cannot be read as parquet: {str(error).splitlines()[0]}") from error

    @property
    def _is_remote(self) -> bool:
        return is_remote(str(self.path))

    def columns(self) -> list[str]:
        return list(self._file.schema_arrow.names)

    def cut(self, rows_per_part: int) -> Iterator[tuple[Span, int]]:
        rows = self._file.metadata.num_rows
        for start in range(0, rows, rows_per_part):
            stop = min(start + rows_per_part, rows)
            yield (start, stop), stop - start

    def rows(self, span: Span, only: Sequence[str] | None = None) -> Iterator[Row | Broken]:
        position = span[0]
        for group, first, last in self._groups(span):
            end = position + last - first
            try:
                for row in self._rows_of(group, first, last, only):
                    yield row
                    position += 1
            except (OSError, ValueError) as error:  # pyarrow's errors derive from either
                detail = str(error).splitlines()[0] if str(error) else type(error).__name__
                yield from (Broken(detail) for _ in range(end - position))
                position = end

    def with_paths(self, columns: Sequence[str]) -> list[str]:
        schema = self._file.schema_arrow
        return [name for name in columns if name in schema.names and _is_text(schema.field(name).type)]

    def _groups(self, span: Span) -> Iterator[tuple[int, int, int]]:
        """The row groups that the span touches, each with its first row in the span and the row after its last."""
        start, stop = span
        begin = 0
        for group in range(self._file.metadata.num_row_groups):
            end = begin + self._file.metadata.row_group(group).num_rows
            if begin < stop and end > start:
                yield group, max(start, begin) - begin, min(stop, end) - begin
            begin = end

    def _rows_of(self, group: int, first: int, last: int, only: Sequence[str] | None) -> Iterator[Row]:
        begin = 0
        columns = list(only) if only else None
        about = self._file.metadata.row_group(group)
        rows = max(1, min(_BYTES_PER_BATCH * about.num_rows // max(about.total_byte_size, 1), _MOST_ROWS_PER_BATCH))
        threads = not self._is_remote
        for batch in self._file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=threads):
            end = begin + batch.num_rows
            if end > first and begin < last:
                start = max(first - begin, 0)
                yield from batch.slice(start, min(last, end) - begin - start).to_pylist()
            begin = end
            if begin >= last:
                return


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


_KINDS: dict[str, type[CsvTable] | type[JsonLines] | type[Parquet]] = {
    "csv": CsvTable,
    "tsv": CsvTable,
    "jsonl": JsonLines,
    "ndjson": JsonLines,
    "parquet": Parquet,
}
TABLE_EXTENSIONS = tuple(_KINDS)


def open_table(path: Path) -> TableFile:
    """The table in a file, by its extension. Reads nothing yet. Raises SourceError."""
    extension = path.suffix.lower().removeprefix(".")
    # Flickr8k's captions.txt; other text files hold prompts
    kind = CsvTable if extension == "txt" else _KINDS.get(extension)
    if kind is None:
        raise SourceError(f"{path} is not a table: a table's name ends in {', '.join(f'.{name}' for name in _KINDS)}")
    return kind(path)
