"""Builds a pipeline from the command line, and runs it or prints its recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from mmsynth.cli.options import Making, Running, given, parsed, run_options

if TYPE_CHECKING:
    from mmsynth.pipeline import Pipeline
    from mmsynth.recipe import Recipe


def pipeline_from(source: str, making: Making) -> "Pipeline":
    """A pipeline from a path, or from a source by name with the value of its main parameter: `scenes:40`."""
    from mmsynth import pipeline, registry

    parameters = parsed(making.source_settings, "--source-set")
    kind = source_kind(source)
    if kind is None:
        begun = pipeline.read(source, **parameters)
    else:
        plugin = registry.load("source", kind)
        if making.seed is not None and "seed" in plugin.model_fields:
            parameters = {"seed": making.seed, **parameters}
        begun = pipeline.source(kind, _main_value(plugin, source), **parameters)
    return begun if making.seed is None else begun.seeded(making.seed)


def source_kind(source: str) -> str | None:
    """The registered source that `source` starts with, as in `scenes:40`, or None for a path or URL."""
    from mmsynth import registry

    kind, colon, value = source.partition(":")
    is_named = colon and not value.startswith("//") and kind in registry.entry_points("source")
    return kind if is_named else None


def _main_value(plugin: type[Any], source: str) -> Any:
    """The value as text if the parameter takes text, else parsed as YAML: `scenes:40`, `concat:[a/, b.csv]`."""
    from types import UnionType

    from mmsynth.validation import parse_yaml

    text, kind = source.partition(":")[2], plugin.model_fields[plugin.main].annotation
    takes_text = kind is str or (get_origin(kind) in {Union, UnionType} and str in get_args(kind))
    return text if takes_text else parse_yaml(text, source)


def write(pipeline: "Pipeline", out: str | Path | None, running: Running, **options: Any) -> None:
    """Run the pipeline into `out` with a progress bar and print the report, or print the recipe."""
    from mmsynth.cli import show
    from mmsynth.errors import RecipeError, TooManyFailures

    if out is None:
        raise RecipeError("the recipe has no output folder: set out.path in it, or give --out FOLDER")
    pipeline = pipeline.into(out, **run_options(running), **given(**options))
    if running.yaml:
        print_recipe(pipeline.recipe)
        return
    with show.progress() as on_progress:
        report = pipeline.run(on_progress=on_progress)
    show.report(report)
    if report.inputs and report.failed_inputs == report.inputs:
        raise TooManyFailures(f"every sample failed: {', '.join(report.failed)} (the parquet files have the details)")


def print_recipe(recipe: "Recipe") -> None:
    """Print YAML for `mmsynth run`, with the options that it needs, if any, in a comment."""
    import sys

    from mmsynth.cli.streams import is_utf8

    spec = recipe.to_dict()
    words = [spec["source"]["kind"], *(word for stage in spec["stages"] for word in next(iter(stage.items())))]
    modules = [word.partition(":")[0] for word in words if isinstance(word, str) and ":" in word]
    models = [stage["model"] for stage in spec["stages"] if stage.get("trust_remote_code")]
    needed = [f"--import {one}" for one in dict.fromkeys(modules)] + [f"--trust {one}" for one in dict.fromkeys(models)]
    if needed:
        sys.stdout.write(f"# mmsynth run RECIPE {' '.join(needed)}\n")
    # escapes mean the same where the characters cannot be printed
    sys.stdout.write(recipe.to_yaml(as_ascii=not is_utf8(sys.stdout)))
