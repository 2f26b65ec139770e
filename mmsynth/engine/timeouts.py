"""Time limits: threads that are abandoned when their work takes too long.

Python cannot stop a thread from outside, so a thread that hangs is left behind, and another takes its place. Knows
threads and time; does not know samples.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, InvalidStateError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

from mmsynth.errors import SampleError

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def thread_pools(threads: int, timeout_s: float | None) -> Iterator[tuple[Executor, Executor | None]]:
    """A pool for what runs ahead, and one of a single thread for what owns the device.

    Without a timeout the second is None: the caller's own thread owns the device.
    """
    if timeout_s is None:
        with_futures = ThreadPoolExecutor(threads, thread_name_prefix="mmsynth-prepare")
        try:
            yield with_futures, None
        finally:
            with_futures.shutdown(wait=True, cancel_futures=True)
        return
    pool, device = (
        TimeLimitedPool(threads, timeout_s, "mmsynth-prepare"),
        TimeLimitedPool(1, timeout_s, "mmsynth-device"),
    )
    try:
        yield pool, device
    finally:
        device.shutdown(cancel_futures=True)
        pool.shutdown(cancel_futures=True)


class TimeLimitedPool(Executor):
    """A pool of threads in which work that runs longer than `timeout_s` ends as SampleError(`timeout`).

    The thread that hangs is abandoned and another takes its place; should it ever come back, its result is discarded.
    Only running counts, not waiting for a thread. Threads are daemons, so none keeps the process alive.
    """

    def __init__(self, threads: int, timeout_s: float, name: str) -> None:
        self._timeout_s, self._name = timeout_s, name
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        #: thread → what it runs, since when
        self._running: dict[threading.Thread, tuple[Future[Any], float]] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        for _ in range(threads):
            self._start_thread()
        self._watcher = threading.Thread(target=self._watch, name=f"{name}-watch", daemon=True)
        self._watcher.start()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        future: Future[R] = Future()
        self._waiting.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Returns when all threads are done or given up."""
        while cancel_futures and not self._waiting.empty():
            with suppress(queue.Empty):
                entry = self._waiting.get_nowait()
                _ = entry and entry[0].cancel()
        for _thread in list(self._threads):
            self._waiting.put(None)
        while wait and any(thread.is_alive() for thread in list(self._threads)):
            time.sleep(0.01)
        self._stopped.set()
        if wait:
            self._watcher.join()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        thread = threading.current_thread()
        while (entry := self._waiting.get()) is not None:
            future, call = entry
            if not future.set_running_or_notify_cancel():
                continue
            with self._lock:
                self._running[thread] = future, time.monotonic()
            try:
                result, error = call(), None
            except BaseException as raised:  # noqa: BLE001 - carried to whoever asks the future
                result, error = None, raised
            with self._lock:
                if self._running.pop(thread, None) is None:
                    return  # given up: another thread has its place
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
            del entry, future, call, result, error  # or they would live for as long as the thread waits

    def _watch(self) -> None:
        while not self._stopped.wait(min(self._timeout_s / 10, 0.5)):
            with self._lock:
                now = time.monotonic()
                late = [thread for thread, (_, since) in self._running.items() if now - since > self._timeout_s]
                futures = [self._running.pop(thread)[0] for thread in late]
            for thread, future in zip(late, futures, strict=True):
                self._threads.remove(thread)
                self._start_thread()
                with suppress(InvalidStateError):
                    future.set_exception(SampleError("timeout", f"took longer than {self._timeout_s:g} s"))
