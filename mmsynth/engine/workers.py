"""The executor for N worker processes, one per GPU.

Workers get the job pickled, load their models once, and commit their shards themselves; this process plans the blocks,
gives each worker one whenever it asks, and counts. Each worker has a pipe of its own, so one that dies takes no lock
with it: another process takes its place, and its blocks are retried. Ctrl-C reaches this process only:
it stops the workers, whose unfinished blocks leave nothing behind.
"""

import logging
import multiprocessing as mp
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from mmsynth.blocks import Block, Counted, ShardStats, Status
from mmsynth.engine.block_queue import BlockQueue
from mmsynth.engine.work import Job, Watcher, do_blocks
from mmsynth.errors import DeviceError, MMSynthError, WorkerError

log = logging.getLogger(__name__)
_ROWS_PER_MESSAGE = 16
#: processes that may die, one after another in one worker's place, before one has loaded its models
_MOST_FALSE_STARTS = 3


def run_in_workers(job: Job, blocks: Iterator[Block], workers: int, device: str, watcher: Watcher) -> None:
    """Run the blocks in `workers` processes. Raises what a worker raised, or WorkerError for what could not be done."""
    queue = BlockQueue(blocks)
    if not queue:
        return
    threads = max(1, _cores() // workers)
    crew = [_Worker(job, name, threads) for name in _devices(device, workers)]
    try:
        _Coordinator(crew, queue, watcher).run()
    finally:
        for worker in crew:
            worker.process.terminate()
        for worker in crew:
            worker.process.join()


class _Worker:
    """A worker process as the coordinator sees it: what it was given, and what it has told."""

    def __init__(self, job: Job, device: str, threads: int) -> None:
        self._arguments = (job, device, threads)
        #: processes that have died one after another while they loaded their models
        self.false_starts = 0
        self.start()

    def start(self) -> None:
        context = mp.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(*self._arguments, theirs), daemon=True)
        self.process.start()
        theirs.close()  # or its end would never be seen
        self.is_ready = False
        #: it has asked for a block
        self.asks = False
        #: given and not committed, in order
        self.blocks: list[Block] = []
        #: told since the last commit
        self.rows: Counter[tuple[Counted, Status]] = Counter()

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
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return
        if kind == "asks":
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
        worker.false_starts += not worker.is_ready
        if worker.false_starts >= _MOST_FALSE_STARTS:
            raise WorkerError(
                f"{worker.false_starts} worker processes died, one after another, while they loaded their models (exit "
                f"code {code}: killed, or out of memory?); what is committed is kept, and the same command goes on "
                "from there"
            )
        for (what, status), n in worker.rows.items():
            self._watcher.counted(what, status, -n)
        self._queue.died(worker.blocks, f"exit code {code}")
        worker.start()


def _devices(device: str, workers: int) -> list[str]:
    """A device for each worker: CUDA devices in turn, anything else shared."""
    if not device.startswith("cuda") or device not in ("cuda", "cuda:0"):
        return [device] * workers
    import torch

    return [f"cuda:{i % max(1, torch.cuda.device_count())}" for i in range(workers)]


def _cores() -> int:
    return os.cpu_count() or 1


def _work(job: Job, device: str, threads: int, connection: "Connection[Any, Any]") -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    teller = _Teller(connection)
    try:
        job.setup(device)
        while True:  # until the coordinator ends this process, or itself
            do_blocks(job, iter(teller.ask, None), teller)
    except (EOFError, BrokenPipeError):
        return  # the coordinator has died
    except DeviceError as error:
        log.error("%s", error)
        os._exit(error.exit_code)  # the coordinator starts another process, whose device is well
    except MMSynthError as error:
        teller.tell("error", error)
    except Exception as error:  # noqa: BLE001 - carried to the coordinator, which raises it
        teller.tell("error", WorkerError(f"a worker failed: {type(error).__name__}: {error}"))


class _Teller:
    """The watcher in a worker: tells the coordinator, some rows at a time."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._counts: Counter[tuple[Counted, Status]] = Counter()

    def tell(self, kind: str, value: Any) -> None:
        with self._lock:
            self._connection.send((kind, value))

    def ask(self) -> Block | None:
        """The next block, or None if there is none for now."""
        self.tell("asks", None)
        block: Block | None = self._connection.recv()
        return block

    def counted(self, what: Counted, status: Status, n: int = 1) -> None:
        self._counts[what, status] += n
        if self._counts.total() >= _ROWS_PER_MESSAGE:
            self._flush()

    def committed(self, index: int, stats: ShardStats) -> None:
        self._flush()
        self.tell("commit", (index, stats))

    def _flush(self) -> None:
        self.tell("rows", dict(self._counts))
        self._counts.clear()
