"""What a child process says on stderr: passed on, and its last line kept for the error that tells of its death."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STDERR = 2
_KEPT_BYTES = 4096
_DRAINED_WITHIN_S = 1.0


class LastWords:
    """Start a process within `heard()`; `line()` is the last one that it wrote, or "" where nothing can be heard."""

    def __init__(self) -> None:
        self._tail = b""
        self._thread: threading.Thread | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """A process that is started in this block inherits a pipe as its stderr."""
        try:
            if os.name != "posix":
                raise OSError("children inherit no file numbers here")
            usual = os.dup(_STDERR)
        except OSError:  # closed, as services do
            yield
            return
        ours, theirs = os.pipe()
        try:
            os.dup2(theirs, _STDERR)
            yield
        finally:
            os.dup2(usual, _STDERR)
            os.close(usual)
            os.close(theirs)
            self._thread = threading.Thread(target=self._pass_on, args=(ours,), name="mmsynth-stderr", daemon=True)
            self._thread.start()

    def _pass_on(self, pipe: int) -> None:
        while said := os.read(pipe, _KEPT_BYTES):
            self._tail = (self._tail + said)[-_KEPT_BYTES:]
            with suppress(OSError):  # nobody reads it any more
                os.write(_STDERR, said)
        os.close(pipe)

    def line(self) -> str:
        """To be asked when the process has ended."""
        if self._thread is not None:
            self._thread.join(_DRAINED_WITHIN_S)
        lines = self._tail.decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
