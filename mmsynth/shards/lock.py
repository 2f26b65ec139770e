"""The lock on an output folder: one run at a time, and an error that names the run that holds it.

The system locks a local folder, and releases the lock when the process ends, however it ends. At a URL the lock is a
file that its holder renews. A lock that was not renewed for a minute is stale.
"""

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mmsynth.errors import OutputError
from mmsynth.io.files import json_bytes
from mmsynth.io.storage import LocalStorage, Storage

_RENEWED_EVERY_S = 20.0
_STALE_AFTER_S = 60.0
#: storage at a URL has no locks: a run writes its name, waits this long, and checks that the name is still its own
_SETTLES_S = 1.0
NAME = ".lock"
_OF_RANKS = f"{NAME}-rank"


@contextmanager
def locked(storage: Storage, rank: int | None = None) -> Iterator[None]:
    """Hold the folder. The ranks of a launched run hold it together. Raises OutputError if another run holds it.

    The last rank to leave removes the locks of ranks that died.
    """
    # a rank's own lock keeps out the same rank of another launch; the shared lock keeps out runs without ranks
    names = [(NAME, rank is not None)] + ([(f"{_OF_RANKS}{rank}", False)] if rank is not None else [])
    if isinstance(storage, LocalStorage):
        with _local(storage, names):
            yield
    else:
        with _renewed(storage, names[-1][0]):
            yield


@contextmanager
def _local(storage: LocalStorage, names: list[tuple[str, bool]]) -> Iterator[None]:
    folder = storage.path
    files: list[IO[str]] = []
    try:
        try:
            for name, is_shared in names:
                files.append(_lock(folder / name, is_shared))
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
        yield
    finally:
        for file, (name, is_shared) in zip(files, names, strict=False):
            # the last holder of a shared lock removes it
            if not is_shared or _take(file, is_shared=False):
                if name == NAME:
                    _clear(storage)
                (folder / name).unlink(missing_ok=True)
            file.close()


def _clear(storage: LocalStorage) -> None:
    """Remove the files of dead ranks. The caller holds the lock, so no new run can start meanwhile."""
    storage.clear()
    for path in storage.path.glob(f"{_OF_RANKS}*"):
        path.unlink(missing_ok=True)


def _lock(path: Path, is_shared: bool) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a+")
        if not _take(file, is_shared):
            file.seek(0)
            holder = file.read()
            file.close()
            raise OutputError(f"{_who(holder)} is writing to {path.parent}")
        # an earlier holder may have removed the file between our open and our lock
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            file.truncate(0)
            file.write(json.dumps(_myself()))
            file.flush()
            return file
        file.close()


def _take(file: IO[str], is_shared: bool) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has none, so users must not start two runs in one folder
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _renewed(storage: Storage, name: str) -> Iterator[None]:
    for other in _names(storage):
        # ranks share the folder with each other, but not with other runs
        if other in (NAME, name) or (name == NAME and other.startswith(_OF_RANKS)):
            _pass(storage, other)
    mine = {**_myself(), "token": secrets.token_hex(8)}
    _renew(storage, name, mine)
    time.sleep(_SETTLES_S)
    if (_read(storage, name) or {}).get("token") != mine["token"]:
        raise OutputError(f"another mmsynth run has just begun to write to {storage.shown}")
    ended = threading.Event()
    thread = threading.Thread(target=_keep_renewing, args=(storage, name, mine, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        storage.remove(name)


def _names(storage: Storage) -> list[str]:
    try:
        return storage.names()
    except OSError as error:
        raise OutputError(str(error)) from error


def _pass(storage: Storage, name: str) -> None:
    """Remove a stale lock. Raises OutputError if its holder is alive."""
    there = _read(storage, name)
    if there and time.time() - float(there.get("renewed", 0)) < _STALE_AFTER_S and not _is_dead(there):
        raise OutputError(f"{_who(json.dumps(there))} is writing to {storage.shown}")
    storage.remove(name)


def _keep_renewing(storage: Storage, name: str, mine: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(_RENEWED_EVERY_S):
        with suppress(OutputError):  # the next renewal may succeed, and the run's own writes report a lasting failure
            _renew(storage, name, mine)


def _renew(storage: Storage, name: str, mine: dict[str, Any]) -> None:
    with storage.writing(name) as file:
        file.write(json_bytes({**mine, "renewed": time.time()}))


def _read(storage: Storage, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(storage.read_all([name])[name])
    except (FileNotFoundError, ValueError, KeyError):
        return None
    except OSError as error:  # the lock may exist
        raise OutputError(str(error)) from error
    return found


def _myself() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the process is known to have ended. Only its own machine can tell."""
    if holder.get("host") != platform.node():
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, ValueError):
        return False
    return False


def _who(holder: str) -> str:
    try:
        said = json.loads(holder)
        return f"another mmsynth run (process {said['pid']} on {said['host']}, since {said['since']})"
    except (ValueError, KeyError, TypeError):
        return "another mmsynth run"
