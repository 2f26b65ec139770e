"""Asks a processor what it does with pictures, instead of keeping a list of architectures.

Does it put a picture's place into the text itself? Does it fill small pictures up beside large ones, without a mask?
"""

from contextlib import suppress
from typing import Any

#: by these a model knows which pixels are a picture's own
_MASKS = ("pixel_attention_mask", "pixel_mask", "image_attention_mask_pixels")
_TEXT = "a"


def wanted_image_token(processor: Any) -> str | None:
    """What a text must hold for each picture; None where the processor places it, or the model reads no such token."""
    token = getattr(processor, "image_token", None)
    if token is None:
        return None
    number = processor.tokenizer.convert_tokens_to_ids(str(token))
    bare, placed = (_places(processor, text, number) for text in (_TEXT, f"{token}{_TEXT}"))
    # where both give the same, the place is named
    return None if bare and bare != placed else str(token)


def _places(processor: Any, text: str, number: int) -> int:
    """How many places of a picture the processor makes of a text with one picture; 0 where it refuses it."""
    picture = _picture(64, 64)
    for shown in ([[picture]], [picture]):
        with suppress(Exception):  # it takes pictures in another way, or not with this text
            made = processor(images=shown, text=[text], return_tensors="pt")
            # some say by a mask or by indices where the picture is
            elsewhere = any(name in made for name in ("image_embeds_position_mask", "image_patches_indices"))
            return int((made["input_ids"] == number).sum()) or int(elsewhere)
    return 0


def sizes_leak(processor: Any, model: Any) -> bool:
    """Whether a picture's pixels are filled up to those of a larger one beside it, and the model cannot tell."""
    processor = getattr(processor, "image_processor", None)
    if processor is None:
        return False
    small, large = _picture(64, 64), _picture(256, 160)
    for nested in (False, True):
        with suppress(Exception):  # one that takes no pictures so is asked in the other way, or is no matter of ours
            alone, beside = (
                processor(images=[[one] for one in shown] if nested else shown, return_tensors="pt")
                for shown in ([small], [small, large])
            )
            return _is_filled_up(alone, beside) and not _is_told(beside, model)
    return False


def _is_filled_up(alone: Any, beside: Any) -> bool:
    one, two = alone.get("pixel_values"), beside.get("pixel_values")
    if not all(hasattr(pixels, "shape") and len(pixels.shape) >= 4 for pixels in (one, two)):
        return False
    # some put all patches in one long row
    return bool(len(two) > len(one) and one.shape[-2:] != two.shape[-2:])


def _is_told(made: Any, model: Any) -> bool:
    """Whether there is a mask; or sizes, and the model cuts its pictures into patches that do not overlap."""
    from torch import nn

    if any(name in made for name in _MASKS):
        return True
    overlapping = any(
        isinstance(part, nn.Conv2d) and any(k > s for k, s in zip(part.kernel_size, part.stride, strict=True))
        for part in model.modules()
    )
    return "image_sizes" in made and not overlapping


def _picture(width: int, height: int) -> Any:
    import PIL.Image

    return PIL.Image.new("RGB", (width, height), (128, 96, 64))
