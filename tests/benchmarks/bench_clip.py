"""CLIP scores a second, from tars to shards, beside the bare model and beside plain open_clip scripts.

Run by hand: python -m tests.benchmarks.bench_clip [-n 256] [--rounds 3] [--device auto] [--dtype auto] [--cpu-time]

Measures open_clip's ViT-B-32 with random weights on made-up 640×480 photographs. Every round runs every way once, so
that a machine that is busy for a while slows all of them; the ratios are medians over rounds. Loading the model is
counted in none of them. Prints a table and writes bench_clip.json beside this file.
"""

import argparse
import io
import json
import os
import platform
import random
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL.Image
import pyarrow.parquet as pq
import torch
from open_clip.push_to_hf_hub import save_config_for_hf
from PIL import ImageFilter
from safetensors.torch import save_file
from torch.nn.functional import normalize

import mmsynth as mm
from mmsynth.models import resolve_device, resolve_dtype
from mmsynth_filters._clip_towers import CausalText
from mmsynth_filters.clip import ClipScore

ARCHITECTURE = "ViT-B-32"
BATCH = 64
SAMPLES_A_TAR = 128
TEXT = (
    "a the two old small white brown red man woman dog cat horse street table kitchen sits standing holding riding "
    "near on with and of in front behind window tree grass bicycle bus plate pizza umbrella sunset beach water"
)

RESULT = Path(__file__).with_suffix(".json")


#: what seconds are read from; --cpu-time sets another
CLOCK = {"now": time.perf_counter}
SETUP_S: list[float] = []


class TimedClipScore(ClipScore):
    """ClipScore that remembers how long its model took to load."""

    def setup(self, device: str) -> None:
        start = CLOCK["now"]()
        super().setup(device)
        SETUP_S.append(CLOCK["now"]() - start)


# -- what is measured on ------------------------------------------------------------------------------------------


def write_tars(folder: Path, n: int) -> list[Path]:
    """WebDataset tars of JPEGs with the spectrum of photographs, about 80 kB each, and captions of 6 to 20 words."""
    rng, words = np.random.default_rng(5), random.Random(5)
    paths = []
    for first in range(0, n, SAMPLES_A_TAR):
        paths.append(folder / f"{first // SAMPLES_A_TAR:05d}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            for i in range(first, min(n, first + SAMPLES_A_TAR)):
                caption = " ".join(words.choices(TEXT.split(), k=words.randint(6, 20)))
                for extension, data in (("jpg", photograph(rng)), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{i:06d}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return paths


def photograph(rng: np.random.Generator) -> bytes:
    coarse = PIL.Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((640, 480), 3)
    middle = PIL.Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)).resize((640, 480), 3)
    picture = PIL.Image.blend(coarse, middle.filter(ImageFilter.GaussianBlur(2)), 0.35)
    grain = rng.normal(0, 4, (480, 640, 1))
    buffer = io.BytesIO()
    pixels = np.clip(np.asarray(picture, dtype=np.float32) + grain, 0, 255).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def save_model(folder: Path) -> Path:
    """The architecture with random weights, in open_clip's folder format."""
    torch.manual_seed(3)
    model = open_clip.create_model(ARCHITECTURE)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    save_config_for_hf(model, folder / "open_clip_config.json", open_clip.get_model_config(ARCHITECTURE))
    return folder


def pairs_in(tars: list[Path]) -> Iterator[tuple[bytes, str]]:
    for path in tars:
        with tarfile.open(path) as tar:
            members = iter(tar)
            for image, text in zip(members, members, strict=True):
                yield read(tar, image), read(tar, text).decode()


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


# -- the ways of scoring ------------------------------------------------------------------------------------------


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

    def ready(self, pairs: list[tuple[bytes, str]]) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.stack([self.preprocess(PIL.Image.open(io.BytesIO(data))) for data, _ in pairs])
        return images.to(self.device, self.dtype), self.tokenizer([text for _, text in pairs]).to(self.device)

    def script(self, tars: list[Path], n: int, batch: int) -> list[float]:
        """A script of one loop: read, decode, transform, score `batch` pairs, next."""
        scores, pairs = [], []
        for pair in pairs_in(tars):
            pairs.append(pair)
            if len(pairs) == batch or len(scores) + len(pairs) == n:
                scores += self.cosines(*self.ready(pairs))
                pairs = []
            if len(scores) == n:
                break
        return scores


def forward(plain: Plain, ready: list[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
    """Both towers on ready tensors at the full context, nothing else: what the hardware gives."""
    return [cosine for images, tokens in ready for cosine in plain.cosines(images, tokens)]


@torch.inference_mode()
def forward_trimmed(plain: Plain, ready: list[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
    """The same, the text tower on no more positions than the captions have."""
    causal = CausalText.of(plain.model)
    assert causal is not None
    scores: list[float] = []
    for images, tokens in ready:
        last = tokens.argmax(dim=-1)
        text = causal.embed(tokens[:, : int(last.max()) + 1], last)
        scores += (plain.model.encode_image(images, normalize=True) * normalize(text, dim=-1)).sum(dim=-1).tolist()
    return scores


def prepare_only(stage: ClipScore, pairs: list[tuple[bytes, str]]) -> list[float]:
    """Decode, resize, crop and tokenize in one thread: what the processor must do for each pair beside the model."""
    for data, text in pairs:
        stage.prepare(mm.Sample("k", mm.Image(data), text))
    return []


def pipeline(tars: Path, folder: Path, device: str, dtype: str) -> tuple[float, list[float]]:
    """mmsynth from tars to shards: seconds without loading the model, and the scores in the parquet files."""
    stage = TimedClipScore(model=str(folder), dtype=dtype, batch_size=BATCH)
    with tempfile.TemporaryDirectory() as out:
        SETUP_S.clear()
        start = CLOCK["now"]()
        mm.read(f"{tars}/*.tar").filter(stage).write(out, samples_per_shard=SAMPLES_A_TAR, device=device)
        seconds = CLOCK["now"]() - start - SETUP_S[0]
        tables = [pq.read_table(path) for path in sorted(Path(out).glob("*.parquet"))]
    return seconds, [score for table in tables for score in table["score_clip"].to_pylist()]


# -- measuring ----------------------------------------------------------------------------------------------------


def timed(work: Callable[[], list[float]]) -> tuple[float, list[float]]:
    start = CLOCK["now"]()
    scores = work()
    return CLOCK["now"]() - start, scores


def measure(n: int, serial_n: int, rounds: int, device: str, dtype: str, scratch: Path) -> dict[str, Any]:
    tars = write_tars(scratch, n)
    folder = scratch / "model"
    folder.mkdir()
    save_model(folder)
    resolved = resolve_dtype(dtype, device)
    same, float32 = Plain(folder, device, resolved), Plain(folder, device, torch.float32)
    pairs = list(pairs_in(tars))
    ready = [same.ready(pairs[i : i + BATCH]) for i in range(0, n, BATCH)]
    stage = ClipScore(model=str(folder), dtype=dtype)
    stage.setup(device)

    ways: dict[str, tuple[int, Callable[[], tuple[float, list[float]]]]] = {
        "pipeline": (n, lambda: pipeline(scratch, folder, device, dtype)),
        "forward": (n, lambda: timed(lambda: forward(same, ready))),
        "forward_trimmed": (n, lambda: timed(lambda: forward_trimmed(same, ready))),
        "prepare_one_thread": (n, lambda: timed(lambda: prepare_only(stage, pairs))),
        "script_float32_one_at_a_time": (serial_n, lambda: timed(lambda: float32.script(tars, serial_n, 1))),
        "script_float32_batched": (n, lambda: timed(lambda: float32.script(tars, n, BATCH))),
    }
    forward(same, ready[:1])
    rates: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, (count, work) in ways.items():
            seconds, scores[name] = work()
            rates[name].append(count / seconds)
    difference = max(abs(a - b) for a, b in zip(scores["pipeline"], scores["script_float32_batched"], strict=True))
    return {"rates": rates, "largest_difference_from_float32": difference, "dtype": str(resolved)}


def ratios(rates: dict[str, list[float]]) -> dict[str, float]:
    """The pipeline against every other way: the median of the rounds' ratios."""
    return {
        name: statistics.median(mine / theirs for mine, theirs in zip(rates["pipeline"], other, strict=True))
        for name, other in rates.items()
        if name != "pipeline"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=256, help="pairs; on a GPU thousands are needed")
    parser.add_argument("--serial-n", type=int, default=64, help="pairs for the script that scores one at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count this process's CPU seconds: for a CPU that others use too"
    )
    given = parser.parse_args()
    if given.cpu_time:
        CLOCK["now"] = time.process_time
        torch.set_num_threads(1)  # threads that wait for one another would count as work
    device = resolve_device(given.device)
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(given.n, given.serial_n, given.rounds, device, given.dtype, Path(scratch))
    against = ratios(found["rates"])
    hardware = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    about = {
        "model": ARCHITECTURE,
        "pairs": given.n,
        "batch_size": BATCH,
        "device": device,
        "hardware": hardware,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "clock": "CPU seconds of the process" if given.cpu_time else "wall clock",
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
    }
    RESULT.write_text(json.dumps({**about, **found, "pipeline_against": against}, indent=2) + "\n")
    print(f"{given.n} pairs, {ARCHITECTURE}, {found['dtype']} on {hardware} ({os.cpu_count()} cores)")
    print(f"{'':32}{'pairs / CPU second' if given.cpu_time else 'pairs a second':>20}{'pipeline against it':>22}")
    for name, values in found["rates"].items():
        ratio = f"{against[name]:.2f}" if name in against else ""
        print(f"{name:32}{statistics.median(values):20.1f}{ratio:>22}")
    print(f"largest difference from float32 open_clip: {found['largest_difference_from_float32']:.1e}")


if __name__ == "__main__":
    main()
