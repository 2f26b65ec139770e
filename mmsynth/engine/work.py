"""Work: blocks in, committed shards out, in one process. Every executor runs this."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from mmsynth.blocks import Block, Counted, Edge, Flow, Item, ShardStats, Status
from mmsynth.engine.chain import run_stages
from mmsynth.engine.content import read_content
from mmsynth.engine.resources import resources
from mmsynth.engine.threads import ReadAhead, WriteBehind
from mmsynth.io.storage import storage_at, written_to
from mmsynth.layout import array_ending, score_column
from mmsynth.models.files import ModelInfo
from mmsynth.recipe import Out
from mmsynth.sample import Sample
from mmsynth.shards.writer import ShardWriter
from mmsynth.sources.base import Source, Unreadable
from mmsynth.stage import Stage

#: items that wait between the reader and the stages, and between the stages and the writer
READ_AHEAD = 64
WRITE_BEHIND = 64


@dataclass(frozen=True)
class Job:
    """What a process needs to do any block of a run. Picklable."""

    source: Source
    stages: tuple[Stage, ...]
    out: Out
    threads: int | None
    batch_timeout_s: float | None = None
    #: the recipe's fingerprint: what is written goes only into a folder that is still this run's
    run: str = ""

    def setup(self, device: str) -> None:
        """Load every stage's models onto `device`."""
        for stage in self.stages:
            stage.setup(device)

    def models(self) -> list[ModelInfo]:
        return [model for stage in self.stages for model in stage.models]

    def score_names(self) -> list[str]:
        """Those of source and stages; a stage may write one of the source's anew."""
        given = [*self.source.score_names(), *(name for stage in self.stages for name in stage.score_names())]
        return list(dict.fromkeys(given))

    def array_names(self) -> list[str]:
        return list(dict.fromkeys([*self.source.array_names(), *self.rewritten_arrays()]))

    def made_by(self) -> dict[str, tuple[str, ...]]:
        """Of scores and arrays, the models that gave them. To be asked after `setup`."""
        found = dict(self.source.made_by())
        for stage in self.stages:
            models = tuple(f"{model.id} at {model.revision}" for model in stage.models)
            names = [*map(score_column, stage.score_names()), *map(array_ending, stage.array_names())]
            for name in names:
                found.pop(name, None)
            if models:
                found |= dict.fromkeys(names, (" and ".join(models),))
        return found

    def rewritten_arrays(self) -> list[str]:
        """Those of stages."""
        return [name for stage in self.stages for name in stage.array_names()]


class Watcher(Protocol):
    """Told what has been written, in the order of writing."""

    def counted(self, what: Counted, status: Status, n: int = 1) -> None:
        """`n` more inputs, or candidates, came to this end."""

    def committed(self, index: int, stats: ShardStats) -> None:
        """The block `index` is on disk."""


class Executor(Protocol):
    """Does blocks somewhere: in this process, in workers, on a cluster."""

    def __call__(self, job: Job, blocks: Iterator[Block], workers: int, device: str, watcher: Watcher, /) -> None:
        """Do all blocks on `workers` devices, telling the watcher of each that is committed."""


def do_blocks(job: Job, blocks: Iterable[Block], watcher: Watcher) -> None:
    """Run every block through the job's stages and commit its shard. `job.setup` has been called.

    The blocks are one stream: while one is being written, the next is being read.
    """
    writing = Writing(job, watcher)
    with flowing(job, blocks) as flow:
        behind = WriteBehind(writing.take, WRITE_BEHIND)
        try:
            for entry in flow:
                behind.put(entry)
            behind.finish()
        except BaseException:
            behind.cancel()
            writing.abandon()
            raise


@contextmanager
def flowing(job: Job, blocks: Iterable[Block]) -> Iterator[Iterator[Flow]]:
    """The items of all blocks, read ahead and with all stages applied."""
    threads = job.threads or max(2, min(16, os.cpu_count() or 2))
    reading = ReadAhead(read_blocks(job, blocks), READ_AHEAD)
    needs_loop = any(stage.shape == "one" for stage in job.stages)
    with reading as items, resources(threads, job.batch_timeout_s, with_loop=needs_loop) as on:
        yield run_stages(items, job.stages, job.out, on)


def read_blocks(job: Job, blocks: Iterable[Block]) -> Iterator[Flow]:
    """The items of each block, and its end marker."""
    # of another model, maybe: what a stage writes anew never lies in one file with what came
    rewritten = frozenset(job.rewritten_arrays())
    rescored = frozenset(name for stage in job.stages for name in stage.score_names())
    for block in blocks:
        yield Edge(block, is_end=False)
        for number, read in enumerate(islice(job.source.read(block.payload), block.limit)):
            yield item_from(_unscored(read, rescored), number, rewritten)
        yield Edge(block, is_end=True)


def _unscored(read: Sample | Unreadable, names: frozenset[str]) -> Sample | Unreadable:
    """Without the scores that stages give anew: where one gives none, another model's must not stand in its place."""
    if isinstance(read, Unreadable) or names.isdisjoint(scores := read.record.get("scores", {})):
        return read
    return read.with_record(scores={name: score for name, score in scores.items() if name not in names})


def item_from(read: Sample | Unreadable, number: int, rewritten: frozenset[str] = frozenset()) -> Item:
    """The item of what a source gave as the block's input `number`, without the arrays that stages write anew."""
    if isinstance(read, Unreadable):
        status: Status = "failed" if read.is_input else "dropped"
        return Item(read.key, None, read.source, status, read.reason, read.detail, number=number)
    if rewritten and read.arrays:
        read = replace(read, arrays={name: one for name, one in read.arrays.items() if name not in rewritten})
    origin = read.record.get("source", {})
    source = str(origin.get("path") or origin.get("kind") or "") if isinstance(origin, dict) else str(origin)
    repaired = origin.get("repaired") if isinstance(origin, dict) else None
    return Item(read.key, read, source, reason=",".join(repaired or ()), number=number)


class Writing:
    """Takes the flow, block by block, into shards. Runs in the writer's thread."""

    def __init__(self, job: Job, watcher: Watcher) -> None:
        self._storage, self._source = storage_at(job.out.path or "."), job.source
        self._watcher = watcher
        self._scores, self._arrays, self._models = job.score_names(), job.array_names(), job.models()
        self._run = job.run
        self._made_by = job.made_by()
        self._writer: ShardWriter | None = None

    def take(self, entry: Flow) -> None:
        with written_to(self._storage.shown):
            ended, stats = self._write(entry)
        if isinstance(entry, Item):
            self._watcher.counted("candidate", entry.status)
        if ended is not None:
            self._watcher.counted("input", ended)
        if isinstance(entry, Edge) and stats is not None:
            self._watcher.committed(entry.block.index, stats)

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()

    def _write(self, entry: Flow) -> tuple[Status | None, ShardStats | None]:
        """Gives the end of an input that came to it, and the stats of the block that this commits, if it does."""
        if isinstance(entry, Item):
            assert self._writer is not None, "items stand between a block's edges"
            return self._writer.add(entry), None
        if not entry.is_end:
            self._writer = ShardWriter(self._storage, entry.block, self._scores, self._arrays, self._models, self._run)
            return None, None
        assert self._writer is not None, "a block's end comes after its start"
        last = self._writer.inputs.end()
        content = read_content(self._source, entry.block)
        stats, self._writer = self._writer.commit(content, self._made_by), None
        return last, stats
