"""Pipeline: a source and a chain of stages, immutable. Fluent calls build the recipe; the recipe is the pipeline."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsynth import registry
from mmsynth.candidates import BestOf, Repeat
from mmsynth.errors import RecipeError
from mmsynth.recipe import Out, Recipe, RunOptions, build
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

    def repeat(self, times: int) -> "Pipeline":
        """Go on with `times` candidates of each sample, each with its own seeds: keys `k_0`, `k_1`, …"""
        return self._and(build(Repeat, {"times": times}, "repeat"))

    def best_of(self, score: str) -> "Pipeline":
        """Keep the candidate with the highest score; the others are dropped as `not_best`."""
        return self._and(build(BestOf, {"score": score}, "best_of"))

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


def source(kind: str | Source, /, **parameters: Any) -> Pipeline:
    """A pipeline that starts with the source registered as `kind`."""
    if isinstance(kind, Source):
        return Pipeline(Recipe(source=kind))
    return Pipeline(Recipe(source=build(registry.load("source", kind), parameters, f"source {kind}")))


def read(path: str | Path, **parameters: Any) -> Pipeline:
    """Read images or pairs from `path`: a folder, tars (`shards/{00..09}.tar`, s3://…), csv, jsonl, parquet, txt."""
    from mmsynth.sources.detect import detect

    kind, found = detect(str(path))
    return source(kind, **{**found, **parameters})


def select(*runs: str | Path, **decision: Any) -> Pipeline:
    """The samples of earlier runs that a decision keeps: select("run/", where="clip >= 0.26", top=0.3, by="clip")."""
    return source("select", runs=[str(run) for run in runs], **decision)


def prompts(path: str | Path, **parameters: Any) -> Pipeline:
    """Read prompts to draw: a text file with one in each line, or jsonl."""
    return source("prompts", path=str(path), **parameters)


def scenes(n: int, seed: int = 0, **parameters: Any) -> Pipeline:
    """`n` random scenes, as prompts with their facts; add `.render("scenes")` to draw them."""
    return source("scenes", n=n, seed=seed, **parameters)
