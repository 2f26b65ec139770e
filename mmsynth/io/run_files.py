"""The files of runs that a decision reads: in their folder, or at a URL, from which what is needed is copied here.

Knows names and places; does not know what is in the files.
"""

import tempfile
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol

from mmsynth.errors import SourceError
from mmsynth.io.places import filesystem, is_remote, one_line, shown

_TRIES = 3
_STATS = "_stats.json"


class RunFiles(Protocol):
    """The files of one run that were there when this was made."""

    #: the run as messages name it, without passwords
    shown: str
    names: frozenset[str]

    def __hash__(self) -> int:
        """By identity: another look at the run is another one."""

    def here(self, names: Sequence[str]) -> Path:
        """A folder of this machine that has these files, and maybe others. Raises OSError."""

    def span(self, name: str, start: int, stop: int) -> bytes:
        """A part of a file. Raises OSError."""


def run_files(run: str | Path) -> RunFiles:
    """The files of the run at a path or URL."""
    return _RemoteRun(str(run)) if _is_url(run) else _LocalRun(_folder(run))


def place_of(run: str | Path) -> str:
    """The run's path or URL without what only its spelling makes different."""
    return str(run).rstrip("/") if _is_url(run) else str(_folder(run).resolve())


def state_of(run: str | Path) -> Hashable:
    """Differs once another shard is there, or one that was there has been written again."""
    if _is_url(run):
        stats = {name: about for name, about in _listed(str(run)).items() if name.endswith(_STATS)}
    else:
        stats = {path.name: str(path.stat().st_mtime_ns) for path in _folder(run).glob(f"*{_STATS}")}
    return str(run), tuple(sorted(stats.items()))


class _LocalRun:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.shown = str(folder)
        self.names = frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()

    def here(self, names: Sequence[str]) -> Path:
        return self._folder

    def span(self, name: str, start: int, stop: int) -> bytes:
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


class _RemoteRun:
    """Copies lie in a temporary folder, which goes with this object."""

    def __init__(self, url: str) -> None:
        self.shown = shown(url.rstrip("/"))
        self.names = frozenset(_listed(url))
        self._system, self._path = filesystem(url)
        self._copies = tempfile.TemporaryDirectory(prefix="mmsynth-run-")
        self._copied: set[str] = set()
        self._lock = threading.Lock()

    def here(self, names: Sequence[str]) -> Path:
        folder = Path(self._copies.name)
        with self._lock:
            missing = [name for name in names if name not in self._copied]
            if missing:
                _asked(self._system.get, [self._at(n) for n in missing], [str(folder / n) for n in missing])
                self._copied.update(missing)
        return folder

    def span(self, name: str, start: int, stop: int) -> bytes:
        data: bytes = _asked(self._system.cat_file, self._at(name), start=start, end=stop)
        return data

    def _at(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"


def _is_url(run: str | Path) -> bool:
    return is_remote(str(run)) and not str(run).startswith("file://")


def _folder(run: str | Path) -> Path:
    return Path(str(run).removeprefix("file://"))


def _listed(url: str) -> dict[str, str]:
    """Name → what the file system says of it: size, time, digest. Empty where there is no such folder."""
    system, path = filesystem(url)
    system.invalidate_cache()  # what others have written since
    try:
        found = _asked(lambda: system.ls(path.rstrip("/"), detail=True))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SourceError(f"cannot list {shown(url)}: {error}") from error
    return {info["name"].rpartition("/")[2]: str(sorted(info.items())) for info in found}


def _asked(ask: Callable[..., Any], *what: Any, **which: Any) -> Any:
    """Every protocol has its own errors: here they are OSErrors, once it has failed some times."""
    for attempt in range(1, _TRIES + 1):
        try:
            return ask(*what, **which)
        except FileNotFoundError:
            raise
        except Exception as error:
            if attempt == _TRIES:
                raise OSError(one_line(error)) from error
    raise AssertionError("the last attempt returns or raises")
