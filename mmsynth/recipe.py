"""Recipe: a whole run as data. YAML, the fluent API and run.json are three spellings of this one model.

    seed: 7
    source: {kind: folder, path: photos/}
    stages:
      - caption: vlm
        model: HuggingFaceTB/SmolVLM-256M-Instruct
      - filter: clip
        min: 0.26
    out: {path: pairs/, samples_per_shard: 10000}
    run: {workers: 2, device: auto}

`source`, `stages`, `seed` and `out` say what is made; `run` says how, and is no part of a recipe's fingerprint. It
changes no decision, except that `limit` reads only the first inputs, `batch_timeout_s` gives up what takes too long,
and numbers of another device may differ in their last digits.
Errors name the file, the stage and the field. A recipe is data: a class that it names by an import path is found only
where its module is imported already.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal, Self, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field

from mmsynth.errors import RecipeError
from mmsynth.secrets import without_secrets
from mmsynth.sources.base import Source
from mmsynth.sources.specs import build_source, source_spec
from mmsynth.stage import Stage
from mmsynth.stage_specs import build_stage, stage_spec, stage_words, step_name, trusted
from mmsynth.validation import build, mapping, meant, parse_yaml

_SECTION = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Out(BaseModel):
    """What to write, and where."""

    model_config = _SECTION

    path: str | None = Field(None, description="the output folder")
    samples_per_shard: int = Field(10_000, ge=1, description="inputs that become one shard")
    image_format: Literal["jpg", "png", "webp"] = Field("jpg", description="for drawn images; others stay unchanged")
    quality: int = Field(95, ge=1, le=100, description="quality of drawn jpg and webp images")


class RunOptions(BaseModel):
    """How a recipe is run; no part of its fingerprint."""

    model_config = _SECTION

    workers: int = Field(1, ge=1, description="processes; 1 uses this process")
    executor: Literal["local", "ray"] = Field("local", description="local: on this machine; ray: on a Ray cluster")
    address: str | None = Field(
        None, description="address of the Ray cluster, as for ray.init; None: the default cluster"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps; workers divide the CUDA devices")
    threads: int | None = Field(None, ge=1, description="reading and decoding threads per process; default: the cores")
    max_failures: float = Field(1.0, ge=0, le=1, description="stop if a larger share of the samples has failed")
    limit: int | None = Field(None, ge=1, description="only the first samples, to try a recipe")
    batch_timeout_s: float | None = Field(None, gt=0, description="give up a batch that takes longer; None: wait")
    ignore_times: bool = Field(
        False, description="go on although the input's files have other times: they were copied or touched"
    )


class Recipe(BaseModel):
    """Seed, source, stages, output and run options, all validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    seed: int = 0
    source: Source
    stages: tuple[Stage, ...] = ()
    out: Out = Out()
    run: RunOptions = RunOptions()

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a YAML recipe, or the run.json of an earlier run. Raises RecipeError."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read the recipe {path}: {error}") from error
        data = parse_yaml(text, path.name)
        if isinstance(data, dict) and "recipe" in data and "fingerprint" in data:
            data = data["recipe"]
        return cls.from_dict(data, where=path.name)

    @classmethod
    def from_dict(cls, data: object, where: str = "recipe") -> Self:
        """Build and check a recipe from plain data; `where` names it in errors."""
        fields = mapping(data, where, "the recipe")
        unknown = [name for name in fields if name not in cls.model_fields]
        if unknown:
            raise RecipeError(f"no field '{unknown[0]}' in a recipe.{meant(unknown[0], cls.model_fields)} ({where})")
        if "source" not in fields:
            raise RecipeError(f"a recipe needs a source, such as source: {{kind: folder, path: photos/}} ({where})")
        stages = fields.get("stages") or []
        if not isinstance(stages, list):
            raise RecipeError(f"stages must be a list, each item with one of {stage_words()} ({where}, stages)")
        seed = fields.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise RecipeError(f"seed must be a whole number, got {seed!r} ({where}, seed)")
        return cls(
            seed=seed,
            source=build_source(fields["source"], where),
            stages=tuple(trusted(build_stage(spec, f"{where}, stages[{i}]")) for i, spec in enumerate(stages)),
            out=build(Out, mapping(fields.get("out") or {}, where, "out"), f"{where}, out"),
            run=build(RunOptions, mapping(fields.get("run") or {}, where, "run"), f"{where}, run"),
        )

    def to_dict(self, with_run: bool = True) -> dict[str, Any]:
        """The recipe as plain JSON values, without defaults. `from_dict` reads it back.

        Without `run` it is the content of run.json, with credentials redacted.
        """
        data: dict[str, Any] = {
            "seed": self.seed,
            "source": source_spec(self.source),
            "stages": [stage_spec(stage) for stage in self.stages],
            "out": self.out.model_dump(mode="json", exclude_defaults=True),
        }
        if with_run:
            data["run"] = self.run.model_dump(mode="json", exclude_defaults=True)
        return data if with_run else cast(dict[str, Any], without_secrets(data))

    def to_yaml(self, *, as_ascii: bool = False) -> str:
        """The recipe as YAML; empty sections are left out."""
        data = {name: value for name, value in self.to_dict().items() if value not in ({}, [])}
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=not as_ascii)

    def identity(self) -> dict[str, Any]:
        """The part of the recipe that decides the output: without its place and without settings of speed."""
        data = self.to_dict(with_run=False)
        data["out"] = self.out.model_dump(mode="json", exclude={"path"})
        for spec, stage in zip(data["stages"], self.stages, strict=True):
            for field in stage.speed_only:
                spec.pop(field, None)
            spec["version"] = stage.version
        return data

    def fingerprint(self) -> str:
        """A digest of `identity()`. Two recipes with the same fingerprint write the same shards."""
        canonical = json.dumps(self.identity(), sort_keys=True, ensure_ascii=True)
        return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()

    def bound_stages(self) -> tuple[Stage, ...]:
        """The stages with their names (`caption:vlm`, `caption:vlm#2`) and the run's seed."""
        seen: Counter[str] = Counter()
        bound = []
        for stage in self.stages:
            name = step_name(stage)
            seen[name] += 1
            bound.append(stage.bound(name if seen[name] == 1 else f"{name}#{seen[name]}", self.seed))
        scores = Counter(score for stage in bound for score in stage.score_names())
        for score, times in scores.items():
            if times > 1:
                raise RecipeError(f"{times} stages write the score '{score}': give each its own name")
        for position, stage in enumerate(bound):
            stage.check_place(bound[:position])
        return tuple(bound)
