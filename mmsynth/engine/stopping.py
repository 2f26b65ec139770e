"""How a run stops from outside: on SIGTERM and SIGHUP as on Ctrl-C, and a worker as soon as its coordinator is gone."""

import ctypes
import multiprocessing as mp
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mmsynth.errors import RecipeError

#: names of worker processes begin with it
WORKER = "mmsynth-worker"
#: exit code of a worker that runs the script's own run again, for want of a `__main__` guard
UNGUARDED = 65
NEEDS_GUARD = (
    "the script starts this run again in each worker, because workers import the script: put the code that runs under "
    "`if __name__ == '__main__':`"
)
_STOP = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_PR_SET_PDEATHSIG = 1


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit(128 + signal) in the block: it cleans up as after Ctrl-C.

    Signals that the program handles or ignores (nohup) stay with it. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in _STOP if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is _stop:  # Ray has its own
                signal.signal(number, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def end_with_parent() -> None:
    """End this process, with SIGKILL where the system can, once its parent has ended: in the middle of a batch too."""
    parent: Any = mp.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        # the thread below cannot run while native code keeps Python's lock
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:
            os._exit(1)
    threading.Thread(target=_watch, args=(parent,), name="mmsynth-parent", daemon=True).start()


def _watch(parent: Any) -> None:
    parent.join()
    os._exit(1)


def refuse_unguarded() -> None:
    """End a worker in which the script that began the run begins it again. Raises RecipeError in any other process
    that is only being imported."""
    process: Any = mp.current_process()
    if not getattr(process, "_inheriting", False):
        return
    if process.name.startswith(WORKER):
        os._exit(UNGUARDED)  # without a word: the coordinator says it once
    raise RecipeError(NEEDS_GUARD)
