"""Put trained nano models into the plugins that ship them, in float16 and without what only training needs.

    python -m examples.nano.ship vlm diffusion clip

The model cards beside them are written by hand, from figures.json.
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import mmsynth_captioners
import mmsynth_filters
import mmsynth_renderers

#: model → where training left it below runs/nano, and the plugin's folder
PLACES = {
    "clip": ("clip", Path(mmsynth_filters.__file__).parent / "nano_clip"),
    "vlm": ("vlm", Path(mmsynth_captioners.__file__).parent / "nano_vlm"),
    "diffusion": ("diffusion/pipeline", Path(mmsynth_renderers.__file__).parent / "nano_diffusion"),
}
_SHIPPED = (".json", ".jinja", ".safetensors")
_MODE = 0o644


def main() -> None:
    parser = argparse.ArgumentParser(description="Put trained nano models into the plugins.")
    parser.add_argument("models", nargs="+", choices=PLACES)
    parser.add_argument("--folder", type=Path, default=Path("runs/nano"))
    options = parser.parse_args()
    for model in options.models:
        trained, plugin = PLACES[model]
        size = ship(options.folder / trained, plugin)
        print(f"{plugin}: {size / 1e6:.1f} MB")


def ship(trained: Path, plugin: Path) -> int:
    """Copy the files that loading needs; gives their bytes. A model card that is there stays."""
    files = [path for path in trained.rglob("*") if path.suffix in _SHIPPED and "trainer" not in path.parts]
    for path in files:
        to = plugin / path.relative_to(trained)
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            weights = {name: _half(value) for name, value in load_file(path).items()}
            save_file(weights, to, {"format": "pt"})
        else:
            shutil.copyfile(path, to)
        to.chmod(_MODE)
    return sum((plugin / path.relative_to(trained)).stat().st_size for path in files)


def _half(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value


if __name__ == "__main__":
    main()
