"""Csv and tsv tables, readable from any row on. An unreadable row costs its own line and no other."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from mmsynth.errors import SourceError
from mmsynth.sources.lines import Span, check_text
from mmsynth.sources.rows import Broken, RepairedRow, Row

_DELIMITERS = (",", ";", "\t", "|")
#: whole images in base64 fit; what is longer is a quote that is never closed
csv.field_size_limit(2**25)


@dataclass(frozen=True)
class CsvTable:
    """A csv or tsv file with a header line. The delimiter is the candidate that occurs most often in the header."""

    path: Path

    @cached_property
    def _header(self) -> tuple[list[str], str, int]:
        """Column names, delimiter, and the byte at which the rows begin."""
        check_text(self.path)
        with self.path.open("rb") as file:
            first = file.readline().decode("utf-8-sig", "replace")
            delimiter = max(_DELIMITERS, key=first.count)
            file.seek(0)
            lines = _Lines(file, 0)
            try:
                names = next(csv.reader(lines, delimiter=delimiter, strict=True), [])
            except csv.Error as error:
                raise SourceError(f"the first line of {self.path} is not a header: {error}") from error
        if not any(names):
            raise SourceError(f"{self.path} is empty: its first line must name the columns")
        return [name.strip() for name in names], delimiter, lines.position

    def columns(self) -> list[str]:
        return self._header[0]

    def cut(self, rows_per_part: int) -> Iterator[tuple[Span, int]]:
        start = position = self._header[2]
        rows = 0
        for position, _ in self._records((start, None)):
            rows += 1
            if rows == rows_per_part:
                yield (start, position), rows
                start, rows = position, 0
        if rows:
            yield (start, position), rows

    def rows(self, span: Span, only: Sequence[str] | None = None) -> Iterator[Row | Broken]:
        for _, row in self._records(span):
            yield row

    def with_paths(self, columns: Sequence[str]) -> list[str]:
        return list(columns)

    def _records(self, span: tuple[int, int | None]) -> Iterator[tuple[int, Row | Broken]]:
        """Each row, and the byte at which the next begins."""
        names, delimiter, _ = self._header
        start, stop = span
        with self.path.open("rb") as file:
            file.seek(start)
            lines = _Lines(file, start)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            while stop is None or lines.position < stop:
                begin = lines.begin_record()
                try:
                    cells = next(reader)
                    row: Row | Broken = _row(names, cells, lines.was_repaired) if cells else {}
                except StopIteration:
                    return
                except csv.Error as error:
                    cells, row = [""], Broken(str(error))
                if isinstance(row, Broken):
                    # an unclosed quote swallows the rows after it: go back, and skip one line only
                    lines.go_back(begin)
                    reader = csv.reader(lines, delimiter=delimiter, strict=True)
                if cells:
                    yield lines.position, row


def _row(names: Sequence[str], cells: Sequence[str], was_repaired: bool) -> Row | Broken:
    if len(cells) < len(names) or any(cells[len(names) :]):
        return Broken(f"{len(cells)} cells, where the header has {len(names)}")
    row = zip(names, cells, strict=False)
    return RepairedRow(row) if was_repaired else dict(row)


class _Lines:
    """Decoded lines for csv.reader, which takes as many as a row spans. Counts the bytes taken."""

    def __init__(self, file: BinaryIO, position: int) -> None:
        self._file, self.position, self.was_repaired = file, position, False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        encoding = "utf-8-sig" if self.position == 0 else "utf-8"
        self.position += len(line)
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            self.was_repaired = True
            return _of_windows(line) or line.decode(encoding, "replace")

    def begin_record(self) -> int:
        self.was_repaired = False
        return self.position

    def go_back(self, begin: int) -> None:
        """Move to the end of the line that starts at `begin`."""
        self._file.seek(begin)
        self.position = begin + len(self._file.readline())


def _of_windows(line: bytes) -> str | None:
    """A line in Windows' western encoding: none of its bytes beyond ASCII make a character of UTF-8."""
    broken = line.decode("utf-8", "replace")
    if sum(byte > 127 for byte in line) != broken.count("�"):
        return None
    try:
        return line.decode("cp1252")
    except UnicodeDecodeError:
        return None
