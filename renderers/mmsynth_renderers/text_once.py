"""Encodes equal texts of a batch only once: the empty prompt of guidance, or a prompt that is drawn several times.

Pipelines would encode both for every picture. Results are reused only within a batch. Those of other batches would have
other rounding, so a resumed run would differ from an uninterrupted one. Knows token ids and encoders' outputs, but no
pipeline, so it works for all that call their encoders with `input_ids` and an optional `attention_mask`.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


def encode_once(pipeline: Any) -> None:
    """Make the pipeline's text encoders run once for equal texts."""
    for name in _ENCODERS:
        encoder = getattr(pipeline, name, None)
        if isinstance(encoder, torch.nn.Module):
            # set `forward` on the instance, as accelerate's hooks do, so that the module keeps its type
            encoder.forward = once_each(encoder.forward)


def once_each(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an encoder's `forward` so that it runs on distinct rows of ids only, and returns the result for all rows.

    Calls with anything but rows of ids and their mask, and outputs that are not rows, pass through unchanged.
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
    """Whether `given` consists of tensors with a row for each of `n` texts, and nothing else."""
    if isinstance(given, Tensor):
        return given.ndim > 0 and len(given) == n
    if isinstance(given, dict):  # transformers' outputs are dicts
        return all(_has_lines(value, n) for value in given.values())
    return given is None or (isinstance(given, tuple) and all(_has_lines(value, n) for value in given))


def _lines(given: Any, chosen: Tensor) -> Any:
    if isinstance(given, Tensor):
        return given[chosen.to(given.device)]
    if isinstance(given, dict):
        return type(given)(**{name: _lines(value, chosen) for name, value in given.items()})
    return None if given is None else tuple(_lines(value, chosen) for value in given)
