"""A worker process: does the blocks that its coordinator (`workers.py`) gives it, and tells what came of them."""

import logging
import os
import pickle
import signal
import threading
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

from mmsynth.blocks import Block, Counted, ShardStats, Status
from mmsynth.engine.work import Job, do_blocks
from mmsynth.errors import DeviceError, MMSynthError, WorkerError
from mmsynth.io.storage import storage_at
from mmsynth.shards.lock import held_by_worker

log = logging.getLogger(__name__)
_ROWS_PER_MESSAGE = 16


def work(pickled: bytes, device: str, threads: int, connection: "Connection[Any, Any]") -> None:
    """The life of a worker process. The job comes pickled: what that imports may take long, or fail."""
    for number in (getattr(signal, name, None) for name in ("SIGINT", "SIGHUP")):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)  # the coordinator decides
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    teller = _Teller(connection)
    try:
        job: Job = pickle.loads(pickled)
        with held_by_worker(storage_at(job.out.path or ".")):
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
