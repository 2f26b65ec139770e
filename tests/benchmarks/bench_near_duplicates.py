"""Near-duplicates of real pictures: recall and precision for each kind of change, and the time to group 200,000.

Run by hand: python -m tests.benchmarks.bench_near_duplicates [--hashes 200000] [--model nano] [--only embedding]

The base pictures are, each judged by itself:

- photographs: tiles of 128 pixels, cut side by side, never overlapping, out of the photographs that scikit-image and
  scikit-learn carry (without its drawings and scans); tiles with hardly any content (flat sky) are left out
- clip art: 400 drawings of the Debian package openclipart-png, on white, at most 384 pixels, where it is installed.
  Playing cards, flags and icons are left out, which are variants of one drawing by design, and what looks like an
  earlier one at 32 pixels, margins aside (a correlation of 0.9)

Each is changed in every way. Recall is the share of changed copies that are paired with their own picture; precision is
the share of pairs, among the pictures and all copies of this kind, that are of one picture. Pictures that truly look
alike count as errors here. Prints a table and writes JSON into results/.
"""

import argparse
import io
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL import ImageEnhance, ImageOps

from mmsynth.near_duplicates import embeddings, hashes
from mmsynth.near_duplicates.groups import group_numbers
from tests.photos import clip_art, photographs

Picture = PIL.Image.Image

TILE = 128
LEAST_CONTENT = 12.0
#: drawings and scans among scikit-image's samples, and the other eye of a stereo pair
NO_PHOTOGRAPHS = {
    "chessboard_GRAY",
    "chessboard_RGB",
    "color",
    "horse",
    "logo",
    "motorcycle_right",
    "page",
    "phantom",
    "text",
}
DRAWINGS, DRAWING_PX = 400, 384
#: of the clip art, folders of variants, and files too large to decode in a moment
VARIANTS = ("games/cards", "/flags/", "/icons/")
LARGEST_PX = 1500
DISTANCES = (4, 6, 8, 10, 12)
COSINES = (0.9, 0.95, 0.98, 0.99, 0.995)
#: of the benchmark, by their names in the JSON
PARTS = ("by_hash", "grouping", "by_embedding")
RESULTS = Path(__file__).parent / "results" / "bench_near_duplicates.json"


def tiles() -> list[Picture]:
    found = []
    for path in photographs():
        if path.stem in NO_PHOTOGRAPHS:
            continue
        picture = PIL.Image.open(path).convert("RGB")
        for left in range(0, picture.width - TILE + 1, TILE):
            for top in range(0, picture.height - TILE + 1, TILE):
                tile = picture.crop((left, top, left + TILE, top + TILE))
                if has_content(tile):
                    found.append(tile)
    return found


def drawings() -> list[Picture]:
    """No two that look alike when they are small."""
    paths = [path for path in clip_art() if not any(part in str(path) for part in VARIANTS)]
    random.Random(0).shuffle(paths)
    found: list[Picture] = []
    looks = np.empty((DRAWINGS, 32 * 32))
    for path in paths:
        if len(found) == DRAWINGS:
            break
        picture = on_white(path)
        if picture is None or not has_content(picture):
            continue
        look = np.asarray(without_margins(picture).resize((32, 32), reducing_gap=3.0), dtype=float).reshape(-1)
        look -= look.mean()
        look /= np.linalg.norm(look) + 1e-9
        if not (looks[: len(found)] @ look > 0.9).any():
            looks[len(found)] = look
            found.append(picture)
    return found


def on_white(path: Path) -> Picture | None:
    """The drawing without its transparency; None for very small and very large ones."""
    with PIL.Image.open(path) as opened:
        if min(opened.size) < TILE or max(opened.size) > LARGEST_PX:
            return None
        drawn = opened.convert("RGBA")
    white = PIL.Image.new("RGBA", drawn.size, "white")
    white.alpha_composite(drawn)
    picture = white.convert("RGB")
    picture.thumbnail((DRAWING_PX, DRAWING_PX))
    return picture


def without_margins(picture: Picture) -> Picture:
    """In grey, as far as it is not white: the same drawing on another page is the same drawing."""
    grey = picture.convert("L")
    return grey.crop(ImageOps.invert(grey).point(lambda dark: 255 * (dark > 40)).getbbox())


def has_content(picture: Picture) -> bool:
    return float(np.asarray(picture.convert("L"), dtype=float).std()) >= LEAST_CONTENT


def jpeg(picture: Picture, quality: int = 40) -> Picture:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return PIL.Image.open(buffer).convert("RGB")


def scaled(picture: Picture, factor: float, resampling: PIL.Image.Resampling = PIL.Image.Resampling.BICUBIC) -> Picture:
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), resampling)


def cropped(picture: Picture, share: float) -> Picture:
    """The middle, `share` of each side."""
    left, top = (round(side * (1 - share) / 2) for side in picture.size)
    return picture.crop((left, top, picture.width - left, picture.height - top))


def coloured(picture: Picture) -> Picture:
    brighter = ImageEnhance.Brightness(picture).enhance(1.08)
    return ImageEnhance.Color(ImageEnhance.Contrast(brighter).enhance(0.93)).enhance(1.15)


def letterboxed(picture: Picture) -> Picture:
    return ImageOps.expand(picture, border=(0, picture.height // 6), fill="black")


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "JPEG at quality 40": jpeg,
    "half the size": lambda picture: scaled(picture, 0.5),
    "1.5 times the size": lambda picture: scaled(picture, 1.5, PIL.Image.Resampling.BILINEAR),
    "0.7 times the size, JPEG 60": lambda picture: jpeg(scaled(picture, 0.7), 60),
    "small colour change": coloured,
    "white border": lambda picture: ImageOps.expand(picture, border=min(picture.size) // 10, fill="white"),
    "black letterbox, JPEG 60": lambda picture: jpeg(letterboxed(picture), 60),
    "mirrored": ImageOps.mirror,
    "crop to 95 %": lambda picture: cropped(picture, 0.95),
    "crop to 80 %": lambda picture: cropped(picture, 0.8),
}


def judged(pairs: np.ndarray[Any, Any], n: int) -> dict[str, float]:
    """Rows i and n + i are of one tile: recall, precision."""
    right = int((pairs[:, 0] + n == pairs[:, 1]).sum())
    return {"recall": round(right / n, 4), "precision": round(right / max(len(pairs), 1), 4)}


def by_hash(base: list[Picture]) -> dict[str, Any]:
    own = [hashed(tile) for tile in base]
    found: dict[str, Any] = {}
    for name, change in CHANGES.items():
        both = np.array(own + [hashed(change(tile)) for tile in base], dtype=np.uint64)
        found[name] = {d: judged(all_within(both, d, mirrored=name == "mirrored"), len(base)) for d in DISTANCES}
    return found


def hashed(picture: Picture) -> int:
    return hashes.hash_of(picture) or hashes.NO_HASH


def all_within(values: hashes.Hashes, distance: int, *, mirrored: bool) -> np.ndarray[Any, Any]:
    """Every pair by comparing all: pairs_within joins equal hashes to the first only, which recall would not count."""
    differ = hashes.ones((values[:, None] ^ values[None]).reshape(-1)).reshape(len(values), -1)
    if mirrored:
        turned = hashes.mirror(values)
        differ = np.minimum(differ, hashes.ones((turned[:, None] ^ values[None]).reshape(-1)).reshape(differ.shape))
        differ = np.minimum(differ, differ.T)
    return np.argwhere(np.triu(differ <= distance, 1))


def by_embedding(base: list[Picture], model: str) -> dict[str, Any]:
    """Through the CLIP filter's own model; needs the extra clip."""
    import torch

    from mmsynth.models.clip.find import find_clip
    from mmsynth.models.clip.model import ClipModel

    clip = ClipModel(find_clip(model), "cpu", torch.float32)

    def embedded(pictures: list[Picture]) -> np.ndarray[Any, Any]:
        batches = [pictures[i : i + 64] for i in range(0, len(pictures), 64)]
        with torch.inference_mode():
            return np.concatenate([embed(clip, batch) for batch in batches])

    own = embedded(base)
    found: dict[str, Any] = {}
    for name, change in CHANGES.items():
        both = np.concatenate([own, embedded([change(tile) for tile in base])])
        found[name] = {c: judged(embeddings.pairs_above(both, c), len(base)) for c in COSINES}
    return found


def embed(clip: Any, pictures: list[Picture]) -> np.ndarray[Any, Any]:
    rows: np.ndarray[Any, Any] = clip.embed_images([clip.pixels_for(picture) for picture in pictures]).numpy()
    return rows


def timed_grouping(n: int) -> dict[str, Any]:
    """Group n random hashes, a twentieth of them near-duplicates of others; and n equal ones."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2**64, n, dtype=np.uint64)
    copies = n // 20
    flips = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, (4, copies), dtype=np.uint64), axis=0)
    values[-copies:] = values[:copies] ^ flips
    found: dict[str, Any] = {"hashes": n, "planted": copies}
    for name, those in (("random", values), ("all equal", np.full(n, values[0]))):
        for distance in (6, 8, 10):
            start, cpu = time.perf_counter(), time.process_time()
            groups = group_numbers(n, hashes.iter_pairs(those, distance, mirrored=True))
            found[f"{name}, distance {distance}, mirrored too"] = {
                "seconds": round(time.perf_counter() - start, 2),
                "cpu_seconds": round(time.process_time() - cpu, 2),
                "groups": int(groups.max()) + 1,
                "planted_found": float((groups[-copies:] == groups[:copies]).mean()),
            }
    return found


def show(title: str, found: dict[str, Any], bounds: tuple[float, ...]) -> None:
    print(f"{title:30}" + "".join(f"{bound:>16}" for bound in bounds) + "   (recall, precision)")
    for name, row in found.items():
        print(f"{name:30}" + "".join(f"{row[b]['recall']:9.3f}{row[b]['precision']:7.3f}" for b in bounds))


def save(**parts: Any) -> None:
    """Beside what other parts of the benchmark have found; each says how it was run, and how busy the machine was."""
    earlier = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    command = " ".join(["python -m tests.benchmarks.bench_near_duplicates", *sys.argv[1:]])
    runs = earlier.get("runs", {})
    for part in parts.keys() & set(PARTS):
        runs[part] = {"command": command, "load_average": round(os.getloadavg()[0], 1)}
    RESULTS.write_text(json.dumps({**earlier, **parts, "runs": runs}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hashes", type=int, default=200_000)
    parser.add_argument("--model", default="nano", help="CLIP model to embed with")
    parser.add_argument("--only", nargs="+", choices=[part.removeprefix("by_") for part in PARTS], help="not all parts")
    given = parser.parse_args()
    wanted = given.only or [part.removeprefix("by_") for part in PARTS]
    if "grouping" in wanted:
        grouping = timed_grouping(given.hashes)
        print(json.dumps(grouping, indent=2))
        save(grouping=grouping)
    bases = {name: found for name, found in (("photographs", tiles()), ("clip art", drawings())) if found}
    about = {"base_pictures": {name: len(base) for name, base in bases.items()}, "tile_px": TILE}
    print(about)
    if "hash" in wanted:
        by_kind = {name: by_hash(base) for name, base in bases.items()}
        for name, found in by_kind.items():
            show(f"{name}, hash, bits", found, DISTANCES)
        save(**about, by_hash=by_kind)
    if "embedding" in wanted:
        by_kind = {name: by_embedding(base, given.model) for name, base in bases.items()}
        for name, found in by_kind.items():
            show(f"{name}, by {given.model}", found, COSINES)
        save(**about, by_embedding={"model": given.model, **by_kind})


if __name__ == "__main__":
    main()
