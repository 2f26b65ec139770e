"""Text files in parts: which bytes hold which lines, so that any part can be read on its own."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmsynth.errors import SourceError
from mmsynth.sources.captions import load_json

#: a part of a file: its bytes from `[0]` to `[1]`
Span = tuple[int, int]


def check_text(path: Path) -> None:
    """Raise SourceError if the file is UTF-16 or not text."""
    with path.open("rb") as file:
        begin = file.read(4096)
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SourceError(f"{path} is UTF-16: save it as UTF-8")
    if b"\0" in begin:
        raise SourceError(f"{path} is not a text file")


def cut_lines(path: Path, lines_per_part: int) -> Iterator[tuple[Span, int]]:
    """Cut a file into parts of `lines_per_part` non-blank lines. Gives each part and its number of lines."""
    with path.open("rb") as file:
        start = position = lines = 0
        for line in file:
            position += len(line)
            lines += not is_blank(line)
            if lines == lines_per_part:
                yield (start, position), lines
                start, lines = position, 0
        if lines:
            yield (start, position), lines


def read_lines(path: Path, span: Span) -> Iterator[bytes]:
    """The non-blank lines of a part, without a byte order mark."""
    start, stop = span
    with path.open("rb") as file:
        file.seek(start)
        position = start
        while position < stop and (line := file.readline()):
            if not is_blank(line):
                yield line.removeprefix(codecs.BOM_UTF8) if position == 0 else line
            position += len(line)


def first_line(path: Path) -> int:
    """How many bytes the first line has."""
    with path.open("rb") as file:
        return len(file.readline())


def is_blank(line: bytes) -> bool:
    return not line.removeprefix(codecs.BOM_UTF8).strip()


def json_line(line: bytes | str) -> dict[str, Any]:
    """The JSON object in a line. Raises ValueError."""
    value = load_json(line)
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object but {type(value).__name__}")
    return value
