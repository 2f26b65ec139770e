"""A run in a process of its own whose peak memory is measured."""

import threading
import time
from pathlib import Path
from typing import Any

import psutil

from tests.faults.trial import finished, start


def measured(out: Path, pipeline: str, options: dict[str, Any], patience_s: float = 1800) -> tuple[str, float, float]:
    """What went wrong ("" where nothing did), peak memory in MB, seconds."""
    begun = time.monotonic()
    process = start(out, pipeline, {"samples_per_shard": 500, **options})
    peak = [0]
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(process.pid, peak, ended))
    thread.start()
    code, said = finished(process, patience_s)
    ended.set()
    thread.join()
    return (f"ended with {code}: {said}" if code else ""), peak[0] / 2**20, time.monotonic() - begun


def _watch(pid: int, peak: list[int], ended: threading.Event) -> None:
    """The largest resident memory of a process, looked at twenty times a second."""
    try:
        process = psutil.Process(pid)
        while not ended.wait(0.05):
            peak[0] = max(peak[0], process.memory_info().rss)
    except psutil.NoSuchProcess:
        return
