"""The commands that run pipelines or describe runs. Slow imports are inside the functions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mmsynth.cli.making import pipeline_from, print_recipe, source_kind, write
from mmsynth.cli.options import Machine, Making, Running, Trusting, Yaml, given, import_first, parsed, with_options

app = typer.Typer(
    name="mmsynth",
    help="Make image-text data for vision-language models: caption, draw, ask, filter, write WebDataset shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="--debug, anywhere, shows the traceback of an error. Run the same command again to resume.",
)

Source = Annotated[
    str,
    typer.Argument(
        help="a folder of images, tars (a folder, a.tar, s3://…/{00..09}.tar), csv, jsonl, parquet, txt; "
        "or any source by name: KIND:VALUE, such as scenes:40"
    ),
]
Output = Annotated[str, typer.Argument(help="the output folder: shards, parquet, run.json; or a URL, s3://…")]
Folder = Annotated[str, typer.Argument(help="an output folder, finished or not, or its URL")]
Model = Annotated[str | None, typer.Option(help="hub id or local folder; for clip also NAME/PRETRAINED or 'nano'")]


@app.callback()
def _app() -> None:
    """Makes typer keep sub-commands, even if there were only one."""


@dataclass(frozen=True, kw_only=True)
class Run(Running, Trusting):
    out: Annotated[str | None, typer.Option(help="an output folder or URL instead of the recipe's")] = None
    executor: Annotated[str | None, typer.Option(help="local, or ray: on a Ray cluster", rich_help_panel="Running")] = (
        None
    )
    address: Annotated[
        str | None, typer.Option(help="address of the Ray cluster: host:port, ray://…, auto", rich_help_panel="Running")
    ] = None


@app.command()
@with_options
def run(
    recipe: Annotated[Path, typer.Argument(help="a YAML recipe, or the run.json of an earlier run")], options: Run
) -> None:
    """Run a recipe. Under `accelerate launch -m mmsynth run …` each process does its share."""
    from mmsynth.pipeline import Pipeline

    import_first(options)
    pipeline = Pipeline.from_file(recipe)
    out = options.out or pipeline.recipe.out.path
    write(pipeline, out, options, executor=options.executor, address=options.address)


@dataclass(frozen=True, kw_only=True)
class Caption(Making):
    captioner: Annotated[str, typer.Option(help="vlm, facts, or any installed one")] = "vlm"
    model: Model = None
    prompt: Annotated[str | None, typer.Option(help="the prompt for the model")] = None


@app.command()
@with_options
def caption(source: Source, out: Output, options: Caption) -> None:
    """Caption the images of SOURCE. Existing captions are kept beside the new ones."""
    parameters = given(model=options.model, prompt=options.prompt) | parsed(options.settings, "--set")
    write(pipeline_from(source, options).caption(options.captioner, **parameters), out, options)


@dataclass(frozen=True, kw_only=True)
class Ask(Making):
    model: Model = None
    question: Annotated[
        list[str] | None, typer.Option("--question", "-q", help="ask this of every image (repeatable)")
    ] = None
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="built-in questions: yes_no, what, colour, count, …")
    ] = None


@app.command()
@with_options
def ask(source: Source, out: Output, options: Ask) -> None:
    """Ask a vision-language model about the images of SOURCE, and add question-answer pairs to each record."""
    parameters = given(model=options.model, questions=options.question or None, kinds=options.kind or None)
    parameters |= parsed(options.settings, "--set")
    write(pipeline_from(source, options).caption("ask", **parameters), out, options)


@dataclass(frozen=True, kw_only=True)
class Render(Making):
    renderer: Annotated[
        str | None,
        typer.Option(help="diffusion, or any installed one; default: the one for this kind of source, else diffusion"),
    ] = None
    model: Model = None
    image_format: Annotated[str | None, typer.Option(help="jpg, png or webp", rich_help_panel="Writing")] = None
    quality: Annotated[int | None, typer.Option(help="for jpg and webp, 1 to 100", rich_help_panel="Writing")] = None


@app.command()
@with_options
def render(
    source: Annotated[str, typer.Argument(help="prompts (txt, jsonl), or any source by name: scenes:40")],
    out: Output,
    options: Render,
) -> None:
    """Draw an image for every prompt of SOURCE."""
    from mmsynth import registry

    kind = source_kind(source)
    name = options.renderer or (kind if kind in registry.entry_points("render") else None) or "diffusion"
    parameters = given(model=options.model) | parsed(options.settings, "--set")
    drawn = pipeline_from(source, options).render(name, **parameters)
    write(drawn, out, options, image_format=options.image_format, quality=options.quality)


@dataclass(frozen=True, kw_only=True)
class Filter(Making):
    filter: Annotated[str, typer.Option(help="clip, image_size, caption_length, or any installed one")] = "clip"
    model: Model = None
    min: Annotated[float | None, typer.Option(help="drop below this score; without bounds, only score")] = None
    max: Annotated[float | None, typer.Option(help="drop above this score")] = None


@app.command(name="filter")
@with_options
def filter_(source: Source, out: Output, options: Filter) -> None:
    """Score the pairs of SOURCE, and drop those out of bounds."""
    parameters = given(model=options.model, min=options.min, max=options.max) | parsed(options.settings, "--set")
    write(pipeline_from(source, options).filter(options.filter, **parameters), out, options)


@app.command()
def info(folder: Folder) -> None:
    """Describe a finished or unfinished run."""
    from mmsynth.cli import show
    from mmsynth.report import report_on
    from mmsynth.shards.folder import RunFolder

    run_folder = RunFolder(folder)
    show.description(run_folder.description())
    show.report(report_on(run_folder))


@dataclass(frozen=True, kw_only=True)
class Verify(Trusting, Machine):
    repair: Annotated[bool, typer.Option("--repair", help="rewrite damaged shards")] = False


@app.command()
@with_options
def verify(folder: Folder, options: Verify) -> None:
    """Check a run's files against their digests, and its tars against its parquet files. With --repair, fix damage."""
    from mmsynth.cli import show
    from mmsynth.errors import OutputError
    from mmsynth.shards.folder import RunFolder
    from mmsynth.shards.verify import damages

    import_first(options)
    run_folder = RunFolder(folder)
    run_folder.description()  # raises if there is no run
    found = list(damages(run_folder))
    for damage in found:
        show.say(str(damage))
    if not found:
        show.say(f"{len(run_folder.committed)} shards are intact")
    elif options.repair:
        from mmsynth.engine.run import repair as made_again
        from mmsynth.recipe import RunOptions

        with show.progress() as on_progress:
            how = given(workers=options.workers, device=options.device, ignore_times=options.ignore_times)
            report = made_again(folder, RunOptions(**how), on_progress)
        show.report(report)
    else:
        damaged = len({damage.shard for damage in found})
        raise OutputError(f"{damaged} shards of {folder} are damaged: mmsynth verify {folder} --repair repairs them")


@app.command()
def plugins() -> None:
    """List the installed plugins: sources, captioners, renderers, filters, groupings, chat engines."""
    from mmsynth.cli import show

    show.plugins()


@dataclass(frozen=True, kw_only=True)
class Demo(Yaml):
    n: Annotated[int, typer.Option(help="scenes to draw", min=20)] = 300


@app.command()
@with_options
def demo(options: Demo, out: Annotated[Path, typer.Argument(help="the output folder")] = Path("demo")) -> None:
    """Draw, caption, ask, plant wrong captions, and let the CLIP filter find them, all with nano models, offline."""
    from mmsynth.cli.demo import demo_pipeline, run_demo

    pipeline = demo_pipeline(options.n, out)
    if options.yaml:
        print_recipe(pipeline.recipe)
    else:
        run_demo(pipeline, options.n)
