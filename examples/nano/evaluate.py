"""Measure the nano family on scenes it has not seen: everything that the model cards and the README say.

    mmsynth run examples/nano/scenes_heldout.yaml
    python -m examples.nano.evaluate --json examples/nano/figures.json

CLIP as `evaluate_clip`, captions and answers as `evaluate_vlm`, pictures as `evaluate_diffusion` describe it; the
shipped models, or those of a training folder with --folder runs/nano.
"""

import argparse
import json
from pathlib import Path

from examples.nano import evaluate_clip, evaluate_diffusion, evaluate_vlm
from examples.nano.scene_pairs import read_pairs, read_scenes

#: figure → the least that it should be; the README says where it is not
TARGETS = {
    "clip": {"auc_colour": 0.95, "auc_shape": 0.95, "auc_count": 0.95, "auc_relation": 0.95, "pairs_per_second": 200},
    "vlm": {
        **{f"caption_{sort}": 0.95 for sort in ("object", "colour", "count", "relation", "background")},
        "states_all": 0.90,
        **{f"answer_{kind}": 0.95 for kind in ("yes_no", "colour", "count", "what", "where", "not_present")},
        "captions_per_second": 20,
    },
    "diffusion": {"found_among_100": 0.80, "pixels_all": 0.80, "seen_all": 0.80, "images_per_second": 8},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the nano family.")
    parser.add_argument("--folder", type=Path, help="of a training, such as runs/nano; left out: the shipped models")
    parser.add_argument("--heldout", type=Path, default=Path("runs/nano/scenes_heldout"))
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--only", choices=TARGETS, help="one of the three")
    parser.add_argument("--sheet", type=Path, help="write what nano-diffusion draws of its first prompts here")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    figures = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for name, measure in (("clip", _clip), ("vlm", _vlm), ("diffusion", _diffusion)):
        if options.only in {None, name}:
            figures[name] = measure(options)
            show(name, figures[name])
            if options.json:
                options.json.write_text(json.dumps(figures, indent=2) + "\n")


def show(model: str, figures: dict[str, float]) -> None:
    """A line for each figure, with its target where it has one."""
    print(f"\nnano {model}")
    for name, value in figures.items():
        target = TARGETS[model].get(name)
        verdict = "" if target is None else f"  at least {target:g}" + ("" if value >= target else "  NOT REACHED")
        print(f"  {name:28} {value:8.4f}{verdict}")


def _clip(options: argparse.Namespace) -> dict[str, float]:
    folder = evaluate_clip.model_folder("nano") if options.folder is None else options.folder / "clip"
    return evaluate_clip.evaluate(folder, read_pairs(options.heldout, options.scenes))


def _vlm(options: argparse.Namespace) -> dict[str, float]:
    model = "nano" if options.folder is None else str(options.folder / "vlm")
    return evaluate_vlm.evaluate(model, *read_scenes(options.heldout, options.scenes), batch=64)


def _diffusion(options: argparse.Namespace) -> dict[str, float]:
    model, vlm = "nano", "nano"
    if options.folder is not None:
        model, vlm = str(options.folder / "diffusion" / "pipeline"), str(options.folder / "vlm")
    return evaluate_diffusion.evaluate(model, vlm, options.scenes, sheet=options.sheet)


if __name__ == "__main__":
    main()
