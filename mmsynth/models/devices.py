"""Chooses a model's device and dtype. Importing this loads no torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "float16", "bfloat16")


def resolve_device(device: str = "auto") -> str:
    """`auto` is the first CUDA device, else Apple's, else the CPU. Loads torch only for `auto`."""
    if device != "auto":
        return device
    try:
        import torch
    except ImportError:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def resolve_dtype(dtype: str, device: str) -> "torch.dtype":
    """`auto` is bfloat16 if the hardware supports it (CUDA, CPUs with avx512_bf16 or amx), else float32."""
    import torch

    if dtype != "auto":
        resolved = getattr(torch, dtype)
        assert isinstance(resolved, torch.dtype)
        return resolved
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device == "cpu" and _cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def dtype_name(dtype: "torch.dtype") -> str:
    """The dtype's name in recipes and provenance, such as bfloat16."""
    return str(dtype).removeprefix("torch.")


def _cpu_has_bfloat16() -> bool:
    import torch

    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)
