"""The output folder as a whole: whose run it is, what is committed, and the indexes that readers look for."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from mmsynth.engine.items import Block
from mmsynth.errors import OutputError
from mmsynth.recipe import Recipe
from mmsynth.shards.files import remove_parts, write_json

_STATS = re.compile(r"^(\d{5,})_stats\.json$")
_PACKAGES = ("mmsynth", "numpy", "pillow", "webdataset", "torch", "transformers", "diffusers", "open_clip_torch")


class RunFolder:
    """An output folder. `committed` maps the index of each finished block to its stats."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.committed: dict[int, dict[str, Any]] = self._read_stats()

    @property
    def run_json(self) -> Path:
        return self.path / "run.json"

    def description(self) -> dict[str, Any]:
        """What run.json says. Raises OutputError if there is none."""
        try:
            data = json.loads(self.run_json.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise OutputError(f"{self.path} holds no mmsynth run: there is no run.json in it") from error
        except (OSError, ValueError) as error:
            raise OutputError(f"{self.run_json} cannot be read: {error}") from error
        if not isinstance(data, dict) or "recipe" not in data:
            raise OutputError(f"{self.run_json} was not written by mmsynth")
        return data

    @property
    def is_finished(self) -> bool:
        """The indexes are written last of all."""
        return (self.path / "index.json").exists()

    def start(self, recipe: Recipe, device: str) -> None:
        """Make the folder this recipe's own, or go on in it. Raises OutputError if it is another's."""
        if self.run_json.exists():
            self._refuse_another(recipe)
        elif self.path.exists() and any(not p.name.startswith(".") for p in self.path.iterdir()):
            raise OutputError(f"{self.path} is not empty and holds no mmsynth run: choose another output folder")
        self.path.mkdir(parents=True, exist_ok=True)
        remove_parts(self.path)
        for name in ("index.json", "sizes.json"):
            (self.path / name).unlink(missing_ok=True)
        self._write_run_json(recipe, device, models=[])

    def is_committed(self, block: Block) -> bool:
        """Whether this very block is there, or the whole of it where only a part is asked for (a smaller limit)."""
        content, _, asked = block.identity.partition("/")
        there, _, done = str(self.committed.get(block.index, {}).get("block", "")).partition("/")
        if there != content:
            return False
        return done in {"all", asked} or (asked != "all" and int(done) >= int(asked))

    def finish(self, recipe: Recipe, device: str) -> None:
        """Write run.json with the models that were used, and the indexes of all shards."""
        in_order = sorted(self.committed.items())
        shards = [(f"{i:05d}.tar", stats) for i, stats in in_order if stats["successes"]]
        models = {tuple(sorted(model.items())): model for _, stats in in_order for model in stats["models"]}
        self._write_run_json(recipe, device, list(models.values()))
        write_json(self.path / "sizes.json", {name: stats["successes"] for name, stats in shards})
        shardlist = [
            {"url": name, "nsamples": stats["successes"], "filesize": stats["tar_bytes"]} for name, stats in shards
        ]
        index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shardlist}
        write_json(self.path / "index.json", index)

    def add(self, index: int, stats: dict[str, Any]) -> None:
        """A block has been committed."""
        self.committed[index] = stats

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the lock goes with the process, however it ends. Raises OutputError."""
        lock = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            opened = lock.open("w")
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror or error}") from error
        with opened as file:
            if not _try_lock(file):
                raise OutputError(f"another mmsynth run is writing to {self.path}")
            try:
                yield
            finally:
                remove_parts(self.path)
                lock.unlink(missing_ok=True)

    def _read_stats(self) -> dict[int, dict[str, Any]]:
        found = {}
        for path in sorted(self.path.glob("*_stats.json")) if self.path.is_dir() else ():
            match = _STATS.match(path.name)
            if match:
                try:
                    found[int(match[1])] = json.loads(path.read_text(encoding="utf-8"))
                except ValueError as error:
                    raise OutputError(f"{path} is damaged: remove it to make this shard again") from error
        return found

    def _refuse_another(self, recipe: Recipe) -> None:
        there = self.description()
        if there.get("fingerprint") == recipe.fingerprint():
            return
        differences = _differences(there.get("identity", {}), recipe.identity())
        said = "; ".join(differences[:4]) or "the recipe"
        raise OutputError(
            f"{self.path} holds the run of another recipe, which differs in {said}: choose another folder"
        )

    def _write_run_json(self, recipe: Recipe, device: str, models: list[dict[str, str]]) -> None:
        description = {
            "mmsynth": metadata.version("mmsynth"),
            "fingerprint": recipe.fingerprint(),
            "seed": recipe.seed,
            "device": device.partition(":")[0],
            "limit": recipe.run.limit,
            "recipe": recipe.to_dict(with_run=False),
            "identity": recipe.identity(),
            "models": models,
            "versions": {"python": sys.version.split()[0], **_versions()},
        }
        write_json(self.run_json, description)


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _differences(there: Any, here: Any, where: str = "") -> list[str]:
    """Paths at which two JSON values differ, with both values."""
    if isinstance(there, dict) and isinstance(here, dict):
        names = [*there, *(name for name in here if name not in there)]
        dotted = {name: f"{where}.{name}" if where else name for name in names}
        return [d for name in names for d in _differences(there.get(name), here.get(name), dotted[name])]
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        return [
            d for i, (a, b) in enumerate(zip(there, here, strict=True)) for d in _differences(a, b, f"{where}[{i}]")
        ]
    return [] if there == here else [f"{where} ({_short(there)} there, {_short(here)} here)"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def _try_lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # not on Windows; two runs in one folder are then the user's own care
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
