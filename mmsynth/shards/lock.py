"""The lock on an output folder: one run at a time, and an error that names the run that holds it.

A local folder is locked by the system, and the lock goes with the process, however it ends. Its worker processes hold a
lock of their own: no run begins while one still lives. Elsewhere the lock is a file that its holder renews; one that
has not changed for a minute is nobody's.
"""

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mmsynth.errors import OutputError
from mmsynth.io.files import json_bytes
from mmsynth.io.retry import one_line
from mmsynth.io.storage import LocalStorage, Storage
from mmsynth.layout import RUN
from mmsynth.shards.holder import lives, myself, named

log = logging.getLogger(__name__)

_RENEWED_EVERY_S = 20.0
_STALE_AFTER_S = 60.0
_LOOKED_AT_EVERY_S = 1.0
#: storage at a URL has no locks: a run writes its name, waits so long, and looks whether the name still stands there
_SETTLES_S = 1.0
NAME = ".lock"
_OF_RANKS = f"{NAME}-rank"
_OF_WORKERS = f"{NAME}-workers"
#: they are killed with their run: what takes longer hangs
_WORKERS_END_WITHIN_S = 20.0
#: so long a run waits at its own end
_LAST_WORKERS_END_WITHIN_S = 5.0


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
            _await_workers(folder)
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
    with suppress(OSError, OutputError):  # an actor that was just killed holds it a moment longer
        _await_workers(storage.path, within_s=_LAST_WORKERS_END_WITHIN_S)


def _await_workers(folder: Path, within_s: float | None = None) -> None:
    """Wait until the workers of a run that was killed are gone. Raises OutputError if one stays."""
    until = time.monotonic() + (_WORKERS_END_WITHIN_S if within_s is None else within_s)
    while (holder := _free_of_workers(folder / _OF_WORKERS)) is not None:
        if time.monotonic() > until:
            raise OutputError(f"a worker of {named(holder)} still writes to {folder}: end that process first")
        time.sleep(0.05)


def _free_of_workers(path: Path) -> str | None:
    """Remove the workers' lock if none holds it, else tell what it says of the last that took it."""
    with suppress(FileNotFoundError), path.open("r+") as file:
        if not _take(file, is_shared=False):
            return file.read()
        path.unlink(missing_ok=True)
    return None


@contextmanager
def held_by_worker(storage: Storage) -> Iterator[None]:
    """A worker's own hold on the folder, together with the other workers of its run. Raises OutputError."""
    if not isinstance(storage, LocalStorage):
        yield
        return
    with _lock(storage.path / _OF_WORKERS, is_shared=True):
        yield


def check_still_of(storage: Storage, run: str) -> None:
    """Raise OutputError if the folder is not, or no longer, that of the run with this fingerprint; "" is any."""
    if not run:
        return
    try:
        there = json.loads(storage.read_all([RUN])[RUN]).get("fingerprint")
    except FileNotFoundError:
        there = None
    except (OSError, ValueError, AttributeError) as error:
        raise OutputError(f"run.json of {storage.shown} cannot be read: {one_line(error)}") from error
    if there != run:
        what = "changed" if there else "removed"
        raise OutputError(
            f"{storage.shown} is no longer the folder of this run: its run.json was {what} while the run wrote; "
            "nothing more is written to it"
        )


def _lock(path: Path, is_shared: bool) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a+")
        if not _take(file, is_shared):
            file.seek(0)
            holder = file.read()
            file.close()
            raise OutputError(f"{named(holder)} is writing to {path.parent}")
        # an earlier holder may have removed the file between our open and our lock
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            file.truncate(0)
            file.write(json.dumps(myself()))
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
    # ranks share the folder with one another, and with nobody else
    others = [one for one in _names(storage) if one in (NAME, name) or (name == NAME and one.startswith(_OF_RANKS))]
    _take_over(storage, others)
    mine = {**myself(), "token": secrets.token_hex(8)}
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
        if _is_mine(storage, name, mine):
            storage.remove(name)


def _names(storage: Storage) -> list[str]:
    try:
        return storage.names()
    except OSError as error:
        raise OutputError(str(error)) from error


def _take_over(storage: Storage, names: list[str]) -> None:
    """Remove locks that are nobody's any more. Raises OutputError where one is somebody's.

    A holder of this machine lives or does not. Of any other, a lock that changes says that it lives, whatever the
    clocks of two machines say.
    """
    watched = {name: there for name in names if (there := _read(storage, name)) and lives(there) is not False}
    for there in watched.values():
        if lives(there):
            raise _in_use(storage, there)
    if watched:
        holder = named(json.dumps(next(iter(watched.values()))))
        log.warning("%s may be writing to %s: waiting %g s to see", holder, storage.shown, _STALE_AFTER_S)
    until = time.monotonic() + _STALE_AFTER_S
    while watched and time.monotonic() < until:
        time.sleep(_LOOKED_AT_EVERY_S)
        for name, before in [*watched.items()]:
            now = _read(storage, name)
            if now is None:
                del watched[name]
            elif now != before:
                raise _in_use(storage, now)
    for name in names:
        storage.remove(name)


def _in_use(storage: Storage, holder: dict[str, Any]) -> OutputError:
    return OutputError(f"{named(json.dumps(holder))} is writing to {storage.shown}")


def _keep_renewing(storage: Storage, name: str, mine: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(_RENEWED_EVERY_S):
        with suppress(OutputError):  # the next time may go better; the run's own writing tells of a lasting failure
            if not _is_mine(storage, name, mine):
                log.error("another run has taken %s over: this one was silent for too long", storage.shown)
                return
            _renew(storage, name, mine)


def _is_mine(storage: Storage, name: str, mine: dict[str, Any]) -> bool:
    there = _read(storage, name)
    return there is None or there.get("token") == mine["token"]


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
