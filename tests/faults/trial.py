"""A trial: a run that is made once undisturbed, then disturbed again and again, and compared byte for byte."""

import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

#: executor → run options
Executors = dict[str, dict[str, Any]]
#: Another executor is one more row here: every sort of fault goes over all of them, but for Ray,
#: which `on_ray` adds where there is a cluster
EXECUTORS: Executors = {
    "in-process": {},
    "2 workers": {"workers": 2},
}
PATIENCE_S = 240.0
_COMMITTED = "_stats.json"


@dataclass(frozen=True)
class Figure:
    """One line of results.md: how many times something was tried, how often the promise held, and what went wrong."""

    sort: str
    what: str
    tried: int
    held: int
    note: str = ""
    wrong: list[str] = field(default_factory=list)


def count(sort: str, what: str, outcomes: list[str], note: str = "") -> Figure:
    """A figure from what went wrong in each try, "" where nothing did."""
    wrong = [outcome for outcome in outcomes if outcome]
    return Figure(sort, what, len(outcomes), len(outcomes) - len(wrong), note, wrong)


class Trial:
    """The folder `out`, and what an undisturbed run leaves in it.

    The undisturbed run is made in the same folder, since run.json names it; so run.json is compared too.
    """

    def __init__(
        self,
        folder: Path,
        executor: str = "in-process",
        pipeline: str = "plain",
        executors: Executors = EXECUTORS,
    ) -> None:
        self.out = folder / "out"
        self.executor, self._pipeline, self._options = executor, pipeline, executors[executor]
        self.clear()
        started = self.start()
        self.until_it_writes(started)
        begun = time.monotonic()
        code, said = finished(started)
        assert code == 0, said
        #: from the first file to the end
        self.seconds = time.monotonic() - begun
        self.expected = everything_in(self.out)

    def clear(self) -> None:
        """Away with what the last try left, but not with the folder, which may be a mount."""
        for path in self.out.iterdir() if self.out.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def start(self, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        return start(self.out, self._pipeline, self._options, env)

    def until_it_writes(self, process: "subprocess.Popen[str]") -> None:
        wait_for(lambda: (self.out / "run.json").exists() or process.poll() is not None)

    def random_moment(self, process: "subprocess.Popen[str]", rng: random.Random) -> None:
        """Wait until somewhere between the run's first file and its end, by its shards: clocks are slower some days."""
        self.until_it_writes(process)
        shards = sum(name.endswith(_COMMITTED) for name in self.expected)
        done, part = divmod(rng.uniform(0, shards), 1)
        wait_for(lambda: process.poll() is not None or len(list(self.out.glob(f"*{_COMMITTED}"))) >= done)
        time.sleep(part * self.seconds / shards)

    def resumed(self) -> str:
        """The same command again, undisturbed: "" if it leaves what it should."""
        code, said = finished(self.start())
        return f"the resumed run ended with {code}: {said}" if code else self.difference()

    def difference(self) -> str:
        """What is not as the undisturbed run left it: names, also of hidden files, and bytes."""
        there = everything_in(self.out)
        names = sorted({*there, *self.expected})
        wrong = [name for name in names if there.get(name) != self.expected.get(name)]
        return f"differs in {', '.join(wrong)}" if wrong else ""


def start(
    out: Path, pipeline: str, options: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """A run in a process of its own."""
    command = [sys.executable, "-m", "tests.faults.child", str(out), pipeline, json.dumps(dict(options))]
    whole = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.Popen(command, env=whole, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finished(process: "subprocess.Popen[str]", patience_s: float = PATIENCE_S) -> tuple[int, str]:
    """Exit code and last words. A run that does not end is ended, and says so."""
    try:
        _, said = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        for one in family(process.pid):
            one.kill()
        process.communicate()
        return -9, f"hung for {patience_s:g} s"
    return process.returncode, " ".join(said.split())[-300:]


@contextmanager
def on_ray() -> Iterator[Executors]:
    """The executors and Ray, on a cluster of one node that lasts as long as the block."""
    if importlib.util.find_spec("ray") is None:
        yield EXECUTORS
        return
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(Path.cwd()), "RAY_raylet_start_wait_time_s": "240"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        yield EXECUTORS | {"Ray": {"executor": "ray", "workers": 2, "address": cluster.address}}
    finally:
        cluster.shutdown()


def family(pid: int) -> list[psutil.Process]:
    """The process and its worker processes, or the actors of the Ray cluster that this process has started."""
    try:
        parent = psutil.Process(pid)
        children = [child for child in parent.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []
    return [parent, *children, *(one for one in psutil.Process().children(recursive=True) if _is_actor(one))]


def _is_actor(process: psutil.Process) -> bool:
    """By the title that Ray gives it: its class, or while it does a block that block's name."""
    try:
        return any(word.startswith(("ray::_Actor", "ray::block ")) for word in process.cmdline())
    except psutil.Error:
        return False


def everything_in(folder: Path) -> dict[str, str]:
    """Name → digest of every file, hidden ones too: half a file left behind is a difference."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


def wait_for(condition: Any, patience_s: float = PATIENCE_S) -> bool:
    ends = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(0.005)
    return True
