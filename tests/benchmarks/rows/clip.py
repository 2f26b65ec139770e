"""CLIP scoring from tars to shards, against the bare model, plain open_clip scripts, and the peers.

The model is open_clip's ViT-B-32 with random weights.
"""

import io
import json
from pathlib import Path
from typing import Any

import open_clip
import PIL.Image
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize

import mmsynth as mm
from mmsynth.models import resolve_dtype
from mmsynth.models.clip.towers import CausalText
from mmsynth_filters.clip import ClipScore
from tests.benchmarks.inputs import PHOTOGRAPH, SAMPLES_A_TAR, TWELVE_MEGAPIXELS, pairs_in, write_tars
from tests.benchmarks.measure import Options, Row, Side, Target
from tests.benchmarks.peers import Peer, peers_for
from tests.benchmarks.warm import Warm, run

ARCHITECTURE = "ViT-B-32"
BATCH = 64


class WarmClipScore(Warm, ClipScore):
    """ClipScore that loads its model once."""


def photographs(options: Options) -> Row:
    row = _row(options, PHOTOGRAPH, options.count(128), {"forward": 0.9, "script_float32": 3.5})
    peers: dict[str, Peer] = peers_for(options, scratch(options, PHOTOGRAPH), model(options))
    wanted = {"clip_retrieval": 3.5, "data_juicer": 5.0}
    return Row(
        row.title,
        [*row.sides, *(Side(name, peer.run) for name, peer in peers.items())],
        [*row.targets, *(Target(f"ours / {name}", "ours", name, wanted[name]) for name in peers)],
        row.about | {name: peer.about for name, peer in peers.items()},
        lambda: [peer.close() for peer in peers.values()] and None,
    )


def twelve_megapixels(options: Options) -> Row:
    return _row(options, TWELVE_MEGAPIXELS, options.count(32), {"forward": 0.6, "script_float32": 4.5})


def _row(options: Options, size: tuple[int, int], n: int, wanted: dict[str, float]) -> Row:
    folder, weights = scratch(options, size), model(options)
    tars = write_tars(folder, n, size)
    same = Plain(weights, options.device, resolve_dtype(options.dtype, options.device))
    float32 = Plain(weights, options.device, torch.float32)
    ready = list(same.batches(tars))
    stage = WarmClipScore(model=str(weights), dtype=options.dtype, batch_size=BATCH)
    stage.setup(options.device)
    ours = mm.read(f"{folder}/*.tar").filter(stage)
    sides = [
        Side("ours", lambda: run(ours, n, options.device, samples_per_shard=SAMPLES_A_TAR)),
        Side("forward", lambda: forward(same, ready)),
        Side("forward_trimmed", lambda: forward_trimmed(same, ready)),
        Side("script_float32", lambda: float32.script(tars)),
        Side("script_float32_one_at_a_time", lambda: float32.script(tars, 1, most=max(1, n // 4))),
    ]
    targets = [Target(f"ours / {name}", "ours", name, wanted.get(name)) for name in (s.name for s in sides[1:])]
    title = f"CLIP scoring, {'tiny' if options.tiny else ARCHITECTURE}, {size[0]}×{size[1]} JPEGs"
    return Row(title, sides, targets, {"n": n, "batch_size": BATCH})


def scratch(options: Options, size: tuple[int, int]) -> Path:
    return options.scratch / f"clip_{size[0]}"


def model(options: Options) -> Path:
    """The architecture with random weights, in open_clip's folder format."""
    folder = options.scratch / "clip_model"
    if not folder.exists():
        folder.mkdir(parents=True)
        torch.manual_seed(3)
        config: dict[str, Any] = open_clip.get_model_config(ARCHITECTURE)
        if options.tiny:
            config["vision_cfg"] |= {"layers": 2, "width": 64}
            config["text_cfg"] |= {"layers": 2, "width": 64, "heads": 1}
        made = open_clip.CLIP(**config)
        save_file(made.state_dict(), folder / "open_clip_model.safetensors")
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        preprocess = {"mean": mean, "std": std, "interpolation": "bicubic", "resize_mode": "shortest"}
        about = {"model_cfg": config, "preprocess_cfg": preprocess}
        (folder / "open_clip_config.json").write_text(json.dumps(about))
    return folder


class Plain:
    """open_clip as its readme uses it: the model in one dtype, its transform, its tokenizer."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        name = f"local-dir:{folder}"
        self.device, self.dtype = device, dtype
        model, self.preprocess = open_clip.create_model_from_pretrained(name, device=device)
        self.model = model.to(dtype).eval()
        self.tokenizer = open_clip.get_tokenizer(name)

    @torch.inference_mode()
    def cosines(self, images: torch.Tensor, tokens: torch.Tensor) -> list[float]:
        image = self.model.encode_image(images, normalize=True)
        text = self.model.encode_text(tokens, normalize=True)
        cosines: list[float] = (image * text).sum(dim=-1).tolist()
        return cosines

    def batches(self, tars: list[Path], size: int = BATCH, most: int | None = None) -> Any:
        """Read, decode, transform and tokenize: a batch at a time."""
        pairs: list[tuple[bytes, str]] = []
        for number, pair in enumerate(pairs_in(tars)):
            if number == most:
                break
            pairs.append(pair)
            if len(pairs) == size:
                yield self.ready(pairs)
                pairs = []
        if pairs:
            yield self.ready(pairs)

    def ready(self, pairs: list[tuple[bytes, str]]) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.stack([self.preprocess(PIL.Image.open(io.BytesIO(data))) for data, _ in pairs])
        return images.to(self.device, self.dtype), self.tokenizer([text for _, text in pairs]).to(self.device)

    def script(self, tars: list[Path], size: int = BATCH, most: int | None = None) -> int:
        """A script of one loop: read, decode, transform, score a batch, next."""
        return sum(len(self.cosines(*ready)) for ready in self.batches(tars, size, most))


def forward(plain: Plain, ready: list[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """Both towers on ready tensors at the full context, nothing else: what the hardware gives."""
    return sum(len(plain.cosines(images, tokens)) for images, tokens in ready)


@torch.inference_mode()
def forward_trimmed(plain: Plain, ready: list[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """The same, the text tower on no more positions than the captions have."""
    causal = CausalText.of(plain.model)
    assert causal is not None
    scores: list[float] = []
    for images, tokens in ready:
        last = tokens.argmax(dim=-1)
        text = causal.embed(tokens[:, : int(last.max()) + 1], last)
        scores += (plain.model.encode_image(images, normalize=True) * normalize(text, dim=-1)).sum(dim=-1).tolist()
    return len(scores)
