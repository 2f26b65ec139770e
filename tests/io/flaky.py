"""A file system that fails as lines do: the first calls of an operation, as many as a test wants."""

import functools
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

_inside = threading.local()


def _flaky(name: str) -> Callable[..., Any]:
    """The operation of the memory file system, which may fail first; not where another operation calls it."""
    whole = getattr(MemoryFileSystem, name)

    @functools.wraps(whole)
    def operation(self: "FlakyFileSystem", *arguments: Any, **options: Any) -> Any:
        if getattr(_inside, "an_operation", False):
            return whole(self, *arguments, **options)
        self.may_fail(name)
        _inside.an_operation = True
        try:
            return whole(self, *arguments, **options)
        finally:
            _inside.an_operation = False

    return operation


class FlakyFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """memory:// under the name flaky://, whose operations fail a number of times before they answer."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    #: operation → failures that are left, and how often it was asked
    failures: ClassVar[dict[str, int]] = {}
    asked: ClassVar[dict[str, int]] = {}
    error: ClassVar[Exception] = ConnectionResetError()

    @classmethod
    def reset(cls, error: Exception | None = None, **failures: int) -> None:
        cls.failures, cls.asked = dict(failures), {}
        cls.error = error or ConnectionResetError("the line is down\nand more is said about it")

    @classmethod
    def may_fail(cls, operation: str) -> None:
        cls.asked[operation] = cls.asked.get(operation, 0) + 1
        if cls.failures.get(operation, 0):
            cls.failures[operation] -= 1
            raise cls.error

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        bare: str = MemoryFileSystem._strip_protocol(path.removeprefix("flaky://"))
        return bare

    def unstrip_protocol(self, name: str) -> str:
        return f"flaky://{name.lstrip('/')}"

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = _flaky("open")(self, path, mode, **options)
        return _FlakyReads(file) if mode == "rb" and not getattr(_inside, "an_operation", False) else file


for _name in ("ls", "info", "cat", "cat_file", "get", "put_file", "rm_file", "makedirs", "find", "glob"):
    setattr(FlakyFileSystem, _name, _flaky(_name))


class _FlakyReads:
    """A file whose reads may fail, too, and give less than was asked for, as lines do."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        FlakyFileSystem.may_fail("read")
        data: bytes = self._file.read(min(size, 700))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
