"""A batch's inputs as tensors: cast, pinned, moved to the device, counted. Knows nothing of models."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def cast(value: Any, dtype: "torch.dtype", is_pinned: bool) -> Any:
    """Floating numbers as `dtype`, ready to be copied to the device while Python goes on."""
    import torch

    if isinstance(value, list | tuple):
        return type(value)(cast(one, dtype, is_pinned) for one in value)
    if not isinstance(value, torch.Tensor):
        return value
    value = value.to(dtype) if value.is_floating_point() else value
    return value.pin_memory() if is_pinned else value


def moved(value: Any, device: "torch.device") -> Any:
    """On the device, while Python goes on."""
    import torch

    if isinstance(value, list | tuple):
        return type(value)(moved(one, device) for one in value)
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value


def prompt_tokens(inputs: Mapping[str, Any], rows: int) -> list[int]:
    """Of each row, without padding; 0 where the model reads no text."""
    mask = inputs.get("attention_mask")
    counts: list[int] = [0] * rows if mask is None else mask.sum(dim=-1).tolist()
    return counts
