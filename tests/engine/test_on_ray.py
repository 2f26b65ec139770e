"""What the Ray executor promises, on a real cluster of two nodes: the same bytes, also when an actor or a node dies."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.state import list_tasks

import mmsynth as mm
from mmsynth.engine.progress import Progress
from mmsynth.errors import WorkerError
from mmsynth.pipeline import Pipeline
from tests.engine.gradients import Gradients
from tests.engine.run_files import shard_digests
from tests.engine.stages import Dies, TellsItsLoading, TellsItsProcess

_SHARDS = 40


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    """A head without CPUs."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patched.setenv("RAY_raylet_start_wait_time_s", "240")
        patched.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patched.setenv("PYTHONPATH", str(Path.cwd()))
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True})
        yield started
        ray.shutdown()
        started.shutdown()


@pytest.fixture
def cluster(head: Cluster) -> Cluster:
    """With two nodes that work."""
    while len(head.worker_nodes) < 2:
        head.add_node(num_cpus=1)
    head.wait_for_nodes()
    return head


def slow(tmp_path: Path, seconds: float) -> Pipeline:
    (tmp_path / "processes").mkdir(exist_ok=True)
    stage = TellsItsProcess(folder=str(tmp_path / "processes"), seconds=seconds)
    return mm.source(Gradients(n=2 * _SHARDS)).caption(stage)


def on_ray(made: Pipeline, out: Path, cluster: Cluster) -> mm.Report:
    return made.write(out, samples_per_shard=2, executor="ray", address=cluster.address)


def assert_as_if_undisturbed(made: Pipeline, out: Path) -> None:
    undisturbed = out.with_name("undisturbed")
    made.write(undisturbed, samples_per_shard=2)
    assert shard_digests(out) == shard_digests(undisturbed)
    assert {path.name for path in out.iterdir()} == {path.name for path in undisturbed.iterdir()}
    shutil.rmtree(undisturbed)


def when(condition: Callable[[], Any], action: Callable[[], None]) -> threading.Thread:
    """Do something once a condition holds, beside the test."""

    def wait() -> None:
        deadline = time.monotonic() + 120
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.05)
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_an_actor_and_then_a_whole_node_die_and_the_bytes_are_those_of_one_process(
    cluster: Cluster, tmp_path: Path
) -> None:
    made = slow(tmp_path, seconds=0.4)
    out = tmp_path / "out"

    def shards() -> int:
        return len(list(out.glob("*_stats.json")))

    def processes() -> list[Path]:
        return sorted((tmp_path / "processes").iterdir(), key=lambda path: path.stat().st_mtime_ns)

    left: list[int] = []

    def kill_an_actor() -> None:
        os.kill(int(processes()[-1].name), signal.SIGKILL)
        left.append(_SHARDS - shards())

    def kill_a_node() -> None:
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        left.append(_SHARDS - shards())

    threads = [
        when(lambda: shards() >= 2, kill_an_actor),
        # when the dead actor's successor is at work
        when(lambda: len(processes()) >= 3, kill_a_node),
    ]
    report = on_ray(made, out, cluster)
    for thread in threads:
        thread.join()
    assert report.kept == 2 * _SHARDS
    assert min(left) > 0, "both died in the middle"
    assert_as_if_undisturbed(made, out)


def test_actors_load_models_once_and_blocks_show_in_the_bar_and_in_rays_dashboard(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "processes").mkdir()
    made = mm.source(Gradients(n=16)).caption(TellsItsLoading(folder=str(tmp_path / "processes"), seconds=0.02))
    told: list[Progress] = []
    ray.init(address=cluster.address, logging_level="ERROR")
    try:
        report = made.write(
            tmp_path / "out", samples_per_shard=2, executor="ray", address=cluster.address, on_progress=told.append
        )
        assert report.kept == 16
        deadline = time.monotonic() + 60
        job = ray.get_runtime_context().get_job_id()
        while len(shown := blocks_in_the_dashboard(job)) < 8 and time.monotonic() < deadline:
            time.sleep(0.2)  # Ray tells it every second or so
    finally:
        ray.shutdown()
    assert shown == {f"block {i:05d}": "FINISHED" for i in range(8)}
    # of each block the candidates first, then the inputs
    assert list(dict.fromkeys(progress.inputs for progress in told)) == list(range(0, 17, 2)), "told block by block"
    assert told[-1] == Progress(total=16, inputs=16, kept=16)
    names = [path.name for path in (tmp_path / "processes").iterdir()]
    loaded = sorted(name.split("-")[1] for name in names if name.startswith("loaded-"))
    assert len(loaded) == len(set(loaded)) == 2, "once in each of two actors"
    assert {name for name in names if name.isdigit()} <= set(loaded)


def blocks_in_the_dashboard(job: str) -> dict[str, str]:
    """Name → state of the tasks of `job` that are blocks, by the interface from which Ray's dashboard has them."""
    tasks = list_tasks(filters=[("job_id", "=", job)])
    return {task.name: task.state for task in tasks if task.name.startswith("block ")}


def test_a_block_that_three_actors_die_of_is_set_aside_and_a_run_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    lives.mkdir()
    for i in range(3):
        (lives / str(i)).touch()
    made = mm.source(Gradients(n=8)).caption(Dies(on="photo-004", lives=str(lives)))
    with pytest.raises(WorkerError, match=r"1 blocks were skipped.*node died.*shards 00002; the others"):
        on_ray(made, tmp_path / "out", cluster)
    assert {path.name for path in (tmp_path / "out").glob("*.tar")} == {f"{i:05d}.tar" for i in (0, 1, 3)}
    assert on_ray(made, tmp_path / "out", cluster).already == 6
    assert_as_if_undisturbed(made, tmp_path / "out")


def test_a_cluster_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"no Ray cluster at 127\.0\.0\.1:9"):
        mm.source(Gradients(n=2)).write(tmp_path / "out", executor="ray", address="127.0.0.1:9")
