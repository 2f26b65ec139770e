"""Pipeline: a source and a chain of stages, immutable. Fluent calls build the recipe; the recipe is the pipeline."""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmsynth import registry
from mmsynth.errors import RecipeError
from mmsynth.recipe import Out, Recipe, RunOptions
from mmsynth.sample import Result
from mmsynth.sources.base import Source
from mmsynth.stage import Stage
from mmsynth.stage_specs import GROUPING, build_grouping
from mmsynth.validation import build, meant

if TYPE_CHECKING:
    from mmsynth.engine.progress import OnProgress
    from mmsynth.report import Report


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A source and a chain of stages.

        pipeline = mm.read("photos/").caption("vlm").filter("clip", min=0.26)
        report = pipeline.write("pairs/")

    Every method returns a new pipeline. `recipe` holds all of its state.
    """

    recipe: Recipe

    @classmethod
    def from_file(cls, path: str | Path) -> "Pipeline":
        """The pipeline of a YAML recipe or of an earlier run's run.json."""
        return cls(Recipe.from_file(path))

    def caption(self, name: str | Stage, /, **parameters: Any) -> "Pipeline":
        """Add a captioner, by its registered name or as an object."""
        return self._with_stage("caption", name, parameters)

    def render(self, name: str | Stage, /, **parameters: Any) -> "Pipeline":
        """Add a renderer, by its registered name or as an object."""
        return self._with_stage("render", name, parameters)

    def filter(self, name: str | Stage, /, **parameters: Any) -> "Pipeline":
        """Add a filter, by its registered name or as an object."""
        return self._with_stage("filter", name, parameters)

    def then(self, stage: Stage) -> "Pipeline":
        """Add any stage, as an object."""
        return self._and(stage)

    def __getattr__(self, name: str) -> "Callable[..., Pipeline]":
        """Add the grouping registered as `name`, by its main value: `.repeat(4)`, `.best_of("clip")`, `.pair(1)`."""
        if name.startswith("_") or name not in registry.entry_points(GROUPING):
            said = "" if name.startswith("_") else meant(name, dir(self))
            raise AttributeError(f"a Pipeline has no '{name}'.{said}", name=name, obj=self)

        def add(value: Any = None, /, **parameters: Any) -> Pipeline:
            return self._and(build_grouping(name, value, parameters, f".{name}()"))

        return add

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *registry.entry_points(GROUPING)})

    def seeded(self, seed: int) -> "Pipeline":
        """The same pipeline with another seed."""
        return Pipeline(self.recipe.model_copy(update={"seed": seed}))

    def into(self, path: str | Path, **options: Any) -> "Pipeline":
        """The same pipeline with an output folder and options. Runs nothing: `.into("pairs/").recipe.to_yaml()`.

        Options of the output: samples_per_shard, image_format, quality. Of the run: workers, device, threads,
        max_failures, limit, batch_timeout_s, ignore_times, executor, address.
        """
        out = {name: options.pop(name) for name in list(options) if name in Out.model_fields}
        unknown = [name for name in options if name not in RunOptions.model_fields]
        if unknown:
            names = [*Out.model_fields, *RunOptions.model_fields]
            raise RecipeError(
                f"write() has no option '{unknown[0]}'.{meant(unknown[0], names)} Options: {', '.join(names)}"
            )
        given = {
            "out": build(Out, {**self.recipe.out.model_dump(), **out, "path": str(path)}, "write()"),
            "run": build(RunOptions, {**self.recipe.run.model_dump(), **options}, "write()"),
        }
        return Pipeline(self.recipe.model_copy(update=given))

    def write(self, path: str | Path, *, on_progress: "OnProgress | None" = None, **options: Any) -> "Report":
        """Run the pipeline into the folder `path`. The same call resumes an interrupted run.

        Takes the options of `into`. Raises MMSynthError.
        """
        return self.into(path, **options).run(on_progress=on_progress)

    def run(self, *, on_progress: "OnProgress | None" = None) -> "Report":
        """Run the pipeline as its recipe says. `out.path` must be set."""
        from mmsynth.engine.run import run_recipe

        return run_recipe(self.recipe, on_progress)

    def __iter__(self) -> Generator[Result, None, None]:
        """The result of every input, in order and in memory: Sample, Dropped or Failed. Writes nothing.

        Leaving the loop stops the work that runs ahead and frees the models. So does `close()` of the iterator.
        """
        from mmsynth.engine.run import results

        return results(self.recipe)

    def take(self, n: int) -> list[Result]:
        """The results of the first `n` inputs, to look at while building a pipeline. Writes nothing."""
        from mmsynth.engine.run import results

        return list(results(self.recipe, n))

    def show(self, n: int = 3) -> None:
        """Print source and stages, and the results of the first `n` inputs. With `n=0`, runs nothing."""
        from mmsynth.preview import show

        show(self.recipe, n)

    def _with_stage(self, verb: str, name: str | Stage, parameters: dict[str, Any]) -> "Pipeline":
        if isinstance(name, Stage):
            if parameters:
                raise RecipeError(f"give {type(name).__name__} its parameters when you build it")
            stage = name
        else:
            stage = build(registry.load(verb, name), parameters, f"{verb} {name}")
        if stage.verb != verb:
            raise RecipeError(f"{type(stage).__name__} is a stage for .{stage.verb}(), not .{verb}()")
        return self._and(stage)

    def _and(self, stage: Stage) -> "Pipeline":
        return Pipeline(self.recipe.model_copy(update={"stages": (*self.recipe.stages, stage)}))


def source(kind: str | Source, value: Any = None, /, **parameters: Any) -> Pipeline:
    """A pipeline that starts with the source registered as `kind`. `value` is for its main parameter."""
    if isinstance(kind, Source):
        return Pipeline(Recipe(source=kind))
    plugin = registry.load("source", kind)
    given = {} if value is None else {plugin.main: str(value) if isinstance(value, Path) else value}
    return Pipeline(Recipe(source=build(plugin, {**given, **parameters}, f"source {kind}")))


def read(path: str | Path, **parameters: Any) -> Pipeline:
    """Read images or pairs from `path`: a folder, tars (`shards/{00..09}.tar`, s3://…), csv, jsonl, parquet, txt."""
    from mmsynth.sources.detect import detect

    kind, found = detect(str(path))
    return source(kind, **{**found, **parameters})


def concat(*sources: "str | Path | Source | Pipeline") -> Pipeline:
    """Read several sources, one after another: paths (as for `read`), sources, or pipelines without stages."""
    return source("concat", [_plain(one) for one in sources])


def mix(
    weights: "Mapping[str | Path, float] | Iterable[tuple[str | Path | Source | Pipeline, float]]",
    /,
    *,
    seed: int = 0,
    until: Literal["first", "last"] = "last",
) -> Pipeline:
    """Interleave several sources by weight: `mix({"a/": 0.7, "b/": 0.3})` or `mix([(mm.scenes(40), 0.7), …])`.

    Each sample comes at most once. When a source runs out, the others go on, or with `until="first"` the mixture ends.
    """
    pairs = weights.items() if isinstance(weights, Mapping) else weights
    parts = [{"source": _plain(one), "weight": weight} for one, weight in pairs]
    return source("mix", parts, seed=seed, until=until)


def _plain(given: "str | Path | Source | Pipeline") -> "str | Path | Source":
    if not isinstance(given, Pipeline):
        return given
    if given.recipe.stages:
        raise RecipeError("a part of concat or mix is a source without stages: write it first, and give the folder")
    return given.recipe.source


def select(*runs: str | Path, **decision: Any) -> Pipeline:
    """Select samples of earlier runs: select("run/", where="clip >= 0.26", top=0.3, by="clip")."""
    return source("select", runs=[str(run) for run in runs], **decision)
