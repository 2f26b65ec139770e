"""A peer's side of the conversation: it says what it is, and answers each line with what one repetition took."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib import metadata


def serve(packages: list[str], work: Callable[[], int]) -> None:
    """Run `work` for each line of input. It gives how many pairs it has done."""
    import torch

    print(json.dumps({name: metadata.version(name) for name in packages} | {"torch_threads": torch.get_num_threads()}),
          file=_OUT, flush=True)  # fmt: skip
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), _cpu_seconds()
        n = work()
        spent = {"n": n, "wall_s": time.perf_counter() - wall, "cpu_s": _cpu_seconds() - cpu}
        print(json.dumps(spent), file=_OUT, flush=True)


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


# whatever the peer prints goes to the error stream; answers have the output to themselves
_OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
