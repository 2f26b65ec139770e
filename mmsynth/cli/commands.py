"""The commands. Each builds a recipe and runs it; imports that cost time stand inside them."""

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="mmsynth",
    help="Make image-text data for vision-language models: caption, draw, ask, filter, write WebDataset shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="--debug, anywhere, shows the traceback of an error. The same command again goes on where it stopped.",
)

Source = Annotated[
    str,
    typer.Argument(help="a folder of images, tars (a folder, a.tar, s3://…/{00..09}.tar), csv, jsonl, parquet, txt"),
]
Output = Annotated[str, typer.Argument(help="the output folder: shards, parquet, run.json; or a URL, s3://…")]
Model = Annotated[str | None, typer.Option(help="hub id or local folder; for clip also NAME/PRETRAINED or 'nano'")]
Set = Annotated[list[str] | None, typer.Option("--set", help="any parameter of the stage: name=value (repeatable)")]
SourceSet = Annotated[list[str] | None, typer.Option("--source-set", help="any parameter of the source: name=value")]
Limit = Annotated[int | None, typer.Option(help="only the first N samples, to try it")]
Workers = Annotated[int | None, typer.Option(help="worker processes, one for each GPU")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]
MaxFailures = Annotated[float | None, typer.Option(help="stop when a larger share has failed (0 to 1)")]
PerShard = Annotated[int | None, typer.Option("--samples-per-shard", help="inputs that become one shard")]
Imports = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="import this first: a recipe runs no code that you did not name"),
]
Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="MODEL", help="let the recipe run the code that comes with this model"),
]
Seed = Annotated[int | None, typer.Option(help="the run's seed")]


@app.callback()
def _app() -> None:
    """Keeps the sub-commands even if only one were left."""


@app.command()
def run(  # noqa: PLR0913 - a command line's options
    recipe: Annotated[Path, typer.Argument(help="a YAML recipe, or the run.json of an earlier run")],
    out: Annotated[str | None, typer.Option(help="another output folder than the recipe's, or a URL")] = None,
    limit: Limit = None,
    workers: Workers = None,
    device: Device = None,
    max_failures: MaxFailures = None,
    executor: Annotated[str | None, typer.Option(help="local, or ray: on a Ray cluster")] = None,
    address: Annotated[str | None, typer.Option(help="of the Ray cluster: host:port, ray://…, auto")] = None,
    imports: Imports = None,
    trust: Trust = None,
) -> None:
    """Run a recipe. Under `accelerate launch -m mmsynth run …` each process does its share."""
    from mmsynth.pipeline import Pipeline

    import_first(imports, trust)
    pipeline = Pipeline.from_file(recipe)
    write(
        pipeline,
        out or pipeline.recipe.out.path,
        given(limit=limit, workers=workers, device=device, max_failures=max_failures)
        | given(executor=executor, address=address),
    )


@app.command()
def caption(  # noqa: PLR0913 - a command line's options
    source: Source,
    out: Output,
    model: Model = None,
    prompt: Annotated[str | None, typer.Option(help="what the model is asked to write")] = None,
    captioner: Annotated[str, typer.Option(help="vlm, facts, or any installed one")] = "vlm",
    settings: Set = None,
    source_settings: SourceSet = None,
    limit: Limit = None,
    workers: Workers = None,
    device: Device = None,
    max_failures: MaxFailures = None,
    per_shard: PerShard = None,
    seed: Seed = None,
) -> None:
    """Caption the images of SOURCE; captions that came with them are kept beside the new ones."""
    parameters = given(model=model, prompt=prompt) | _settings(settings)
    options = given(limit=limit, workers=workers, device=device, max_failures=max_failures, samples_per_shard=per_shard)
    write(_pipeline(source, source_settings, seed).caption(captioner, **parameters), out, options)


@app.command()
def ask(  # noqa: PLR0913 - a command line's options
    source: Source,
    out: Output,
    model: Model = None,
    question: Annotated[
        list[str] | None, typer.Option("--question", "-q", help="ask this of every image (repeatable)")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="built-in questions: yes_no, what, colour, count, …")
    ] = None,
    settings: Set = None,
    source_settings: SourceSet = None,
    limit: Limit = None,
    workers: Workers = None,
    device: Device = None,
    max_failures: MaxFailures = None,
    per_shard: PerShard = None,
    seed: Seed = None,
) -> None:
    """Ask a vision-language model about the images of SOURCE: question-answer pairs in each record."""
    parameters = given(model=model, questions=question or None, kinds=kind or None) | _settings(settings)
    options = given(limit=limit, workers=workers, device=device, max_failures=max_failures, samples_per_shard=per_shard)
    write(_pipeline(source, source_settings, seed).caption("ask", **parameters), out, options)


@app.command()
def render(  # noqa: PLR0913 - a command line's options
    source: Annotated[str, typer.Argument(help="prompts (txt, jsonl), or scenes:N for N random scenes")],
    out: Output,
    model: Model = None,
    renderer: Annotated[str | None, typer.Option(help="diffusion, scenes, or any installed one")] = None,
    image_format: Annotated[str | None, typer.Option(help="jpg, png or webp")] = None,
    quality: Annotated[int | None, typer.Option(help="of jpg and webp, 1 to 100")] = None,
    settings: Set = None,
    source_settings: SourceSet = None,
    limit: Limit = None,
    workers: Workers = None,
    device: Device = None,
    max_failures: MaxFailures = None,
    per_shard: PerShard = None,
    seed: Seed = None,
) -> None:
    """Draw an image for every prompt of SOURCE."""
    name = renderer or ("scenes" if source.startswith("scenes:") else "diffusion")
    options = given(limit=limit, workers=workers, device=device, max_failures=max_failures, samples_per_shard=per_shard)
    options |= given(image_format=image_format, quality=quality)
    parameters = given(model=model) | _settings(settings)
    write(_pipeline(source, source_settings, seed).render(name, **parameters), out, options)


@app.command(name="filter")
def filter_(  # noqa: PLR0913 - a command line's options
    source: Source,
    out: Output,
    model: Model = None,
    minimum: Annotated[
        float | None, typer.Option("--min", help="drop below this score; without bounds, only score")
    ] = None,
    maximum: Annotated[float | None, typer.Option("--max", help="drop above this score")] = None,
    filter_name: Annotated[
        str, typer.Option("--filter", help="clip, image_size, caption_length, or any installed one")
    ] = "clip",
    settings: Set = None,
    source_settings: SourceSet = None,
    limit: Limit = None,
    workers: Workers = None,
    device: Device = None,
    max_failures: MaxFailures = None,
    per_shard: PerShard = None,
    seed: Seed = None,
) -> None:
    """Score the pairs of SOURCE, and drop those out of bounds."""
    parameters = given(model=model, min=minimum, max=maximum) | _settings(settings)
    options = given(limit=limit, workers=workers, device=device, max_failures=max_failures, samples_per_shard=per_shard)
    write(_pipeline(source, source_settings, seed).filter(filter_name, **parameters), out, options)


@app.command()
def info(folder: Annotated[str, typer.Argument(help="an output folder, finished or not, or its URL")]) -> None:
    """Tell what a finished or unfinished run holds."""
    from mmsynth.cli import show
    from mmsynth.report import report_on
    from mmsynth.shards.folder import RunFolder

    run_folder = RunFolder(folder)
    show.description(run_folder.description())
    show.report(report_on(run_folder))


@app.command()
def verify(  # noqa: PLR0913 - a command line's options
    folder: Annotated[str, typer.Argument(help="an output folder, finished or not, or its URL")],
    repair: Annotated[bool, typer.Option("--repair", help="make damaged shards again")] = False,
    workers: Workers = None,
    device: Device = None,
    imports: Imports = None,
    trust: Trust = None,
) -> None:
    """Check a run's files against their digests, and its tars against its parquet files; repair what is damaged."""
    from mmsynth.cli import show
    from mmsynth.errors import OutputError
    from mmsynth.shards.folder import RunFolder
    from mmsynth.shards.verify import damages

    import_first(imports, trust)
    run_folder = RunFolder(folder)
    run_folder.description()  # raises where there is no run
    found = list(damages(run_folder))
    for damage in found:
        show.say(str(damage))
    if not found:
        show.say(f"{len(run_folder.committed)} shards are as they were written")
    elif repair:
        from mmsynth.engine.run import repair as made_again
        from mmsynth.recipe import RunOptions

        with show.progress() as on_progress:
            report = made_again(folder, RunOptions(**given(workers=workers, device=device)), on_progress)
        show.report(report)
    else:
        damaged = len({damage.shard for damage in found})
        raise OutputError(
            f"{damaged} shards of {folder} are damaged: mmsynth verify {folder} --repair makes them again"
        )


@app.command()
def plugins() -> None:
    """List the installed sources, captioners, renderers and filters."""
    from mmsynth.cli import show

    show.plugins()


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="the output folder")] = Path("demo"),
    n: Annotated[int, typer.Option(help="scenes to draw", min=20)] = 300,
) -> None:
    """Draw, caption, ask, plant wrong captions, let the CLIP filter find them: all by nano models, offline."""
    from mmsynth.cli.demo import run_demo

    run_demo(out, n)


def _pipeline(source: str, source_settings: list[str] | None, seed: int | None) -> Any:
    from mmsynth import registry
    from mmsynth.pipeline import read
    from mmsynth.pipeline import source as start_with

    parameters = _settings(source_settings)
    kind, _, count = source.partition(":")
    if count.isdigit() and kind in registry.entry_points("source"):
        pipeline = start_with(kind, int(count), **{"seed": seed or 0, **parameters})
    else:
        pipeline = read(source, **parameters)
    return pipeline if seed is None else pipeline.seeded(seed)


def write(pipeline: Any, out: str | Path | None, options: dict[str, Any]) -> None:
    """Run the pipeline into `out` with a progress bar, and tell what came of it."""
    from mmsynth.cli import show
    from mmsynth.errors import RecipeError

    if out is None:
        raise RecipeError("the recipe has no output folder: set out.path in it, or give --out FOLDER")
    with show.progress() as on_progress:
        report = pipeline.write(out, on_progress=on_progress, **options)
    show.report(report)
    if report.inputs and sum(report.failed.values()) == report.inputs:
        from mmsynth.errors import TooManyFailures

        raise TooManyFailures(f"every sample failed: {', '.join(report.failed)} (the parquet files have the details)")


def import_first(modules: list[str] | None, trusted: list[str] | None) -> None:
    """Import what the command line names, so that a recipe may name its classes; and whose models' code it may run."""
    from mmsynth import models, registry

    for model in trusted or ():
        models.trust(model)
    for name in modules or ():
        registry.import_module(name)


def given(**options: Any) -> dict[str, Any]:
    """The options that the command line named."""
    return {name: value for name, value in options.items() if value is not None}


def _settings(settings: list[str] | None) -> dict[str, Any]:
    """`name=value` pairs, values read as YAML: 0.5 is a number, [a, b] a list, true a boolean."""
    import yaml

    from mmsynth.errors import RecipeError

    parsed = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise RecipeError(f"--set takes name=value, got {setting!r}")
        try:
            parsed[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {name}: {value!r} is not a YAML value") from error
    return parsed
