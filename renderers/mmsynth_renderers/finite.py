"""Watches what a pipeline decodes: a picture made of NaN looks black, or like noise, and is neither.

Knows that pictures come out of an autoencoder's `decode`, or, without one, through the image processor. What it sees
stays on the device until it is asked.
"""

from functools import wraps
from typing import Any

import torch

#: the names that pipelines give to what turns latents into pixels
_DECODERS = ("vae", "movq", "vqvae", "vqgan")


class FiniteWatch:
    """Whether each picture of the last batch was made of numbers."""

    def __init__(self, pipeline: Any) -> None:
        self._seen: list[torch.Tensor] = []
        decoder = next((part for name in _DECODERS if hasattr(part := getattr(pipeline, name, None), "decode")), None)
        if decoder is not None:
            decoder.decode = self._watched(decoder.decode)
        elif processor := getattr(pipeline, "image_processor", None):
            processor.postprocess = self._watched(processor.postprocess)

    def rows(self, n: int) -> list[bool]:
        """Picture by picture, for a batch of `n`; then it forgets them."""
        seen, self._seen = self._seen, []
        if not seen:
            return [True] * n
        found: list[bool] = torch.cat(seen).tolist()
        # not a line for each picture: what is wrong with one may be any one's
        return found if len(found) == n else [all(found)] * n

    def _watched(self, function: Any) -> Any:
        @wraps(function)
        def run(first: Any, *others: Any, **options: Any) -> Any:
            given = function(first, *others, **options)
            finite = [_rows(tensor) for tensor in (first, _pixels(given)) if isinstance(tensor, torch.Tensor)]
            if len({len(rows) for rows in finite}) == 1:
                self._seen.append(torch.stack(finite).all(dim=0))
            else:
                self._seen += [rows.all().reshape(1) for rows in finite]
            return given

        return run


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    # the sum of what is finite may overflow, in half precision: no sums
    return tensor.isfinite().flatten(1).all(dim=1)


def _pixels(given: Any) -> Any:
    return getattr(given, "sample", given[0] if isinstance(given, tuple) else given)
