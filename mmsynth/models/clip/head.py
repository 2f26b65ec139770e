"""Heads over CLIP embeddings: one or a few linear layers in a safetensors file.

LAION's aesthetic predictors and most watermark detectors are of this kind. Does not know a model by name.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsynth.errors import ModelError, PluginError

if TYPE_CHECKING:
    import PIL.Image
    import torch

    from mmsynth.models.clip.find import ClipFiles

_NUMBER = re.compile(r"(?:^|\.)(\d+)\.weight$")


def head_layers(file: Path, labels: Sequence[str]) -> list[str]:
    """The names of the layers' weights in a safetensors file, in order, from its header. Raises ModelError."""
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise PluginError(
            "a head over CLIP embeddings needs 'safetensors', which is not installed: pip install 'mmsynth[clip]'"
        ) from error
    if not file.is_file():
        raise ModelError(f"head '{file}' is not a file")
    try:
        with safe_open(file, framework="np") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own kind, and the disk others
        raise ModelError(f"head '{file}' is not a safetensors file: {error}") from error
    layers = _in_order(shapes)
    if not layers or not _fit(layers, shapes):
        raise ModelError(
            f"head '{file}' must hold weight (scores, width) and maybe bias (scores), or such layers as 0.weight, "
            f"2.weight, each as wide as the one before gives, and holds {shapes}"
        )
    given = shapes[layers[-1]][0]
    if given != max(1, len(labels)):
        raise ModelError(f"head '{file}' gives {given} scores, and labels names {len(labels)}")
    return layers


def _in_order(shapes: dict[str, tuple[int, ...]]) -> list[str]:
    if "weight" in shapes:
        return ["weight"]
    numbered = {name: int(match[1]) for name in shapes if (match := _NUMBER.search(name))}
    return sorted(numbered, key=lambda name: numbered[name])


def _fit(layers: Sequence[str], shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether the layers are matrices that chain, each with an optional bias, and the file has nothing else."""
    if any(len(shapes[name]) != 2 for name in layers):
        return False
    if any(shapes[a][0] != shapes[b][1] for a, b in itertools.pairwise(layers)):
        return False
    biases = {_bias(name): shapes[name][:1] for name in layers}
    others = set(shapes) - set(layers)
    return others <= set(biases) and all(shapes[name] == biases[name] for name in others)


def _bias(weight: str) -> str:
    return f"{weight.removesuffix('weight')}bias"


class ClipHead:
    """Layers over the image embeddings of an open_clip model, in float32. An ImageScorer."""

    def __init__(self, found: "ClipFiles", file: Path, activation: str, device: str, dtype: "torch.dtype") -> None:
        import PIL.Image
        from safetensors.torch import load_file

        from mmsynth.models.clip.model import ClipModel

        self._clip = ClipModel(found, device, dtype)
        self.info = self._clip.info
        head = {name: values.to(device).float() for name, values in load_file(file).items()}
        self._layers = [
            (head[name], head.get(_bias(name))) for name in _in_order({n: tuple(v.shape) for n, v in head.items()})
        ]
        self._activation = activation
        width, wanted = (
            self._embed([self.pixels_for(PIL.Image.new("RGB", (32, 32)))]).shape[1],
            self._layers[0][0].shape[1],
        )
        if width != wanted:
            raise ModelError(f"head '{file}' is for embeddings of {wanted} numbers, and '{found.id}' gives {width}")

    def pixels_for(self, picture: "PIL.Image.Image") -> Any:
        """One picture in the model's input format. Safe to call in threads."""
        return self._clip.pixels_for(picture)

    def scores(self, prepared: Sequence[Any]) -> list[list[float]]:
        """The scores of each prepared picture, in the order of the head's rows."""
        import torch
        from torch.nn import functional

        between: Callable[[torch.Tensor], torch.Tensor] = {
            "none": lambda x: x,
            "relu": functional.relu,
            "gelu": functional.gelu,
        }[self._activation]
        with torch.inference_mode():
            values = self._embed(prepared)
            for number, (weight, bias) in enumerate(self._layers):
                values = functional.linear(between(values) if number else values, weight, bias)
            scores: list[list[float]] = values.tolist()
        return scores

    def _embed(self, prepared: Sequence[Any]) -> "torch.Tensor":
        import torch

        with torch.inference_mode():
            return self._clip.embed_images(prepared)
