"""stdout and stderr that end no command: not UTF-8, closed, a pipe whose reader has gone, a full disk."""

import os
import sys
from contextlib import suppress
from typing import Any, Literal, TextIO, cast


def prepare() -> None:
    """What this process prints is replaced where the encoding has no such character; what is closed takes anything."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            # takes the number of the one that is closed, or the next file that is opened would have it
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115, PTH123
        elif number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace" if number == 1 else "backslashreplace")


def _let_go(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Lenient:
    """sys.stdout or sys.stderr as it is now, for what is only told: a table that cannot be printed ends nothing."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name

    @property
    def _stream(self) -> TextIO:
        stream = getattr(sys, self._name)
        # a live progress bar puts itself in their places
        return cast(TextIO, getattr(stream, "rich_proxied_file", stream))

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            _let_go(self._stream)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            _let_go(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def is_utf8(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf8")
