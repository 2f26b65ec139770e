"""The machine that figures are from, without its name; and how busy it is."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "torchvision", "transformers", "diffusers", "open_clip_torch", "pillow", "numpy", "webdataset")
#: instructions that decide how fast a CPU multiplies matrices
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_CPU_INFO = Path("/proc/cpuinfo")
_STAT = Path("/proc/stat")


def cores() -> int:
    return os.cpu_count() or 1


def busy_seconds() -> float | None:
    """Seconds that all processors together have worked since the start, stolen time too. None where nobody counts."""
    if not _STAT.exists():
        return None
    user, nice, system, _idle, _waiting, hard, soft, stolen = map(int, _STAT.read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + hard + soft + stolen) / os.sysconf("SC_CLK_TCK")


def description(device: str, dtype: str) -> dict[str, Any]:
    """Cores, CPU, GPU, versions and dtype."""
    import torch

    from mmsynth.models import resolve_dtype

    about: dict[str, Any] = {"cores": cores(), "cpu": _cpu(), "system": platform.system()}
    if _CPU_INFO.exists():
        flags = next((line for line in _CPU_INFO.read_text().splitlines() if line.startswith("flags")), "").split()
        about["cpu_has"] = [flag for flag in _FLAGS if flag in flags]
    if device.startswith("cuda"):
        about |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    dtype = str(resolve_dtype(dtype, device)).removeprefix("torch.")
    versions = {package: _version(package) for package in _PACKAGES}
    return about | {
        "device": device.partition(":")[0],
        "dtype": dtype,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _cpu() -> str:
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
