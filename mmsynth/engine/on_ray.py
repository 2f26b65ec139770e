"""The executor for a Ray cluster: an actor for each device, blocks as its tasks.

Actors load the models once and commit their shards themselves, so the machines must see the output, and the input, by
the same names: a shared file system, or URLs. The block of a dead actor or node is retried by another.
"""

import logging
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmsynth.blocks import Block, Counted, ShardStats, Status
from mmsynth.engine.block_queue import BlockQueue
from mmsynth.engine.work import Job, Watcher, do_blocks
from mmsynth.errors import DeviceError, MMSynthError, PluginError, WorkerError
from mmsynth.io.storage import storage_at
from mmsynth.layout import numbered
from mmsynth.shards.lock import held_by_worker

#: actors that may die, one after another, before any has loaded its models
_MOST_FALSE_STARTS = 3
_GONE_WITHIN_S = 20.0
_ANSWERS_WITHIN_S = 10.0


class RayExecutor:
    """Runs blocks on the cluster at `address`; None: the one that is near, or one started for this run."""

    def __init__(self, address: str | None, device: str) -> None:
        self._address, self._device = address, device

    def __call__(self, job: Job, blocks: Iterator[Block], workers: int, device: str, watcher: Watcher) -> None:
        """Run the blocks in `workers` actors, or in one for each device where that is 1.

        Raises what an actor raised, or WorkerError for what could not be done.
        """
        ray = _ray()
        queue = BlockQueue(blocks)
        if not queue:
            return
        is_ours = not ray.is_initialized()
        if is_ours:
            _connect(ray, self._address)
        crew = _Crew(ray, job, *_wanted(ray, workers, device if self._device != "auto" else "auto"))
        try:
            crew.run(queue, watcher)
        finally:
            crew.end()
            if is_ours:
                ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise PluginError("the ray executor needs Ray: pip install 'mmsynth[ray]'") from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    """Raises WorkerError where nobody answers: Ray itself would try for minutes, and then end the process."""
    try:
        place = urlsplit(address if "://" in (address or "") else f"//{address or ''}")
        if place.hostname and place.port:
            socket.create_connection((str(place.hostname), place.port), timeout=_ANSWERS_WITHIN_S).close()
        ray.init(address=address, logging_level=logging.WARNING)
    except (OSError, ValueError) as error:
        raise WorkerError(f"no Ray cluster at {address}: {error}") from error


def _wanted(ray: Any, workers: int, device: str) -> tuple[int, str, dict[str, float]]:
    """How many actors, on which device, and what each takes of the cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not nodes:
        raise WorkerError("the Ray cluster has no node with CPUs")
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device.startswith("cuda"):
        if not gpus:
            raise WorkerError("the Ray cluster has no GPU: set device to cpu, or add nodes that have one")
        return (workers if workers > 1 else gpus), "cuda", {"num_gpus": 1, "num_cpus": 1}
    if workers > 1:
        return workers, device, {"num_cpus": 1}
    return len(nodes), device, {"num_cpus": min(node["CPU"] for node in nodes)}


@dataclass
class _Member:
    """An actor, and what it is at: loading its models where `block` is None and `pending` is set."""

    actor: Any
    pending: Any
    block: Block | None = None


class _Crew:
    """The actors of a run."""

    def __init__(self, ray: Any, job: Job, count: int, device: str, resources: dict[str, float]) -> None:
        self._ray = ray
        self._actor_class: Any = ray.remote(max_restarts=0, scheduling_strategy="SPREAD", **resources)(_Actor)
        # the job once for all actors, in Ray's store
        self._arguments = (ray.put(job), device, str(Path.cwd()))
        self._false_starts = 0
        self._members = [self._member() for _ in range(count)]

    def _member(self) -> _Member:
        actor = self._actor_class.remote(*self._arguments)
        return _Member(actor, actor.ready.remote())

    def run(self, queue: BlockQueue, watcher: Watcher) -> None:
        while queue or any(member.block for member in self._members):
            for member in self._members:
                self._supply(member, queue)
            by_reference = {member.pending: member for member in self._members if member.pending is not None}
            ready, _ = self._ray.wait(list(by_reference), num_returns=1)
            for reference in ready:
                self._hear(by_reference[reference], queue, watcher)
        queue.raise_if_skipped()

    def _supply(self, member: _Member, queue: BlockQueue) -> None:
        if member.pending is None and (block := queue.take([])):
            member.block = block
            # the name is what Ray's dashboard shows
            member.pending = member.actor.do.options(name=f"block {numbered(block.index)}").remote(block)

    def _hear(self, member: _Member, queue: BlockQueue, watcher: Watcher) -> None:
        try:
            done = self._ray.get(member.pending)
        except self._ray.exceptions.RayActorError as error:
            self._replace(member, queue, error)
            return
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, MMSynthError) else _failed(error) from error
        member.pending = None
        self._false_starts = 0
        if member.block is not None:
            ends, index, stats = done
            for (what, status), n in ends.items():
                watcher.counted(what, status, n)
            watcher.committed(index, stats)
            member.block = None

    def _replace(self, member: _Member, queue: BlockQueue, error: Exception) -> None:
        cause = getattr(error, "cause", None)
        if isinstance(cause, MMSynthError):  # its constructor raised
            raise cause from error
        if member.block is None:
            self._false_starts += 1
            if self._false_starts >= _MOST_FALSE_STARTS:
                raise WorkerError(
                    f"{self._false_starts} actors died while they loaded their models (killed, or out of memory?); "
                    "what is committed is kept, and the same command goes on from there"
                ) from error
        else:
            queue.died([member.block], "the actor or its node died")
        new = self._member()
        member.actor, member.pending, member.block = new.actor, new.pending, None

    def end(self) -> None:
        """Kill the actors and see that they are gone: none may write once the folder is let go."""
        for member in self._members:
            self._ray.kill(member.actor)
        for member in self._members:
            with suppress(Exception):  # any error says that it is gone
                self._ray.get(member.actor.ready.remote(), timeout=_GONE_WITHIN_S)


def _failed(error: Exception) -> WorkerError:
    lines = str(error).strip().splitlines()
    return WorkerError(f"an actor failed: {lines[-1] if lines else type(error).__name__}")


class _Actor:
    """A process of the cluster that has the job's models loaded."""

    def __init__(self, job: Job, device: str, folder: str) -> None:
        with suppress(OSError):  # relative names mean the same on every machine that has the folder
            os.chdir(folder)
        self._job = job
        self._held = ExitStack()  # for as long as the process lives
        self._held.enter_context(held_by_worker(storage_at(job.out.path or ".")))
        job.setup(device)

    def ready(self) -> None:
        """Answers when the models are loaded."""

    def do(self, block: Block) -> tuple[dict[tuple[Counted, Status], int], int, ShardStats]:
        """Do a block and commit it; gives how many inputs and candidates ended how, its number and its stats."""
        tally = _Tally()
        try:
            do_blocks(self._job, [block], tally)
        except DeviceError:
            os._exit(DeviceError.exit_code)  # another actor, whose device is well, does the block
        assert tally.ended is not None, "a block that is done is committed"
        return dict(tally.counts), *tally.ended


class _Tally:
    """The watcher in an actor: counts, for the answer."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Counted, Status]] = Counter()
        self.ended: tuple[int, ShardStats] | None = None

    def counted(self, what: Counted, status: Status, n: int = 1) -> None:
        self.counts[what, status] += n

    def committed(self, index: int, stats: ShardStats) -> None:
        self.ended = index, stats
