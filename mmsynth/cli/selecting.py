"""The commands that work on finished runs, from their parquet files: select, query, calibrate."""

import csv
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import count
from typing import Annotated, Any

import typer

from mmsynth.cli.commands import app
from mmsynth.cli.making import write
from mmsynth.cli.options import Device, Trusting, Writing, given, import_first, with_options

__all__ = ["app", "calibrate", "query", "select"]

Runs = Annotated[list[str], typer.Argument(help="output folders of mmsynth", show_default=False)]


class Form(StrEnum):
    """The output format of a query."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, kw_only=True)
class Select(Writing):
    where: Annotated[str | None, typer.Option(help="SQL: clip >= 0.26 and caption_words between 4 and 60")] = None
    top: Annotated[float | None, typer.Option(help="keep the best share (0 to 1) by --by, over all runs")] = None
    by: Annotated[str | None, typer.Option(help="a score, a column or an SQL expression: higher is better")] = None
    per: Annotated[str | None, typer.Option(help="balance: a column or an SQL expression")] = None
    at_most: Annotated[int | None, typer.Option(help="samples for each value of --per")] = None
    dedup: Annotated[bool, typer.Option("--dedup", help="keep one of the images that have the same bytes")] = False
    near_duplicates: Annotated[
        str | None, typer.Option(help="keep one of near-duplicates: hash, embedding=0.95, caption=0.7")
    ] = None
    sample: Annotated[int | None, typer.Option(help="keep so many of the samples left, at random")] = None
    caption_mix: Annotated[str | None, typer.Option(help="captions to train on: synthetic=0.8,original=0.2")] = None
    seed: Annotated[int, typer.Option(help="seed of the random choices and the order")] = 0
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be kept, write nothing")] = False

    def decision(self) -> dict[str, Any]:
        """The parameters of the source `select` that the command line named."""
        names = ("where", "top", "by", "per", "at_most", "sample", "dedup", "seed")
        decided = given(**{name: getattr(self, name) for name in names})
        if self.near_duplicates is not None:
            decided["near_duplicates"] = _bounds(self.near_duplicates)
        if self.caption_mix is not None:
            decided["caption_mix"] = _numbers("--caption-mix", self.caption_mix)
        return decided


@app.command()
@with_options
def select(
    runs: Runs,
    out: Annotated[str, typer.Argument(help="the output folder or URL: even, shuffled shards", show_default=False)],
    options: Select,
) -> None:
    """Keep the best samples of finished runs, by the scores that they have, in even, shuffled shards."""
    import mmsynth as mm
    from mmsynth.cli import show

    pipeline = mm.select(*runs, **options.decision())
    source: Any = pipeline.recipe.source
    if not options.yaml:
        show.selection(source.decided())
    if options.yaml or not options.dry_run:
        write(pipeline, out, options)


@app.command()
def query(
    run: Annotated[str, typer.Argument(help="an output folder of mmsynth")],
    sql: Annotated[str, typer.Argument(help="one SELECT over the table samples")],
    form: Annotated[Form, typer.Option("--format", help="output format")] = Form.TABLE,
) -> None:
    """Ask anything of a run's rows: mmsynth query RUN "select reason, count(*) from samples group by reason"."""
    from mmsynth.cli import show
    from mmsynth.selection import Rows

    answer = Rows([run]).query(sql)
    names = _distinct([column[0] for column in answer.description or ()])
    if form is Form.TABLE:
        show.rows(names, answer.fetchall())
    else:
        _print_data(names, iter(answer.fetchone, None), form)


def _print_data(names: list[str], rows: Iterator[Any], form: Form) -> None:
    """As csv, or a JSON object in each line. Raises OutputError where it cannot be written whole."""
    from mmsynth.cli.streams import is_utf8
    from mmsynth.errors import OutputError

    try:
        if form is Form.CSV:
            lines = csv.writer(sys.stdout, lineterminator="\n")
            lines.writerow(names)
            lines.writerows(rows)
        else:
            as_ascii = not is_utf8(sys.stdout)
            for row in rows:
                values = dict(zip(names, map(_json, row), strict=True))
                sys.stdout.write(json.dumps(values, ensure_ascii=as_ascii, default=str) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return  # the reader has enough
    except OSError as error:
        raise OutputError(f"the answer cannot be printed: {error.strerror or error}") from error


@dataclass(frozen=True, kw_only=True)
class Calibrate(Trusting):
    score: Annotated[str, typer.Option(help="the score to find a threshold for")] = "clip"
    precision: Annotated[float, typer.Option(help="the share of kept pairs that should match", min=0, max=1)] = 0.95
    out: Annotated[str | None, typer.Option(help="write calibration.json and calibration.png here")] = None
    limit: Annotated[int, typer.Option(help="mismatched pairs to score", min=1)] = 5000
    seed: Annotated[int, typer.Option(help="seed of the permutation and the bootstrap")] = 0
    device: Device = None


@app.command()
@with_options
def calibrate(
    run: Annotated[str, typer.Argument(help="an output folder whose pairs were scored")], options: Calibrate
) -> None:
    """Find the threshold for a given precision, from the run's pairs and its images with permuted captions."""
    from mmsynth.calibration import calibrated, score_run
    from mmsynth.cli import show
    from mmsynth.errors import RecipeError

    import_first(options)
    score, precision, out = options.score, options.precision, options.out
    scored = score_run(run, score, options.limit, options.seed, options.device or "auto")
    try:
        found = calibrated(scored.pairs, scored.mismatched, scored.hard, seed=options.seed)
    except ValueError as error:
        raise RecipeError(f"{run} cannot be calibrated: {error}") from error
    threshold = found.threshold_for(precision)
    show.calibration(found, score, precision, threshold)
    if out is not None:
        from mmsynth.calibration.chart import write_chart
        from mmsynth.io.files import write_json
        from mmsynth.io.storage import storage_at

        chosen = None if threshold is None else found.at(threshold)
        told = {"score": score, "wanted": precision, "chosen": chosen, **found.to_dict()}
        storage = storage_at(out)
        storage.make()
        with storage.in_folder() as folder:
            write_json(folder / "calibration.json", told)
            write_chart(found, score, folder / "calibration.png", threshold)


def _json(value: Any) -> Any:
    """As JSON has it: no NaN or infinity, decimals as numbers, and text for names."""
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() and value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _json(item) for name, item in value.items()}
    return value


def _distinct(names: list[str]) -> list[str]:
    """n, n_1, n_2 for columns of one name; a number that makes another column's name is left out."""
    found: list[str] = []
    for name in names:
        numbered = (f"{name}_{i}" for i in count(1))
        found.append(name if name not in found else next(n for n in numbered if n not in {*found, *names}))
    return found


def _bounds(text: str) -> dict[str, float]:
    """Parse `hash,caption=0.7`. A name alone gets its default bound."""
    from mmsynth.selection.near import BOUNDS

    names = [part.strip() for part in text.split(",")]
    return _numbers("--near-duplicates", ",".join(f"{n}={BOUNDS[n]}" if n in BOUNDS else n for n in names))


def _numbers(option: str, text: str) -> dict[str, float]:
    """Parse `synthetic=0.8,original=0.2`."""
    from mmsynth.errors import RecipeError

    try:
        return {name.strip(): float(number) for name, _, number in (part.partition("=") for part in text.split(","))}
    except ValueError as error:
        example = "hash,caption=0.7" if "near" in option else "synthetic=0.8,original=0.2"
        raise RecipeError(f"{option} takes names and numbers, such as {example}: {text}") from error
