"""The executor for N worker processes, one per GPU.

Workers (`worker.py`) load their models once, and commit their shards themselves; this process plans the blocks, gives
each worker one whenever it asks, and counts. Each worker has a pipe of its own, so one that dies takes no lock with it:
another process takes its place, and its blocks are retried. Ctrl-C reaches this process only: it kills the workers,
whose unfinished blocks leave nothing behind. However this process ends, its workers end with it.
"""

import multiprocessing as mp
import os
import pickle
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from mmsynth.blocks import Block, Counted, Status
from mmsynth.engine.block_queue import BlockQueue
from mmsynth.engine.last_words import LastWords
from mmsynth.engine.stopping import NEEDS_GUARD, UNGUARDED, WORKER
from mmsynth.engine.work import Job, Watcher
from mmsynth.engine.worker_start import start
from mmsynth.errors import RecipeError, WorkerError

#: processes that may die, one after another in one worker's place, before one has loaded its models
_MOST_FALSE_STARTS = 3
#: of a Python process that an exception ended: it would end the next one too
_RAISED = 1


def run_in_workers(job: Job, blocks: Iterator[Block], workers: int, device: str, watcher: Watcher) -> None:
    """Run the blocks in `workers` processes. Raises what a worker raised, or WorkerError for what could not be done."""
    queue = BlockQueue(blocks)
    if not queue:
        return
    threads = max(1, _cores() // workers)
    pickled = pickle.dumps(job)
    crew: list[_Worker] = []
    try:
        for name in _devices(device, workers):
            crew.append(_Worker(pickled, name, threads))
            crew[-1].start()
        _Coordinator(crew, queue, watcher).run()
    finally:
        for worker in crew:
            worker.kill()
        for worker in crew:
            worker.join()


class _Worker:
    """A worker process as the coordinator sees it: what it was given, and what it has told."""

    connection: "Connection[Any, Any]"
    process: SpawnProcess

    def __init__(self, job: bytes, device: str, threads: int) -> None:
        self._arguments = (job, device, threads)
        self._last_words = LastWords()
        #: processes that have died one after another while they loaded their models
        self.false_starts = 0

    def start(self) -> None:
        context = mp.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=start, args=(*self._arguments, theirs), name=f"{WORKER}-{self._arguments[1]}", daemon=True
        )
        self._last_words = LastWords()
        with self._last_words.heard():
            self.process.start()
        theirs.close()  # or its end would never be seen
        self.is_ready = False
        #: it has asked for a block
        self.asks = False
        #: given and not committed, in order
        self.blocks: list[Block] = []
        #: told since the last commit
        self.rows: Counter[tuple[Counted, Status]] = Counter()

    def kill(self) -> None:
        """End the process, whatever it is at."""
        with suppress(AttributeError):  # it was never started
            self.process.kill()

    def join(self) -> None:
        """See that the process is gone, and that all it said has been passed on."""
        with suppress(AttributeError):
            self.process.join()
            self._last_words.line()

    def death(self) -> str:
        """How the process died: to be asked when it has."""
        said = self._last_words.line()
        return f"exit code {self.process.exitcode}{f': {said}' if said else ''}"

    def told(self) -> tuple[str, Any]:
        """What comes next from it: a kind and a value; ("died", None) where nothing will."""
        try:
            told: tuple[str, Any] = self.connection.recv()
        except (EOFError, OSError):
            return "died", None
        return told

    def give(self, block: Block) -> None:
        self.blocks.append(block)
        self._answer(block)

    def give_nothing(self) -> None:
        """Stages that wait for more to fill a batch shall finish what they have; then it will ask again."""
        self._answer(None)

    def _answer(self, block: Block | None) -> None:
        self.asks = False
        with suppress(OSError):  # where it has died, its end of the pipe tells
            self.connection.send(block)


class _Coordinator:
    """Gives out blocks until all are committed or skipped."""

    def __init__(self, crew: list[_Worker], queue: BlockQueue, watcher: Watcher) -> None:
        self._crew, self._queue, self._watcher = crew, queue, watcher

    def run(self) -> None:
        while self._queue or any(worker.blocks for worker in self._crew):
            for worker in self._crew:
                self._supply(worker)
            by_connection: dict[Any, _Worker] = {worker.connection: worker for worker in self._crew}
            for connection in wait(list(by_connection)):
                self._hear(by_connection[connection])
        self._queue.raise_if_skipped()

    def _supply(self, worker: _Worker) -> None:
        if not worker.asks:
            return
        block = self._queue.take(worker.blocks)
        if block is not None:
            worker.give(block)
        elif worker.blocks:
            worker.give_nothing()

    def _hear(self, worker: _Worker) -> None:
        kind, value = worker.told()
        if kind == "died":
            self._replace(worker)
        elif kind == "asks":
            worker.is_ready = worker.asks = True
            worker.false_starts = 0
        elif kind == "rows":
            for (what, status), n in value.items():
                worker.rows[what, status] += n
                self._watcher.counted(what, status, n)
        elif kind == "commit":
            index, stats = value
            worker.blocks = [block for block in worker.blocks if block.index != index]
            worker.rows.clear()
            self._watcher.committed(index, stats)
        else:
            raise value

    def _replace(self, worker: _Worker) -> None:
        """Start another process in its place, and have its blocks retried."""
        worker.process.join()
        code = worker.process.exitcode
        if code == UNGUARDED and not worker.is_ready:
            raise RecipeError(NEEDS_GUARD)
        worker.false_starts += not worker.is_ready
        died = worker.death()
        if not worker.is_ready and code == _RAISED:
            raise WorkerError(f"a worker process could not start ({died})")
        if worker.false_starts >= _MOST_FALSE_STARTS:
            raise WorkerError(
                f"{worker.false_starts} worker processes died, one after another, while they loaded their models "
                f"({died}; killed, or out of memory?); what is committed is kept, and the same command goes on from "
                "there"
            )
        for (what, status), n in worker.rows.items():
            self._watcher.counted(what, status, -n)
        self._queue.died(worker.blocks, died)
        worker.start()


def _devices(device: str, workers: int) -> list[str]:
    """A device for each worker: CUDA devices in turn, anything else shared."""
    if not device.startswith("cuda") or device not in ("cuda", "cuda:0"):
        return [device] * workers
    import torch

    return [f"cuda:{i % max(1, torch.cuda.device_count())}" for i in range(workers)]


def _cores() -> int:
    return os.cpu_count() or 1
