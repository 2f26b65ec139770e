"""Measure nano-diffusion on prompts it has not seen: is what it draws what was asked for, and can anyone tell.

    python -m examples.nano.evaluate_diffusion --json figures.json --sheet grid.png

`found_among_100`: how often nano CLIP finds a picture's own prompt among 100. `pixels_…`: the share of what the prompts
state, by sort, that is true of the pictures by connected components and colours (`scene_truth`, nothing learned);
`seen_…`: the share of the prompts' facts that nano-vlm states when it is asked for a detailed caption of the picture.
`best_of_4_…` are those of the best of four candidates by CLIP score, on the first prompts, `one_of_4_…` of the first
candidate on the same prompts. Everything through the stages that a recipe uses.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import PIL.Image
import torch

import mmsynth as mm
from examples.nano import clip_model
from examples.nano.evaluate_clip import encode_pictures, encode_texts, model_folder
from examples.nano.evaluate_vlm import DETAILED, load, say, shares
from examples.nano.scene_pairs import read_scenes
from mmsynth.facts import Facts
from mmsynth.shards.contact_sheet import write_contact_sheet
from mmsynth_renderers.diffusion import NANO_GUIDANCE, NANO_STEPS
from mmsynth_renderers.scenes import judge, pixels

_SEED = 4
_CANDIDATES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure nano-diffusion.")
    parser.add_argument("--model", default="nano", help="nano (the shipped one), or a folder")
    parser.add_argument("--vlm", default="nano", help="nano (the shipped one), or a folder; none: without")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--best-of", type=int, default=200, help="prompts that four candidates are drawn of")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--sheet", type=Path, help="write a picture of the first 48 here")
    options = parser.parse_args()
    figures = evaluate(options.model, options.vlm, options.prompts, options.best_of, options.sheet)
    for name, value in figures.items():
        print(f"{name:24} {value:.4f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def evaluate(model: str, vlm: str, n: int, best_of: int = 200, sheet: Path | None = None) -> dict[str, float]:
    """All figures. `vlm` none: without those that it sees; `best_of`: prompts that four candidates are drawn of."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        pictures, records = draw(model, n, Path(folder) / "drawn")
        figures = {"images_per_second": len(records) / (time.monotonic() - started)}
        if sheet:
            drawn = mm.read(Path(folder) / "drawn").take(48)
            write_contact_sheet([sample for sample in drawn if isinstance(sample, mm.Sample)], sheet)
        figures["found_among_100"] = found_among(pictures, prompts_of(records), 100)
        figures |= {f"pixels_{sort}": share for sort, share in true_of_pixels(pictures, records).items()}
        if vlm != "none":
            figures |= {f"seen_{sort}": share for sort, share in seen_by_vlm(vlm, pictures, records).items()}
        if best_of:
            best = draw(model, best_of, Path(folder) / "best", _CANDIDATES)
            for name, drawn in (("one", (pictures[:best_of], records[:best_of])), ("best", best)):
                figures |= {f"{name}_of_4_{sort}": share for sort, share in true_of_pixels(*drawn).items()}
    return {name: round(value, 4) for name, value in figures.items()}


def draw(model: str, n: int, out: Path, candidates: int = 1) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """Pictures of n prompts, uint8 [n, 3, 64, 64], and records; the best of `candidates` by CLIP score."""
    pipeline = mm.scenes(n, seed=_SEED, world="nano")
    if candidates > 1:
        pipeline = pipeline.repeat(candidates)
    # a folder of a training is drawn from as the shipped model is
    pipeline = pipeline.render("diffusion", model=model, steps=NANO_STEPS, guidance=NANO_GUIDANCE, batch_size=16)
    if candidates > 1:
        pipeline = pipeline.filter("clip", model="nano").best_of("clip")
    pipeline.write(out)
    return read_scenes(out)


def prompts_of(records: list[dict[str, Any]]) -> list[str]:
    return [next(entry["text"] for entry in record["captions"] if entry["origin"] == "prompt") for record in records]


def found_among(pictures: torch.Tensor, prompts: list[str], many: int) -> float:
    """How often nano CLIP scores a picture's own prompt highest, in groups of `many` prompts."""
    model, tokenizer = clip_model.load(model_folder("nano"))
    model.eval()
    images, texts = encode_pictures(model, pictures), encode_texts(model, tokenizer, prompts)
    found = [
        float((a @ b.T).argmax(1).eq(torch.arange(len(a))).sum())
        for a, b in zip(images.split(many), texts.split(many), strict=True)
        if len(a) == many
    ]
    return sum(found) / max(1, many * len(found))


def true_of_pixels(pictures: torch.Tensor, records: list[dict[str, Any]]) -> dict[str, float]:
    drawn = [pixels.facts_of(picture) for picture in _pil(pictures)]
    said = [judge.read(prompt) for prompt in prompts_of(records)]
    return shares(verdict for text, facts in zip(said, drawn, strict=True) for verdict in judge.statements(text, facts))


def seen_by_vlm(model: str, pictures: torch.Tensor, records: list[dict[str, Any]]) -> dict[str, float]:
    texts = say(load(model), _pil(pictures), [DETAILED] * len(records), 64)
    facts = [Facts.model_validate(record["facts"]) for record in records]
    return shares(
        verdict for text, true in zip(texts, facts, strict=True) for verdict in judge.stated(judge.read(text), true)
    )


def _pil(pictures: torch.Tensor) -> list[PIL.Image.Image]:
    return [PIL.Image.fromarray(picture) for picture in pictures.permute(0, 2, 3, 1).numpy()]


if __name__ == "__main__":
    main()
