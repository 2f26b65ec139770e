"""A pipeline at a glance: source and stages with their parameters, and the results of the first samples."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mmsynth.engine.run import results
from mmsynth.errors import SampleError
from mmsynth.image import Image
from mmsynth.recipe import Recipe
from mmsynth.sample import Dropped, Failed, Result, Sample
from mmsynth.secrets import without_secrets
from mmsynth.sources.specs import source_spec
from mmsynth.stage_specs import stage_spec

_MOST_CHARACTERS = 400
_MOST_PAIRS = 4


def show(recipe: Recipe, n: int) -> None:
    """Print the pipeline, and the results of its first `n` inputs."""
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(_pipeline(recipe))
    if n > 0:
        table, models = Table("key", "result", show_lines=True), dict[str, None]()
        for result in results(recipe, n):
            sample = result if isinstance(result, Sample) else getattr(result, "sample", None)
            table.add_row(*_row(sample, result))
            models.update(dict.fromkeys(_models(sample)))
        console.print(table)
        for said in models:
            console.print(said, soft_wrap=True)


def _pipeline(recipe: Recipe) -> Table:
    table = Table("step", "parameters")
    spec = without_secrets(source_spec(recipe.source))
    table.add_row(f"source: {spec.pop('kind')}", _parameters(spec))
    for stage in recipe.stages:
        (word, name), *parameters = without_secrets(stage_spec(stage)).items()
        shown = dict(parameters)
        if model := getattr(stage, "model", None):
            shown = {"model": model, **shown}
        table.add_row(f"{word}: {name}", _parameters(shown))
    if recipe.seed:
        table.add_row("seed", str(recipe.seed))
    return table


def _parameters(values: Mapping[str, Any]) -> Text:
    return Text("\n".join(f"{name}: {_cut(_plain(value))}" for name, value in values.items()))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _row(sample: Sample | None, result: Result) -> tuple[Text, Group]:
    lines = list(_lines(sample)) if sample is not None else []
    if isinstance(result, Dropped):
        lines.append(Text(f"dropped: {result.reason}", style="yellow"))
    if isinstance(result, Failed):
        lines.append(Text(f"failed: {result.reason} {result.detail}".rstrip(), style="red"))
    return Text(sample.key if sample is not None else ""), Group(*lines)


def _lines(sample: Sample) -> Iterator[Text]:
    """The content of a sample, one line per item."""
    pictures = [_picture(name, image) for name, image in [("", sample.image), *sample.images.items()] if image]
    if pictures:
        yield Text(", ".join(pictures), style="dim")
    if sample.caption is not None:
        yield Text(_cut(sample.caption))
    pairs = sample.record.get("qa", ())
    for pair in pairs[:_MOST_PAIRS]:
        yield Text(_cut(f"Q: {pair.get('question')}  A: {pair.get('answer')}"))
    if len(pairs) > _MOST_PAIRS:
        yield Text(f"… and {len(pairs) - _MOST_PAIRS} more questions")
    yield from map(_message, sample.record.get("messages", ()))
    if scores := sample.record.get("scores"):
        yield Text("  ".join(f"{name} {_number(value)}" for name, value in scores.items()), style="cyan")


def _picture(name: str, image: Image) -> str:
    try:
        size = f"{image.width}×{image.height} {image.format}"
    except SampleError as error:
        size = error.reason
    return f"{name} {size}".strip()


def _message(message: Mapping[str, Any]) -> Text:
    content = message.get("content", "")
    parts = content if isinstance(content, list | tuple) else [{"type": "text", "text": content}]
    said = " ".join(str(part.get("text") or f"[{part.get('type')} {part.get('image', '')}]") for part in parts)
    return Text(_cut(f"{message.get('role')}: {said}"))


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _models(sample: Sample | None) -> Iterator[str]:
    """The models that made or changed the sample."""
    for step in sample.record.get("steps", ()) if sample is not None else ():
        for model in step.get("models", ()):
            yield f"{step['stage']} by {model['id']} at {model['revision']} in {model['dtype']}"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
