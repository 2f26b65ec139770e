"""Threads that read ahead and write behind, with bounds, around one main thread that owns the device.

Knows threads and queues; does not know samples.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(  # noqa: PLR0913 - a function, its items, and how
    function: Callable[[T], R],
    items: Iterable[T],
    pool: Executor,
    depth: int,
    is_eager: bool = False,
    needs: Callable[[T], bool] | None = None,
) -> Iterator[tuple[T, "Future[R] | None"]]:
    """Each item with the future of `function(item)`, in order, with up to `depth` of them running ahead.

    With `is_eager`, whatever is done leaves each time another item comes in, so that little is under way. Items that
    do not need the function, by `needs`, have no future.
    """
    pending: deque[tuple[T, Future[R] | None]] = deque()
    for item in items:
        future = pool.submit(function, item) if needs is None or needs(item) else None
        if future is None and not pending:
            yield item, None
            continue
        pending.append((item, future))
        while pending and (len(pending) > depth or _may_go(pending[0][1], is_eager)):
            yield pending.popleft()
    while pending:
        yield pending.popleft()


def _may_go(future: "Future[Any] | None", is_eager: bool) -> bool:
    return future is None or (is_eager and future.done())


class Channel(Generic[T]):
    """A bounded queue between two threads. The consumer takes everything that waits at once: threads switch seldom."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: T) -> bool:
        """Add one, waiting for room; False if the channel is closed."""
        with self._changed:
            while len(self._waiting) >= self._depth and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._waiting.append(item)
            if len(self._waiting) == 1:
                self._changed.notify()
            return True

    def take(self) -> deque[T]:
        """Everything that waits; blocks until there is something."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            taken, self._waiting = self._waiting, deque()
            self._changed.notify()
            return taken

    def close(self) -> None:
        """Accept nothing more, and wake a producer that waits for room."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class ReadAhead(Generic[T]):
    """Iterates `items` in a thread of its own, at most `depth` ahead. Errors are raised in the consumer.

    A context manager: leaving it stops the thread.
    """

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items = items
        # as many again may have been taken and wait to be consumed
        self._channel: Channel[tuple[T] | BaseException | None] = Channel(max(1, depth // 2))
        self._thread = threading.Thread(target=self._produce, name="mmsynth-read", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._consume()

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._thread.join(timeout=5)

    def _consume(self) -> Iterator[T]:
        while True:
            taken = self._channel.take()
            while taken:
                entry = taken.popleft()
                if entry is None:
                    return
                if isinstance(entry, BaseException):
                    raise entry
                yield entry[0]

    def _produce(self) -> None:
        try:
            for item in self._items:
                if not self._channel.put((item,)):
                    return
            self._channel.put(None)
        except BaseException as error:  # noqa: BLE001 - carried to the consumer, which raises it
            self._channel.put(error)
        finally:
            if isinstance(self._items, Generator):
                self._items.close()  # in the thread that ran it, with the files that it holds open


class WriteBehind(Generic[T]):
    """Calls `function` for every item in a thread of its own, in order, at most `depth` behind."""

    def __init__(self, function: Callable[[T], None], depth: int) -> None:
        self._function = function
        # as many again may have been taken and wait to be done
        self._channel: Channel[tuple[T] | None] = Channel(max(1, depth // 2))
        self._error: BaseException | None = None
        self._cancelled = False
        self._thread = threading.Thread(target=self._work, name="mmsynth-write", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over one item. Raises the error of an earlier one."""
        self._raise_error()
        self._channel.put((item,))

    def finish(self) -> None:
        """Wait until every item is done. Raises the first error."""
        self._channel.put(None)
        self._thread.join()
        self._raise_error()

    def cancel(self) -> None:
        """Stop, and discard the items that still wait."""
        self._cancelled = True
        self._channel.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            taken = self._channel.take()
            while taken:
                waiting = taken.popleft()
                if waiting is None:
                    return
                if self._error is None and not self._cancelled:
                    try:
                        self._function(*waiting)
                    except BaseException as error:  # noqa: BLE001 - raised in the main thread by put() or finish()
                        self._error = error

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
