"""Equal texts of a batch through a text encoder once: the empty prompt that guidance steers away from, a prompt that is
drawn several times.

Pipelines encode both for every picture. Within a batch only: what was remembered from other batches would be rounded as
it was in those, and a run that is resumed would differ from one that never stopped. Knows token ids and what encoders
give; knows no pipeline, so it works for all that call their encoders with `input_ids` and perhaps an `attention_mask`.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


def encode_once(pipeline: Any) -> None:
    """Let the pipeline's text encoders run once for equal texts."""
    for name in _ENCODERS:
        encoder = getattr(pipeline, name, None)
        if isinstance(encoder, torch.nn.Module):
            # the module stays what it is for all that look at it; accelerate's hooks are set in the same way
            encoder.forward = once_each(encoder.forward)


def once_each(forward: Callable[..., Any]) -> Callable[..., Any]:
    """An encoder's `forward` that runs on different rows of ids only, and gives what it would have given for all.

    Calls that are not rows of ids and a mask of them, and answers that are not rows, it leaves as they are.
    """

    @wraps(forward)
    def encode(input_ids: Any = None, *others: Any, attention_mask: Any = None, **options: Any) -> Any:
        def run(ids: Any, mask: Any) -> Any:
            return forward(ids, *others, attention_mask=mask, **options)

        plain = not others and not any(isinstance(value, Tensor) for value in options.values())
        if not plain or not _are_rows(input_ids, attention_mask):
            return run(input_ids, attention_mask)
        both = input_ids if attention_mask is None else torch.cat([input_ids, attention_mask.to(input_ids.dtype)], 1)
        texts = [tuple(text) for text in both.tolist()]
        # dict.fromkeys: each text once, in order
        number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        if len(number) == len(texts):
            return run(input_ids, attention_mask)
        first = torch.tensor([texts.index(text) for text in number], device=input_ids.device)
        given = run(input_ids[first], None if attention_mask is None else attention_mask[first])
        if not _has_lines(given, len(number)):
            return run(input_ids, attention_mask)
        return _lines(given, torch.tensor([number[text] for text in texts], device=input_ids.device))

    return encode


def _are_rows(ids: Any, mask: Any) -> bool:
    return isinstance(ids, Tensor) and ids.ndim == 2 and (mask is None or mask.shape == ids.shape)


def _has_lines(given: Any, n: int) -> bool:
    """Whether it is made of tensors with a line for each of `n` texts, and nothing else."""
    if isinstance(given, Tensor):
        return given.ndim > 0 and len(given) == n
    if isinstance(given, dict):  # transformers' outputs are
        return all(_has_lines(value, n) for value in given.values())
    return given is None or (isinstance(given, tuple) and all(_has_lines(value, n) for value in given))


def _lines(given: Any, chosen: Tensor) -> Any:
    if isinstance(given, Tensor):
        return given[chosen.to(given.device)]
    if isinstance(given, dict):
        return type(given)(**{name: _lines(value, chosen) for name, value in given.items()})
    return None if given is None else tuple(_lines(value, chosen) for value in given)
