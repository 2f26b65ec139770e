"""The command line's output: a live progress bar, tables, lists. Tables go to stdout, the progress bar to stderr."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from mmsynth import registry
from mmsynth.cli.streams import Lenient
from mmsynth.engine.progress import OnProgress, Progress
from mmsynth.report import Report
from mmsynth.selection.rows import how_to_score

# no markup anywhere: names and paths may hold brackets
_out = Console(file=cast(IO[str], Lenient("stdout")), markup=False, emoji=False)
_err = Console(file=cast(IO[str], Lenient("stderr")), markup=False, emoji=False)
#: what would move a terminal's cursor or change its colours
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@contextmanager
def progress(what: str = "samples") -> Iterator[OnProgress]:
    """A live bar on stderr with the counts of kept, dropped and failed samples."""
    colours = {"kept": "green", "dropped": "yellow", "failed": "red"}
    counts = "  ".join(f"[{colour}]{{task.fields[{name}]}} {name}[/]" for name, colour in colours.items())
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn(counts))
    with Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=_err, refresh_per_second=4) as bars:
        task = bars.add_task(what, total=None, kept=0, dropped=0, failed=0)

        def on_progress(now: Progress) -> None:
            done = now.inputs + now.already
            bars.update(task, total=now.total, completed=done, kept=now.kept, dropped=now.dropped, failed=now.failed)

        yield on_progress


def report(made: Report) -> None:
    """The report's table."""
    _out.print(made.table())


def selection(decided: Any) -> None:
    """Print what a decision keeps, why the rest is dropped, and the scores before and after."""
    table = Table("selection", "samples", min_width=48)
    table.columns[1].justify = "right"
    table.add_row("candidates", f"{decided.candidates:,}")
    for reason, number in decided.dropped.items():
        table.add_row(f"    {reason}", f"-{number:,}")
    table.add_row(Text("kept", style="green"), f"{decided.kept:,}")
    for name, number in decided.without_score.items():
        table.add_row(Text(f"without a number for {name}", style="yellow"), f"{number:,}")
    if decided.without_hash:
        table.add_row(Text("flat pictures, compared by no hash", style="yellow"), f"{decided.without_hash:,}")
    for name, when in decided.quantiles.items():
        for moment, values in when.items():
            table.add_row(f"{name} {moment}: 5, 25, 50, 75, 95 %", "  ".join(f"{v:.3f}" for v in values.values()))
    _out.print(table)
    for name, runs in decided.unscored_runs.items():
        for run in runs:
            _out.print(f"no sample of {run} has the score {name}. {how_to_score(run, name)}")


#: warn if the true precision may be further below the wanted one than this
_TELLING = 0.03


def calibration(found: Any, score: str, wanted: float, threshold: float | None) -> None:
    """Print precision and recall at some thresholds, and at the chosen one."""
    table = Table(f"{score} at least", "precision", "95 %", "recall", "95 %", "kept")
    kept = [float(found.thresholds[(found.kept >= share).nonzero()[0].max()]) for share in (0.99, 0.9, 0.75, 0.5, 0.25)]
    for at in sorted({*kept, *([] if threshold is None else [threshold])}):
        one = found.at(at)
        low_high = [
            f"{one[f'{name}_interval'][0]:.3f}–{one[f'{name}_interval'][1]:.3f}" for name in ("precision", "recall")
        ]
        cells = [f"{one['precision']:.3f}", low_high[0], f"{one['recall']:.3f}", low_high[1], f"{one['kept']:.1%}"]
        table.add_row(f"{at:.4f}", *cells, style="bold" if at == threshold else None)
    _out.print(table)
    low, high = found.noise_interval
    _out.print(
        f"{found.pairs:,} pairs, {found.mismatched:,} mismatched ones; AUC {found.auc:.3f}; at most about "
        f"{found.noise:.1%} ({low:.1%} to {high:.1%}) of the pairs are mismatched themselves and count as noise; "
        "it is fewer, and the precision higher, where the scores of both overlap"
    )
    for kind, auc in found.hard_auc.items():
        _out.print(f"AUC against captions with a wrong {kind}: {auc:.3f}")
    if threshold is None:
        _out.print(f"no threshold gives a precision of {wanted:g}")
    else:
        one = found.at(threshold)
        (low, high), where = one["precision_interval"], f"{score} >= {threshold:.4f}"
        _out.print(
            f'for a precision of {wanted:g} ({low:.3f} to {high:.3f}): --where "{where}", which keeps {one["kept"]:.1%}'
        )
        if low < wanted - _TELLING:
            _out.print(f"{found.pairs:,} pairs cannot narrow the precision further: score more pairs")


def rows(names: list[str], found: list[tuple[Any, ...]]) -> None:
    """A query's answer: a table where it fits, else a record for each row; values are whole in both."""
    answer = [[_cell(value) for value in row] for row in found]
    table = Table(*names)
    for row in answer:
        table.add_row(*(Text(value) for value in row))
    if _out.measure(table, options=_out.options.update(max_width=_WIDEST)).maximum <= _out.width:
        _out.print(table)
        return
    longest = max(map(len, names))
    for number, row in enumerate(answer, 1):
        _out.print(f"-- {number} " + "-" * 40, highlight=False)
        for name, value in zip(names, row, strict=True):
            lines = value.split("\n") or [""]
            for title, line in zip([name, *[""] * (len(lines) - 1)], lines, strict=True):
                _out.print(f"{title:{longest}}  {line}".rstrip(), highlight=False, soft_wrap=True)


#: wider than any terminal
_WIDEST = 10_000


def _cell(value: Any) -> str:
    return "" if value is None else _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))


def say(text: str) -> None:
    """Print one line to stdout."""
    _out.print(text)


def description(run: dict[str, Any]) -> None:
    """Print the content of run.json: recipe, models, versions."""
    import yaml

    _out.print(
        yaml.safe_dump(run["recipe"], sort_keys=False, allow_unicode=True).strip(), highlight=False, markup=False
    )
    for model in run.get("models", []):
        _out.print(f"model {model['id']} at {model['revision']} in {model['dtype']}", highlight=False)
    versions = ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items())
    _out.print(f"seed {run['seed']}, device {run['device']}; {versions}\n", highlight=False)


def plugins() -> None:
    """Print every registered plugin with its docstring's first line, or the extra that it lacks."""
    from mmsynth.errors import PluginError

    table = Table("name", "what it does", "from", box=None, pad_edge=False)
    for word in registry.GROUPS:
        table.add_row(Text(word, style="bold"))
        for name, entry in registry.entry_points(word).items():
            try:
                about = Text((registry.load(word, name).__doc__ or "").strip().partition("\n")[0])
            except PluginError as error:
                about = Text(str(error), style="red")
            table.add_row(f"  {name}", about, entry.dist.name if entry.dist else "")
    _out.print(table)
