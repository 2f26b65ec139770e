"""Stages of the shape batch: what is put together ahead, and devices that fail."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import PrivateAttr

import mmsynth as mm
from mmsynth.errors import DeviceError
from mmsynth.testing import run_stage


class Assembles(mm.Captioner):
    """Work on what a thread has put together."""

    room: int = 1000
    _events: list[str] = PrivateAttr(default_factory=list)

    def prepare(self, sample: mm.Sample) -> str:
        return sample.key.upper()

    def assemble(self, batch: Sequence[mm.Sample], prepared: Sequence[str]) -> list[str]:
        assert len(batch) == len(prepared)
        self._events.append("assembled" + ("" if threading.current_thread() is threading.main_thread() else " ahead"))
        return [f"<{one}>" for one in prepared]

    def process_prepared(self, batch: Sequence[mm.Sample], prepared: list[str]) -> list[mm.Result]:
        assert len(batch) == len(prepared)
        if len(batch) > self.room:
            raise MemoryError
        time.sleep(0.05)
        self._events.append("processed")
        return [sample.with_caption(text) for sample, text in zip(batch, prepared, strict=True)]


SAMPLES = [mm.Sample(f"k{i}") for i in range(8)]


def captions(stage: mm.Stage) -> list[Any]:
    return [getattr(result, "caption", result) for results in run_stage(stage, SAMPLES) for result in results]


def test_the_next_batch_is_assembled_while_one_is_on_the_device() -> None:
    stage = Assembles(batch_size=2)
    assert captions(stage) == [f"<K{i}>" for i in range(8)]
    assert stage._events[:3] == ["assembled ahead", "assembled ahead", "processed"]
    assert stage._events.count("assembled ahead") == 4


def test_what_does_not_fit_the_device_is_assembled_anew_in_halves() -> None:
    stage = Assembles(batch_size=8, room=2)
    assert captions(stage) == [f"<K{i}>" for i in range(8)]
    assert stage._events.count("processed") == 4


def test_process_works_on_its_own_too() -> None:
    [one] = Assembles().process(SAMPLES[:1])
    assert one.caption == "<K0>"


class LosesItPreparing(mm.Captioner):
    """Fail as CUDA does, in a thread."""

    def prepare(self, sample: mm.Sample) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    def process_prepared(self, batch: Sequence[mm.Sample], prepared: Sequence[None]) -> list[mm.Result]:
        return list(batch)


def test_a_device_that_fails_in_a_thread_ends_the_run_too() -> None:
    with pytest.raises(DeviceError):
        captions(LosesItPreparing())


class LosesItsDevice(mm.Captioner):
    """Fail as CUDA does, on the sample `on`, for as long as there are files in a folder; takes one each time."""

    on: str
    lives: str

    def process(self, batch: Sequence[mm.Sample]) -> list[mm.Result]:
        left = sorted(Path(self.lives).iterdir())
        if left and any(sample.key == self.on for sample in batch):
            left[0].unlink()
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return [sample.with_caption("alive") for sample in batch]


def prompts(lives: Path, n: int) -> mm.Pipeline:
    lives.mkdir()
    for i in range(n):
        (lives / str(i)).touch()
    stage = LosesItsDevice(on=f"{5:09d}", lives=str(lives), batch_size=4)
    return mm.source("prompts", texts=[f"number {i}" for i in range(16)]).then(stage)


def test_a_device_that_fails_ends_the_run_and_no_sample_is_blamed(tmp_path: Path) -> None:
    pipeline = prompts(tmp_path / "lives", 1)
    with pytest.raises(DeviceError, match=r"illegal memory access.*the same command goes on"):
        pipeline.write(tmp_path / "out", samples_per_shard=4)
    report = pipeline.write(tmp_path / "out", samples_per_shard=4)
    assert (report.kept, report.failed) == (16, {})


def test_a_worker_whose_device_fails_is_replaced(tmp_path: Path) -> None:
    report = prompts(tmp_path / "lives", 2).write(tmp_path / "out", samples_per_shard=4, workers=2)
    assert (report.kept, report.failed) == (16, {})
