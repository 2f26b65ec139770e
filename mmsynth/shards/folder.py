"""The output folder as a whole: the run it belongs to, its committed shards, and the indexes that readers look for."""

import json
import sys
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from mmsynth.blocks import Block, ShardStats, stats_in
from mmsynth.errors import OutputError
from mmsynth.io.files import json_bytes
from mmsynth.io.storage import local_path, storage_at, text_of
from mmsynth.layout import INDEX, RUN, SIZES, STATS_ENDING, in_share, shard_if, stats_name, tar_name
from mmsynth.models.files import ModelInfo
from mmsynth.recipe import Recipe

_PACKAGES = ("mmsynth", "numpy", "pillow", "webdataset", "torch", "transformers", "diffusers", "open_clip_torch")


class RunFolder:
    """An output folder, local or at a URL. `committed` maps the index of each finished block to its stats."""

    def __init__(self, path: str | Path) -> None:
        self.storage = storage_at(path)
        #: shards whose stats have changed since they were written; they count as missing
        self.damaged: list[int] = []
        try:
            self._names = set(self.storage.names())
            self.committed: dict[int, ShardStats] = self._read_stats()
        except OSError as error:
            raise OutputError(str(error)) from error

    @property
    def path(self) -> Path:
        """The local folder. Raises OutputError if the run is at a URL."""
        return local_path(self.storage)

    @property
    def shown(self) -> str:
        """The folder's name in messages."""
        return self.storage.shown

    def description(self) -> dict[str, Any]:
        """The content of run.json. Raises OutputError if there is none."""
        try:
            data = json.loads(text_of(self.storage, RUN))
        except FileNotFoundError as error:
            raise OutputError(f"{self.shown} holds no mmsynth run: there is no run.json in it") from error
        except (OSError, ValueError) as error:
            raise OutputError(f"run.json of {self.shown} cannot be read: {error}") from error
        if not isinstance(data, dict) or "recipe" not in data:
            raise OutputError(f"run.json of {self.shown} was not written by mmsynth")
        return data

    @property
    def is_finished(self) -> bool:
        """Whether the run is finished. The indexes are written last, so their presence proves it."""
        return INDEX in self._names

    def start(self, recipe: Recipe, device: str, share: tuple[int, int] | None = None) -> None:
        """Claim the folder for this recipe, or resume in it. Raises OutputError if it holds another recipe's run.

        `share` (number, of how many) says which shards this process writes if other processes write to the folder too.
        """
        if RUN in self._names:
            self._refuse_another(recipe)
        elif any(not name.startswith(".") for name in self._names):
            raise OutputError(f"{self.shown} is not empty and holds no mmsynth run: choose another output folder")
        self.storage.make()
        self._remove_strangers(recipe.fingerprint())
        self.storage.clear(in_share(*share) if share else None)
        for name in (INDEX, SIZES):
            self.storage.remove(name)
            self._names.discard(name)
        self._write_run_json(recipe, device, models=[])

    def fingerprint(self) -> str:
        """Of the run that the folder belongs to; "" where there is none, or where it cannot be read."""
        with suppress(OutputError):
            return str(self.description().get("fingerprint", ""))
        return ""

    def _remove_strangers(self, ours: str) -> None:
        """Remove shards that another run has written here: a process of it outlived it."""
        for index in [index for index, stats in self.committed.items() if stats.run not in {"", ours}]:
            stats = self.committed.pop(index)
            for name in (stats_name(index), *stats.sha256):
                self.storage.remove(name)
                self._names.discard(name)

    def is_committed(self, block: Block) -> bool:
        """Whether exactly this block is committed, or more of it than a smaller limit asks for."""
        content, _, asked = block.identity.partition("/")
        stats = self.committed.get(block.index)
        there, _, done = stats.block.partition("/") if stats else ("", "", "")
        if there != content:
            return False
        return done in {"all", asked} or (asked != "all" and int(done) >= int(asked))

    def finish(self, recipe: Recipe, device: str) -> None:
        """Write run.json with the models that were used, and the indexes of all shards."""
        in_order = [stats for _, stats in sorted(self.committed.items())]
        models = dict.fromkeys(model for stats in in_order for model in stats.models)
        self._write_run_json(recipe, device, list(models))
        for name, data in self.indexes().items():
            self._write_json(name, data)

    def indexes(self) -> dict[str, Any]:
        """Name → content of the shard lists for open_clip and webdataset. Writing the last one ends a run."""
        shards = [(tar_name(i), stats) for i, stats in sorted(self.committed.items()) if stats.kept]
        shardlist = [{"url": name, "nsamples": stats.kept, "filesize": stats.tar_bytes} for name, stats in shards]
        return {
            SIZES: {name: stats.kept for name, stats in shards},
            INDEX: {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shardlist},
        }

    def add(self, index: int, stats: ShardStats) -> None:
        """Note that a block has been committed."""
        self.committed[index] = stats

    def _read_stats(self) -> dict[int, ShardStats]:
        # by the ending first: of a large run's names two thirds are of other files
        names = sorted(name for name in self._names if name.endswith(STATS_ENDING))
        numbers = {name: index for name in names if (index := shard_if(name, stats_name)) is not None}
        found = {}
        for name, data in self.storage.read_all(list(numbers)).items():
            stats = stats_in(data)
            if stats is None:
                self.damaged.append(numbers[name])
            else:
                found[numbers[name]] = stats
        return found

    def _write_json(self, name: str, data: Any) -> None:
        with self.storage.writing(name) as file:
            file.write(json_bytes(data))
        self.storage.settle()
        self._names.add(name)

    def _refuse_another(self, recipe: Recipe) -> None:
        there = self.description()
        if there.get("fingerprint") == recipe.fingerprint():
            return
        differences = _differences(there.get("identity", {}), recipe.identity())
        said = "; ".join(differences[:4]) or "the recipe"
        raise OutputError(
            f"{self.shown} holds the run of another recipe, which differs in {said}: choose another folder"
        )

    def _write_run_json(self, recipe: Recipe, device: str, models: list[ModelInfo]) -> None:
        description = {
            "mmsynth": metadata.version("mmsynth"),
            "fingerprint": recipe.fingerprint(),
            "seed": recipe.seed,
            "device": device.partition(":")[0],
            "limit": recipe.run.limit,
            "recipe": recipe.to_dict(with_run=False),
            "identity": recipe.identity(),
            "models": [asdict(model) for model in models],
            "versions": {"python": sys.version.split()[0], **_versions()},
        }
        self._write_json(RUN, description)


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
