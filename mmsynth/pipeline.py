"""Pipeline: a source and a chain of stages, immutable. Fluent calls build the recipe; the recipe is the pipeline."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsynth import registry
from mmsynth.errors import RecipeError
from mmsynth.recipe import GROUPING, Out, Recipe, RunOptions, build, build_stage
from mmsynth.sample import Result
from mmsynth.sources.base import Source
from mmsynth.stage import Stage

if TYPE_CHECKING:
    from mmsynth.engine.progress import OnProgress
    from mmsynth.report import Report


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A source and a chain of stages.

        pipeline = mm.read("photos/").caption("vlm").filter("clip", min=0.26)
        report = pipeline.write("pairs/")

    Every method gives a new pipeline. `recipe` holds all of it.
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
        """Add a stage whose own name is its word, with the value that stands beside it: `.repeat(4)`, `.best_of("clip")`.

        Any registered one, a stranger's too: see `mmsynth plugins`, recipe word grouping.
        """
        if name.startswith("_") or name not in registry.entry_points(GROUPING):
            raise AttributeError(f"a Pipeline has no '{name}'")

        def add(value: Any = None, /, **parameters: Any) -> Pipeline:
            return self._and(build_stage({name: value, **parameters}, f".{name}()"))

        return add

    def seeded(self, seed: int) -> "Pipeline":
        """The same pipeline with another seed."""
        return Pipeline(self.recipe.model_copy(update={"seed": seed}))

    def write(self, path: str | Path, *, on_progress: "OnProgress | None" = None, **options: Any) -> "Report":
        """Run it into the folder `path`; the same call again goes on where it stopped.

        Options of the output: samples_per_shard, image_format, quality. Of the run: workers, device, threads,
        max_failures, limit, batch_timeout_s. Raises MMSynthError.
        """
        out = {name: options.pop(name) for name in list(options) if name in Out.model_fields}
        unknown = [name for name in options if name not in RunOptions.model_fields]
        if unknown:
            names = [*Out.model_fields, *RunOptions.model_fields]
            raise RecipeError(f"write() has no option '{unknown[0]}'. Options: {', '.join(names)}")
        recipe = self.recipe.model_copy(
            update={
                "out": build(Out, {**self.recipe.out.model_dump(), **out, "path": str(path)}, "write()"),
                "run": build(RunOptions, {**self.recipe.run.model_dump(), **options}, "write()"),
            }
        )
        return Pipeline(recipe).run(on_progress=on_progress)

    def run(self, *, on_progress: "OnProgress | None" = None) -> "Report":
        """Run it as its recipe says; `out.path` must be set."""
        from mmsynth.engine.run import run_recipe

        return run_recipe(self.recipe, on_progress)

    def __iter__(self) -> Iterator[Result]:
        """What becomes of every input, one after another, in memory: Sample, Dropped or Failed. Nothing is written."""
        from mmsynth.engine.run import results

        return results(self.recipe)

    def take(self, n: int) -> list[Result]:
        """The results of the first `n` inputs, nothing written: to look at while building a pipeline.

        Inputs that failed raise their error here.
        """
        from mmsynth.engine.run import take

        return take(self.recipe, n)

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
    """A pipeline that starts with the source registered as `kind`; `value` is that of its main parameter."""
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


def select(*runs: str | Path, **decision: Any) -> Pipeline:
    """The samples of earlier runs that a decision keeps: select("run/", where="clip >= 0.26", top=0.3, by="clip")."""
    return source("select", runs=[str(run) for run in runs], **decision)
