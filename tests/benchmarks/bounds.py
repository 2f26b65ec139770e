"""What bounds a row: where each side spends its time, operator by operator, and what the machine's products of matrices
give in each dtype. `python -m tests.benchmarks --only clip --bounds`; profiling slows everything down, so its seconds are
shares to compare, not speeds.
"""

import time
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.measure import Row, Side

_OPERATORS = 6
#: rows and columns like those of a ViT-B's layers on a batch of 64
_ROWS, _IN, _OUT = 3200, 768, 3072


def bounds(row: Row, device: str) -> dict[str, Any]:
    """Each side of this process once, after a round that is not looked at: operator → share of the side's wall clock."""
    for side in row.sides:
        side.run()
    rates = {str(dtype).removeprefix("torch."): product_rate(dtype, device) for dtype in _dtypes(device)}
    return {
        "title": row.title,
        "matrix_products_gflops": {name: round(rate / 1e9) for name, rate in rates.items()},
        "sides": {side.name: shares(side) for side in row.sides},
    }


def _dtypes(device: str) -> list[torch.dtype]:
    return [torch.float32, torch.bfloat16] if device == "cpu" else [torch.float32, torch.float16, torch.bfloat16]


def product_rate(dtype: torch.dtype, device: str, seconds: float = 1.0) -> float:
    """Operations a second of one linear layer, the best of many."""
    x = torch.randn(_ROWS, _IN, device=device, dtype=dtype)
    layer = torch.nn.Linear(_IN, _OUT, device=device, dtype=dtype)
    best, stop = float("inf"), time.perf_counter() + seconds
    with torch.inference_mode():
        while time.perf_counter() < stop:
            started = time.perf_counter()
            layer(x)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - started)
    return 2 * _ROWS * _IN * _OUT / best


def shares(side: Side) -> dict[str, float]:
    """The operators that take most of the thread that runs the models, and what is outside all operators."""
    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        side.run()
    wall = time.perf_counter() - started
    own = {event.key: event.self_cpu_time_total / 1e6 / wall for event in profiled.key_averages()}
    most = sorted(own, key=lambda name: -own[name])[:_OPERATORS]
    rest = 1 - sum(own.values())
    named = {name.removeprefix("aten::"): round(own[name], 3) for name in most}
    return named | {"other operators": round(sum(own.values()) - sum(own[n] for n in most), 3), "none": round(rest, 3)}
