"""A run: check everything, plan the blocks, hand them to an executor, and finish the folder."""

import hashlib
import json
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mmsynth.blocks import Block, Counted, Item, ShardStats, Status
from mmsynth.engine.content import content_of, refuse_changed
from mmsynth.engine.distributed import Rank, launched_rank
from mmsynth.engine.in_process import run_here
from mmsynth.engine.progress import OnProgress, Progress
from mmsynth.engine.stopping import refuse_unguarded, stopped_by_signals
from mmsynth.engine.work import Executor, Job, flowing
from mmsynth.engine.workers import run_in_workers
from mmsynth.errors import RecipeError, SourceError, TooManyFailures
from mmsynth.io.storage import storage_at
from mmsynth.layout import in_share, numbered, stats_name
from mmsynth.models import resolve_device
from mmsynth.recipe import Recipe, RunOptions
from mmsynth.report import Report, report_on
from mmsynth.sample import Dropped, Failed, Result, Sample
from mmsynth.shards.folder import RunFolder
from mmsynth.shards.lock import locked
from mmsynth.shards.verify import damages

#: a share of failures means something only after so many inputs
_ENOUGH_TO_JUDGE = 100


def run_recipe(recipe: Recipe, on_progress: OnProgress | None = None) -> Report:
    """Run `recipe` into its output folder, or go on where an earlier run stopped. Raises MMSynthError.

    In a process that accelerate or torchrun has launched beside others, do this rank's share of it.
    """
    if recipe.out.path is None:
        raise RecipeError("the recipe has no output folder: set out.path")
    started = time.monotonic()
    rank = launched_rank()
    job = _checked_job(recipe)
    device = resolve_device(recipe.run.device)
    execute = _executor(recipe.run, rank)
    with stopped_by_signals(), _held(recipe.out.path, rank):
        folder = RunFolder(recipe.out.path)
        folder.start(recipe, device, rank.share if rank else None)
        plan = Plan(recipe, folder, rank)
        watch = Watch(recipe, plan, on_progress)
        execute(job, plan.blocks(), recipe.run.workers, rank.device(device) if rank else device, watch)
        if rank:
            folder = RunFolder(recipe.out.path)
        if plan.is_done_in(folder):
            with folder.storage.in_folder() as place:
                recipe.source.describe_in(place)
            folder.finish(recipe, device)
        watch.judge()
    return report_on(folder, seconds=time.monotonic() - started, already=plan.already.inputs)


@contextmanager
def _held(path: str, rank: Rank | None) -> Iterator[None]:
    """The output folder for this process or rank alone; an interrupted run leaves nothing half written in it."""
    storage = storage_at(path)
    with locked(storage, rank.number if rank else None):
        try:
            yield
        finally:
            storage.clear(in_share(*rank.share) if rank else None)


def _executor(options: RunOptions, rank: Rank | None) -> Executor:
    if options.executor == "ray":
        if rank:
            raise RecipeError("the ray executor starts its own processes: run it without accelerate or torchrun")
        from mmsynth.engine.on_ray import RayExecutor

        return RayExecutor(options.address, options.device)
    if rank and options.workers > 1:
        raise RecipeError(f"{rank.count} ranks are launched already: workers must be 1, got {options.workers}")
    return run_here if options.workers == 1 else run_in_workers


def repair(folder: str | Path, options: RunOptions, on_progress: OnProgress | None = None) -> Report:
    """Make the damaged shards of a run again, and finish it. Raises OutputError where there is nothing to go by."""
    there = RunFolder(folder)
    description = there.description()
    recipe = Recipe.from_dict(description["recipe"], where="run.json")
    with locked(there.storage):
        for index in {damage.shard for damage in damages(there)}:
            there.storage.remove(stats_name(index))
    out = recipe.out.model_copy(update={"path": str(folder)})
    run = options.model_copy(update={"limit": description.get("limit")})
    return run_recipe(recipe.model_copy(update={"out": out, "run": run}), on_progress)


def results(recipe: Recipe, n: int | None = None) -> Generator[Result, None, None]:
    """What becomes of the first `n` inputs, candidate by candidate, in memory; nothing is written."""
    with closing(items(recipe, n)) as found:
        for item in found:
            if item.status == "failed":
                yield Failed(item.reason, item.detail, item.sample or Sample(item.key))
            else:
                sample = item.sample or Sample(item.key)  # a file that is no input is dropped, and has none
                yield Dropped(item.reason, sample) if item.status == "dropped" else sample


def items(recipe: Recipe, n: int | None = None) -> Generator[Item, None, None]:
    """What becomes of the first `n` inputs, or of all that the recipe asks for; closing it stops all that runs."""
    if n == 0:
        return
    job = _checked_job(recipe)
    job.setup(resolve_device(recipe.run.device))
    slices = recipe.source.slices(n or recipe.out.samples_per_shard)
    blocks = _limited((Block(i, s.payload, s.size) for i, s in enumerate(slices)), n or recipe.run.limit)
    with flowing(job, blocks) as flow:
        for entry in flow:
            if isinstance(entry, Item):
                yield entry


def _checked_job(recipe: Recipe) -> Job:
    refuse_unguarded()
    recipe.source.check()
    stages = recipe.bound_stages()
    for stage in stages:
        stage.check()
    run = recipe.run
    return Job(recipe.source, stages, recipe.out, run.threads, run.batch_timeout_s, recipe.fingerprint())


@dataclass(slots=True)
class Already:
    """What earlier runs have done."""

    inputs: int = 0
    failed_inputs: int = 0
    candidates: int = 0
    failed: int = 0

    def add(self, stats: ShardStats) -> None:
        """Another shard."""
        self.inputs += sum(stats.inputs.values())
        self.failed_inputs += stats.inputs["failed"]
        self.candidates += stats.count
        self.failed += sum(stats.failed.values())


class Plan:
    """The blocks that are still to do, a launched rank's own. `already` counts those that iterating skips as done."""

    def __init__(self, recipe: Recipe, folder: RunFolder, rank: Rank | None = None) -> None:
        self._recipe, self.folder, self._rank = recipe, folder, rank
        self.already = Already()
        #: blocks of other ranks
        self._others: list[Block] = []

    @property
    def total(self) -> int | None:
        """Inputs in the whole run, where the source knows."""
        if self._rank:
            return None  # a rank's share depends on the sizes of its blocks
        count, limit = self._recipe.source.count(), self._recipe.run.limit
        return limit if count is None else min(count, limit or count)

    def blocks(self) -> Iterator[Block]:
        slices = self._recipe.source.slices(self._recipe.out.samples_per_shard)
        numbered = (Block(i, s.payload, s.size) for i, s in enumerate(slices))
        for block in _limited(numbered, self._recipe.run.limit):
            content = content_of(self._recipe.source.files(block.payload))
            identified = replace(block, identity=_identity(block), content=content)
            if self._rank and not self._rank.does(block.index):
                self._others.append(identified)
            elif self.folder.is_committed(identified):
                stats = self.folder.committed[block.index]
                ignore_times = self._recipe.run.ignore_times
                refuse_changed(self._recipe.source, identified, stats.content, self.folder.shown, ignore_times)
                self.already.add(stats)
            else:
                self._refuse_changed_source(identified)
                yield identified

    def is_done_in(self, folder: RunFolder) -> bool:
        """Whether the blocks of all other ranks are there too; to be asked when this one's are."""
        return all(folder.is_committed(block) for block in self._others)

    def _refuse_changed_source(self, block: Block) -> None:
        """A committed block of another content is remade if a limit had cut it short; else the source has changed."""
        there = self.folder.committed.get(block.index)
        if there is None:
            return
        whole = _identity(replace(block, limit=None)).split("/")[0]
        if there.block.split("/")[0] != whole:
            raise SourceError(
                f"the source has changed since an earlier run wrote shard {numbered(block.index)} of "
                f"{self.folder.shown}: write to another folder, or put the source back"
            )


def _identity(block: Block) -> str:
    payload = json.dumps(block.payload, sort_keys=True, default=str).encode()
    return f"{hashlib.blake2b(payload, digest_size=12).hexdigest()}/{block.limit or 'all'}"


def _limited(blocks: Iterator[Block], limit: int | None) -> Iterator[Block]:
    """The blocks of the first `limit` inputs. A block of unknown size counts as the whole of what is left."""
    left = limit
    for block in blocks:
        if left is None or (block.size is not None and block.size <= left):
            yield block
        else:
            yield replace(block, limit=left)
        if left is not None:
            left -= left if block.size is None else min(left, block.size)
            if left == 0:
                return


class Watch:
    """Counts what is written, reports progress, and stops a run in which too much fails."""

    def __init__(self, recipe: Recipe, plan: Plan, on_progress: OnProgress | None) -> None:
        self._max_failures = recipe.run.max_failures
        self._plan, self._on_progress = plan, on_progress
        self.progress = Progress(total=plan.total)

    def counted(self, what: Counted, status: Status, n: int = 1) -> None:
        """`n` more inputs, or candidates, came to this end."""
        self.progress = self.progress.plus(what, status, n, already=self._plan.already.inputs)
        if self._on_progress is not None:
            self._on_progress(self.progress)
        if self.progress.failed and self.progress.candidates >= _ENOUGH_TO_JUDGE:
            self.judge()

    def committed(self, index: int, stats: ShardStats) -> None:
        self._plan.folder.add(index, stats)

    def judge(self) -> None:
        """Raise TooManyFailures if the share of failed inputs, or candidates, earlier runs' too, is too large."""
        now, before = self.progress, self._plan.already
        self._judge("inputs", now.failed_inputs + before.failed_inputs, now.inputs + before.inputs)
        self._judge("candidates", now.failed + before.failed, now.candidates + before.candidates)

    def _judge(self, what: str, failed: int, count: int) -> None:
        if count and failed / count > self._max_failures:
            raise TooManyFailures(
                f"{failed} of {count} {what} failed, over max_failures {self._max_failures:g}; what is committed is "
                f"kept: see `mmsynth info {self._plan.folder.shown}` and the parquet files for the reasons"
            )
