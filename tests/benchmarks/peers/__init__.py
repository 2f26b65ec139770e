"""Other projects' scoring, each in a process of its own with its own Python, asked for one repetition at a time.

The scripts beside this file run there: they import nothing of this project.
"""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.benchmarks.inputs import pairs_in
from tests.benchmarks.measure import Options, Spent

#: the same torch as ours
_TORCH = (
    *(f"{name}=={metadata.version(name).partition('+')[0]}" for name in ("torch", "torchvision")),
    "setuptools<81",
)
#: name → what is installed for it. Data-Juicer installs what single operators need when they first run; not here
REQUIREMENTS = {
    "clip_retrieval": ("clip-retrieval==2.45.0", *_TORCH),
    "data_juicer": ("py-data-juicer==1.6.1", "transformers==4.57.1", "aiohttp", *_TORCH),
}
_HERE = Path(__file__).parent


class Peer:
    """A peer's process: its model is loaded, and it waits."""

    def __init__(self, name: str, python: str, device: str, **about: str) -> None:
        visible = {} if device.startswith("cuda") else {"CUDA_VISIBLE_DEVICES": ""}
        self._name = name
        self._process = subprocess.Popen(
            [python, str(_HERE / f"{name}.py"), json.dumps(about)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **visible, "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"},
        )
        #: versions, threads and dtype, as it tells when it is ready
        self.about: dict[str, Any] = self._answer()

    def run(self) -> Spent:
        """One repetition, by its own clock."""
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        return Spent(**self._answer())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._name} ended: what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def peers_for(options: Options, tars: Path, model: Path) -> dict[str, Peer]:
    """A process for each peer that a Python was named for, on the same tars and weights."""
    found = {}
    for name, python in options.peers.items():
        if options.tiny:
            raise SystemExit("peers load ViT-B-32 by its name: they cannot be tried with --tiny")
        about = {"tars": str(tars), "scratch": str(options.scratch / name)}
        Path(about["scratch"]).mkdir(exist_ok=True)
        if name == "data_juicer":
            about |= {"model": str(_transformers_clip(options.scratch)), **_as_files(tars, options.scratch)}
        else:
            about["model"] = str(model / "open_clip_model.safetensors")
        found[name] = Peer(name, python, options.device, **about)
    return found


def environment(folder: Path, name: str) -> str:
    """The Python of the peer's environment in `folder`, made where it is not there yet."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *_TORCH], check=True)  # alone first, or pip looks at others, of several gigabytes
        subprocess.run([*install, *REQUIREMENTS[name]], check=True)
    return str(python)


def _as_files(tars: Path, scratch: Path) -> dict[str, str]:
    """The pairs as files, as Data-Juicer reads images, and its list of samples."""
    folder, lines = scratch / "files", []
    folder.mkdir(exist_ok=True)
    for number, (data, caption) in enumerate(pairs_in(sorted(tars.glob("*.tar")))):
        path = folder / f"{number:06d}.jpg"
        path.write_bytes(data)
        lines.append(json.dumps({"caption": caption, "image": str(path)}) + "\n")
    samples = scratch / "samples.jsonl"
    samples.write_text("".join(lines))
    return {"samples": str(samples)}


def _transformers_clip(scratch: Path) -> Path:
    """CLIP ViT-B/32 as transformers keeps it, with random weights and OpenAI's preprocessing."""
    import transformers as tf

    from tests.benchmarks.rows.tokens import save_tokenizer

    folder = scratch / "transformers_clip"
    tf.CLIPModel(tf.CLIPConfig()).save_pretrained(folder)  # its defaults are ViT-B/32
    save_tokenizer(folder)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    sizes = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "resample": 3}
    about = {"image_processor_type": "CLIPImageProcessor", **sizes, "image_mean": mean, "image_std": std}
    does = {"do_resize": True, "do_center_crop": True, "do_normalize": True, "do_convert_rgb": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(about | does | {"processor_class": "CLIPProcessor"}))
    return folder
