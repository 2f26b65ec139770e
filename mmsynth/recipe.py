"""Recipe: the whole of a run as data. YAML, the fluent API and run.json are three spellings of this one model.

    seed: 7
    source: {kind: folder, path: photos/}
    stages:
      - caption: vlm
        model: HuggingFaceTB/SmolVLM-256M-Instruct
      - filter: clip
        min: 0.26
    out: {path: pairs/, samples_per_shard: 10000}
    run: {workers: 2, device: auto}

`source`, `stages`, `seed` and `out` say what is made; `run` says how fast, and never changes the output.
Errors name the file, the stage and the field. A recipe is data: a class that it names by an import path is found only
where its module is imported already.
"""

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmsynth import registry
from mmsynth.errors import RecipeError
from mmsynth.models.loading import is_trusted
from mmsynth.secrets import without_secrets
from mmsynth.sources.base import Source
from mmsynth.stage import Stage

VERBS = ("render", "caption", "filter")
#: the registry's word for stages whose own name is the recipe's
GROUPING = "grouping"
_SECTION = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
ModelT = TypeVar("ModelT", bound=BaseModel)


class Out(BaseModel):
    """What is written, and where."""

    model_config = _SECTION

    path: str | None = Field(None, description="the output folder")
    samples_per_shard: int = Field(10_000, ge=1, description="inputs that become one shard")
    image_format: Literal["jpg", "png", "webp"] = Field("jpg", description="for drawn images; others stay as they came")
    quality: int = Field(95, ge=1, le=100, description="of drawn jpg and webp images")


class RunOptions(BaseModel):
    """How a recipe is run. Nothing here changes what is written."""

    model_config = _SECTION

    workers: int = Field(1, ge=1, description="processes; 1 runs in this one")
    executor: Literal["local", "ray"] = Field("local", description="local: on this machine; ray: on a Ray cluster")
    address: str | None = Field(
        None, description="of the Ray cluster, as ray.init takes it; None: the one that is near"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps; workers share out the CUDA devices")
    threads: int | None = Field(None, ge=1, description="reading and decoding threads per process; default: the cores")
    max_failures: float = Field(1.0, ge=0, le=1, description="stop when a larger share of the samples has failed")
    limit: int | None = Field(None, ge=1, description="only the first samples, to try a recipe")
    batch_timeout_s: float | None = Field(None, gt=0, description="give up a batch that takes longer; None: wait")


class Recipe(BaseModel):
    """Seed, source, stages, output and run options, all checked."""

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
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        if isinstance(data, dict) and "recipe" in data and "fingerprint" in data:
            data = data["recipe"]
        return cls.from_dict(data, where=path.name)

    @classmethod
    def from_dict(cls, data: object, where: str = "recipe") -> Self:
        """Build and check a recipe from plain data; `where` names it in errors."""
        fields = _mapping(data, where, "the recipe")
        unknown = [name for name in fields if name not in cls.model_fields]
        if unknown:
            raise RecipeError(f"no field '{unknown[0]}' in a recipe.{_meant(unknown[0], cls.model_fields)} ({where})")
        if "source" not in fields:
            raise RecipeError(f"a recipe needs a source, such as source: {{kind: folder, path: photos/}} ({where})")
        stages = fields.get("stages") or []
        if not isinstance(stages, list):
            raise RecipeError(f"stages must be a list, each item with one of {_stage_words()} ({where}, stages)")
        seed = fields.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise RecipeError(f"seed must be a whole number, got {seed!r} ({where}, seed)")
        return cls(
            seed=seed,
            source=build_source(fields["source"], where),
            stages=tuple(_trusted(build_stage(spec, f"{where}, stages[{i}]")) for i, spec in enumerate(stages)),
            out=build(Out, _mapping(fields.get("out") or {}, where, "out"), f"{where}, out"),
            run=build(RunOptions, _mapping(fields.get("run") or {}, where, "run"), f"{where}, run"),
        )

    def to_dict(self, with_run: bool = True) -> dict[str, Any]:
        """The recipe as plain JSON values, defaults left out; `from_dict` reads it back.

        Without `run` it is what run.json holds: no passwords, no tokens.
        """
        kind = registry.name_of("source", type(self.source))
        data: dict[str, Any] = {
            "seed": self.seed,
            "source": {"kind": kind, **self.source.model_dump(mode="json", exclude_defaults=True)},
            "stages": [_spec(stage) for stage in self.stages],
            "out": self.out.model_dump(mode="json", exclude_defaults=True),
        }
        if with_run:
            data["run"] = self.run.model_dump(mode="json", exclude_defaults=True)
        return data if with_run else cast(dict[str, Any], without_secrets(data))

    def to_yaml(self) -> str:
        """The recipe as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def identity(self) -> dict[str, Any]:
        """What decides the output: the recipe without where it goes and what only changes speed."""
        data = self.to_dict(with_run=False)
        data["out"] = self.out.model_dump(mode="json", exclude={"path"})
        for spec, stage in zip(data["stages"], self.stages, strict=True):
            for field in stage.speed_only:
                spec.pop(field, None)
            spec["version"] = stage.version
        return data

    def fingerprint(self) -> str:
        """A digest of `identity()`: two recipes with one fingerprint write the same shards."""
        canonical = json.dumps(self.identity(), sort_keys=True, ensure_ascii=True)
        return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()

    def bound_stages(self) -> tuple[Stage, ...]:
        """The stages with their labels (`caption:vlm`, `caption:vlm#2`) and the run's seed."""
        seen: Counter[str] = Counter()
        bound = []
        for stage in self.stages:
            name = _label(stage)
            seen[name] += 1
            bound.append(stage.bound(name if seen[name] == 1 else f"{name}#{seen[name]}", self.seed))
        scores = Counter(score for stage in bound for score in stage.score_names())
        for score, times in scores.items():
            if times > 1:
                raise RecipeError(f"{times} stages write the score '{score}': give each its own name")
        for position, stage in enumerate(bound):
            stage.check_place(bound[:position])
        return tuple(bound)


def _spec(stage: Stage) -> dict[str, Any]:
    """A stage as its recipe has it."""
    parameters = stage.model_dump(mode="json", exclude_defaults=True)
    if stage.verb:
        return {stage.verb: registry.name_of(stage.verb, type(stage)), **parameters}
    main = stage.model_dump(mode="json", include={stage.main}).get(stage.main)
    return {registry.name_of(GROUPING, type(stage)): main, **{k: v for k, v in parameters.items() if k != stage.main}}


def _label(stage: Stage) -> str:
    if stage.verb:
        return f"{stage.verb}:{registry.name_of(stage.verb, type(stage))}"
    return registry.name_of(GROUPING, type(stage))


def build_source(spec: object, where: str = "recipe") -> Source:
    """A source from {"kind": name, **parameters}."""
    fields = _mapping(spec, where, "source")
    kind = fields.pop("kind", None)
    if not isinstance(kind, str):
        kinds = ", ".join(sorted(registry.entry_points("source")))
        raise RecipeError(f"source needs a kind: {kinds} ({where}, source)")
    plugin = registry.load("source", kind, may_import=False)
    if not issubclass(plugin, Source):
        raise RecipeError(f"'{kind}' is not a source ({where}, source)")
    built: Source = build(plugin, fields, f"{where}, source {kind}")
    return built


def _trusted(stage: Stage) -> Stage:
    """Raise RecipeError for one that would run code that comes with a model which the user did not name."""
    model = getattr(stage, "model", None)
    if getattr(stage, "trust_remote_code", False) and not is_trusted(str(model)):
        raise RecipeError(
            f"the recipe runs the code that comes with the model '{model}', which no recipe does by itself: read it; "
            f"if you trust it, --trust {model}, or in Python mmsynth.models.trust('{model}')"
        )
    return stage


def build_stage(spec: object, where: str) -> Stage:
    """A stage from {verb: name, **parameters}, or from {name: value, **parameters} where its own name is the word."""
    fields = _mapping(spec, where, "a stage")
    words = [word for word in fields if word in VERBS or word in registry.entry_points(GROUPING) or ":" in word]
    if len(words) != 1:
        raise RecipeError(f"a stage has exactly one of {_stage_words()}, got {sorted(fields)} ({where})")
    word = words[0]
    value = fields.pop(word)
    if word not in VERBS:
        return _build_grouping(word, value, fields, where)
    if not isinstance(value, str):
        raise RecipeError(f"{word} must name a plugin, got {value!r} ({where})")
    plugin = registry.load(word, value, may_import=False)
    if not issubclass(plugin, Stage) or plugin.verb != word:
        raise RecipeError(f"'{value}' is not for {word} ({where})")
    return build(plugin, fields, f"{where}, {word} {value}")


def _build_grouping(name: str, value: object, fields: dict[str, Any], where: str) -> Stage:
    plugin = registry.load(GROUPING, name, may_import=False)
    if not issubclass(plugin, Stage) or plugin.verb:
        raise RecipeError(f"'{name}' is not a stage whose name stands alone ({where})")
    if plugin.main:
        if plugin.main in fields:
            raise RecipeError(
                f"{name}: {plugin.main} is the value beside the name, and cannot be given twice ({where})"
            )
        fields[plugin.main] = value
    elif value is not None:
        raise RecipeError(f"{name} takes no value beside its name, got {value!r} ({where})")
    return build(plugin, fields, f"{where}, {name}")


def _stage_words() -> str:
    return ", ".join((*VERBS, *sorted(registry.entry_points(GROUPING))))


def build(model: type[ModelT], fields: Mapping[str, Any], where: str) -> ModelT:
    """`model(**fields)` with pydantic's errors as one RecipeError that names field, value and place."""
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        said = "; ".join(_explain(model, one) for one in error.errors()[:3])
        raise RecipeError(f"{said} ({where})") from error


_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def _explain(model: type[BaseModel], error: Any) -> str:
    field = ".".join(str(part) for part in error["loc"])
    kind, got = error["type"], error["input"]
    if kind == "extra_forbidden":
        return f"no field '{field}'.{_meant(field, model.model_fields)} Fields: {', '.join(model.model_fields)}"
    if kind == "missing":
        return f"{field} is required"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{field} must be {words} {error['ctx'][key]}, got {got!r}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{field}: {message}, got {got!r}" if field else message


def _meant(name: str, among: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(among), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _mapping(data: object, where: str, what: str) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise RecipeError(f"{what} must be a mapping of names to values, got {type(data).__name__} ({where})")
    return dict(data)
