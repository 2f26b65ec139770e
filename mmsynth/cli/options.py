"""Options that commands share, each declared once.

A command under `with_options` takes one frozen object, `options`. Its class adds the command's own options to those of
the classes here. On the command line, each field is an option. `--help` lists a class's own fields before those of its
bases, so the command's own options come first.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer

Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps", rich_help_panel="Running")]


@dataclass(frozen=True, kw_only=True)
class Yaml:
    yaml: Annotated[bool, typer.Option("--yaml", help="print this command's recipe, and do nothing else")] = False


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where to run."""

    workers: Annotated[
        int | None, typer.Option(help="worker processes, one for each GPU", rich_help_panel="Running")
    ] = None
    device: Device = None
    ignore_times: Annotated[
        bool | None,
        typer.Option(
            "--ignore-times",
            help="go on although the input's files have other times: they were copied or touched",
            rich_help_panel="Running",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Trusting:
    """Whose code may run."""

    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import", metavar="MODULE", help="import this first: a recipe runs no code that you did not name"
        ),
    ] = None
    trust: Annotated[
        list[str] | None,
        typer.Option("--trust", metavar="MODEL", help="let the recipe run the code that comes with this model"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Running(Machine, Yaml):
    """How to run a pipeline. Only the limit changes the output."""

    limit: Annotated[
        int | None, typer.Option(help="only the first N samples, to try it", rich_help_panel="Running")
    ] = None
    max_failures: Annotated[
        float | None, typer.Option(help="stop if a larger share has failed (0 to 1)", rich_help_panel="Running")
    ] = None
    threads: Annotated[
        int | None, typer.Option(help="reading and decoding threads per process", rich_help_panel="Running")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Writing(Running):
    samples_per_shard: Annotated[
        int | None, typer.Option(help="inputs that become one shard", rich_help_panel="Writing")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    source_settings: Annotated[
        list[str] | None,
        typer.Option("--source-set", help="any parameter of the source: name=value (repeatable)"),
    ] = None
    seed: Annotated[int | None, typer.Option(help="the run's seed")] = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="any parameter of the stage: name=value (repeatable)")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Making(Setting, Reading, Writing):
    """The options of every command that makes a pipeline of a source and one stage."""


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adapt `command` for typer: replace its parameter `options` by one parameter for each field of the class."""
    arguments = dict(inspect.signature(command, eval_str=True).parameters)
    kind = arguments.pop("options").annotation
    shown = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in arguments.values()] + _parameters(kind)

    @functools.wraps(command)
    def with_object(**given: Any) -> None:
        options = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given, options=options)

    # typer reads both attributes
    with_object.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # typer reads it
    with_object.__annotations__ = {one.name: one.annotation for one in shown}
    return with_object


def _parameters(options: type[Any]) -> list[inspect.Parameter]:
    """One parameter for each field, the class's own before those of its bases."""
    hints = get_type_hints(options, include_extras=True)
    defaults = {field.name: field.default for field in fields(options)}
    names = [name for part in options.__mro__ for name in inspect.get_annotations(part) if name in defaults]
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=hints[name])
        for name in names
    ]


def given(**options: Any) -> dict[str, Any]:
    """The options that the command line named."""
    return {name: value for name, value in options.items() if value is not None}


def run_options(of: Running) -> dict[str, Any]:
    """Options of the run and of what it writes, as `Pipeline.into` takes them."""
    names = ("workers", "device", "threads", "limit", "max_failures", "ignore_times", "samples_per_shard")
    return given(**{name: getattr(of, name, None) for name in names})


def parsed(settings: list[str] | None, option: str) -> dict[str, Any]:
    """Parse `name=value` pairs, with values in YAML: 0.5 is a number, [a, b] a list, true a boolean."""
    from mmsynth.errors import RecipeError
    from mmsynth.validation import parse_yaml

    found = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise RecipeError(f"{option} takes name=value, got {setting!r}")
        found[name] = parse_yaml(value, f"{option} {name}={value}")
    return found


def import_first(trusting: Trusting) -> None:
    """Import the modules that the command line names, so that recipes may name their classes. Trust its models."""
    from mmsynth import models, registry

    for model in trusting.trust or ():
        models.trust(model)
    for name in trusting.imports or ():
        registry.import_module(name)
