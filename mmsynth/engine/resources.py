"""What runners run on: threads, the device, an event loop."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from mmsynth.engine.event_loop import event_loop
from mmsynth.engine.timeouts import thread_pools


@dataclass(frozen=True, slots=True)
class Resources:
    """What runners run on.

    - `pool`: threads for what runs ahead
    - `device`: the thread that owns the device; None: the caller's own
    - `loop`: for stages of the shape one, running in a thread of its own
    - `timeout_s`: at most so long for a batch, or a sample in flight
    """

    pool: Executor
    device: Executor | None = None
    loop: asyncio.AbstractEventLoop | None = None
    timeout_s: float | None = None


@contextmanager
def resources(threads: int, timeout_s: float | None, *, with_loop: bool) -> Iterator[Resources]:
    """Threads, and a loop where stages need one, for as long as the block lasts."""
    with ExitStack() as opened:
        pool, device = opened.enter_context(thread_pools(threads, timeout_s))
        loop = opened.enter_context(event_loop()) if with_loop else None
        yield Resources(pool, device, loop, timeout_s)


def on_device(device: Executor | None, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in the thread that owns the device; None: the caller's own."""
    return function(*arguments) if device is None else device.submit(function, *arguments).result()
