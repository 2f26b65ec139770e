"""From a JPEG's bytes to what CLIP's image tower takes, on one core, against PIL and open_clip's own transform."""

import io

import numpy as np
import PIL.Image
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2

import mmsynth as mm
from mmsynth.models.clip.find import find_clip
from mmsynth.models.clip.model import ClipModel
from tests.benchmarks.inputs import PHOTOGRAPH, TWELVE_MEGAPIXELS, jpegs
from tests.benchmarks.measure import Options, Row, Side, Target
from tests.benchmarks.rows.clip import model


def photographs(options: Options) -> Row:
    return _row(options, PHOTOGRAPH, options.count(200), at_least=3)


def twelve_megapixels(options: Options) -> Row:
    return _row(options, TWELVE_MEGAPIXELS, options.count(24), at_least=5)


def _row(options: Options, size: tuple[int, int], n: int, at_least: float) -> Row:
    pictures = list(jpegs(n, size))
    transform = image_transform_v2(PreprocessCfg(size=224), is_train=False)
    clip = ClipModel(find_clip(str(model(options))), "cpu", torch.float32, exact=False)
    threads = torch.get_num_threads()

    def ours() -> int:
        ready = [clip.pixels_of(mm.Image(data)) for data in pictures]
        return len(clip.normalized(torch.from_numpy(np.stack(ready))))

    def naive() -> int:
        return len(torch.stack([transform(PIL.Image.open(io.BytesIO(data))) for data in pictures]))

    torch.set_num_threads(1)
    return Row(
        f"decode and preprocess to 224 px, {size[0]}×{size[1]} JPEGs, one core",
        [Side("ours", ours, by_cpu=True), Side("pil_and_open_clip", naive, by_cpu=True)],
        [Target("ours / PIL and open_clip's transform", "ours", "pil_and_open_clip", at_least)],
        {"n": n},
        lambda: torch.set_num_threads(threads),
        warm_up=True,
    )
