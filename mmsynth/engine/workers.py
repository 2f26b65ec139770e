"""The executor for N worker processes, one per GPU, that take blocks from a queue.

Workers get the job pickled, load their models once, and commit their shards themselves; this process plans the blocks
and counts. Ctrl-C reaches this process only: it stops the workers, whose unfinished blocks leave nothing behind.
"""

import multiprocessing as mp
import os
import queue
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any

from mmsynth.engine.items import Block, Status
from mmsynth.engine.work import Job, Watcher, do_blocks
from mmsynth.errors import MMSynthError, WorkerError

_ROWS_PER_MESSAGE = 16


def run_in_workers(job: Job, blocks: Iterator[Block], workers: int, device: str, watcher: Watcher) -> None:
    """Run the blocks in `workers` processes. Raises what a worker raised, or WorkerError if one died."""
    first = next(blocks, None)
    if first is None:
        return
    context = mp.get_context("spawn")
    tasks: Any = context.Queue(maxsize=workers)
    messages: Any = context.Queue()
    processes = [
        context.Process(target=_work, args=(job, name, max(1, _cores() // workers), tasks, messages), daemon=True)
        for name in _devices(device, workers)
    ]
    for process in processes:
        process.start()
    try:
        _Coordinator(processes, tasks, messages, watcher).run(first, blocks)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


class _Coordinator:
    def __init__(self, processes: Sequence[BaseProcess], tasks: Any, messages: Any, watcher: Watcher) -> None:
        self._processes, self._tasks, self._messages = processes, tasks, messages
        self._watcher = watcher
        self._done = 0

    def run(self, first: Block, rest: Iterator[Block]) -> None:
        self._give(first)
        for block in rest:
            self._give(block)
        for _ in self._processes:
            self._give(None)
        while self._done < len(self._processes):
            self._listen(timeout_s=0.2)

    def _give(self, block: Block | None) -> None:
        while True:
            try:
                self._tasks.put(block, timeout=0.05)
                return
            except queue.Full:
                self._listen(timeout_s=0.05)

    def _listen(self, timeout_s: float) -> None:
        """Take every message that is there; look for the dead when there is none."""
        with suppress(queue.Empty):
            while True:
                self._take(*self._messages.get(timeout=timeout_s))
                timeout_s = 0.0
        dead = [p for p in self._processes if p.exitcode not in (None, 0)]
        if dead and self._messages.empty():
            raise WorkerError(
                f"a worker process died with exit code {dead[0].exitcode} (killed, or out of memory?); "
                "what is committed is kept, and the same command goes on from there"
            )

    def _take(self, kind: str, value: Any) -> None:
        if kind == "rows":
            for status, n in value.items():
                self._watcher.rows(status, n)
        elif kind == "commit":
            self._watcher.committed(*value)
        elif kind == "done":
            self._done += 1
        else:
            raise value


def _devices(device: str, workers: int) -> list[str]:
    """A device for each worker: CUDA devices in turn, anything else shared."""
    if not device.startswith("cuda") or device not in ("cuda", "cuda:0"):
        return [device] * workers
    import torch

    return [f"cuda:{i % max(1, torch.cuda.device_count())}" for i in range(workers)]


def _cores() -> int:
    return os.cpu_count() or 1


def _work(job: Job, device: str, threads: int, tasks: Any, messages: Any) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    try:
        job.setup(device)
        do_blocks(job, iter(tasks.get, None), _Teller(messages))
        messages.put(("done", None))
    except MMSynthError as error:
        messages.put(("error", error))
    except Exception as error:  # noqa: BLE001 - carried to the coordinator, which raises it
        messages.put(("error", WorkerError(f"a worker failed: {type(error).__name__}: {error}")))


class _Teller:
    """The watcher in a worker: tells the coordinator, some rows at a time."""

    def __init__(self, messages: Any) -> None:
        self._messages = messages
        self._counts: Counter[Status] = Counter()

    def rows(self, status: Status, n: int = 1) -> None:
        self._counts[status] += n
        if self._counts.total() >= _ROWS_PER_MESSAGE:
            self._flush()

    def committed(self, index: int, stats: dict[str, Any]) -> None:
        self._flush()
        self._messages.put(("commit", (index, stats)))

    def _flush(self) -> None:
        self._messages.put(("rows", dict(self._counts)))
        self._counts.clear()
