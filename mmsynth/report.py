"""Report on a run, finished or not: inputs, kept, dropped and failed by reason, speed, score quantiles."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmsynth.blocks import ShardStats
from mmsynth.io.storage import LocalStorage, text_of
from mmsynth.layout import NOT_READ, score_in, table_name
from mmsynth.shards.folder import RunFolder

if TYPE_CHECKING:
    from rich.table import Table

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Report:
    """The content of an output folder. Always `candidates == kept + dropped + failed`.

    Candidates are the samples that stages (`repeat`, crops) made of the inputs, or else the inputs themselves.
    """

    #: the output folder, or its URL
    path: Path | str
    inputs: int
    #: inputs whose candidates all failed
    failed_inputs: int
    candidates: int
    kept: int
    dropped: dict[str, int]
    failed: dict[str, int]
    repaired: dict[str, int]
    shards: int
    is_finished: bool
    #: score name → {quantile: value} over all scored samples, dropped ones too; empty if this run did no work
    scores: dict[str, dict[float, float]] = field(default_factory=dict)
    #: kind → files that lay where the source reads and were no inputs; known once the run is finished
    not_read: dict[str, int] = field(default_factory=dict)
    #: of the run just made; None when only looking at a folder
    seconds: float | None = None
    #: inputs that an earlier run has done
    already: int = 0

    @property
    def inputs_per_second(self) -> float | None:
        """The speed of the run just made."""
        done = self.inputs - self.already
        return done / self.seconds if self.seconds and done else None

    def table(self) -> "Table":
        """The report as a rich table."""
        from rich.table import Table
        from rich.text import Text

        # Text, because rich would read brackets in names and paths as markup
        title = Text(str(self.path), style="table.title")
        table = Table("", "samples", title=title, title_justify="left", min_width=48)
        table.columns[1].justify = "right"
        for name, value, style in self._lines():
            table.add_row(Text(name, style=style), Text(value))
        return table

    def _lines(self) -> Iterable[tuple[str, str, str]]:
        """The name, value and colour of each line."""
        yield "inputs", f"{self.inputs:,}", ""
        if self.candidates != self.inputs:
            if self.failed_inputs:
                yield "    failed altogether", f"{self.failed_inputs:,}", ""
            yield "candidates made of them", f"{self.candidates:,}", ""
        yield "kept", f"{self.kept:,}", "green"
        yield "dropped", f"{sum(self.dropped.values()):,}", "yellow"
        yield from _by_reason(self.dropped)
        yield "failed", f"{sum(self.failed.values()):,}", "red"
        yield from _by_reason(self.failed)
        if self.repaired:
            yield "repaired on the way in", f"{sum(self.repaired.values()):,}", ""
            yield from _by_reason(self.repaired)
        if self.not_read:
            yield "not read as inputs", f"{sum(self.not_read.values()):,}", "yellow"
            yield from _by_reason(self.not_read)
        yield "shards", f"{self.shards:,}" + ("" if self.is_finished else " (unfinished)"), ""
        if self.already:
            yield "done by an earlier run", f"{self.already:,}", ""
        if self.inputs_per_second is not None:
            yield "throughput", f"{self.inputs_per_second:,.1f} / s", ""
        for score, quantiles in self.scores.items():
            yield f"{score} quantiles", "  ".join(f"{q:.0%}" for q in quantiles), ""
            yield "", "  ".join(f"{value:.3f}" for value in quantiles.values()), ""


def _by_reason(counts: dict[str, int]) -> Iterable[tuple[str, str, str]]:
    return ((f"    {reason}", f"{n:,}", "") for reason, n in counts.items())


def report_on(folder: RunFolder, seconds: float | None = None, already: int = 0) -> Report:
    """Report on the committed shards in `folder`. Leaves out score quantiles if an earlier run did all the work."""
    stats = list(folder.committed.values())
    inputs = sum(sum(one.inputs.values()) for one in stats)
    return Report(
        path=Path(folder.shown) if isinstance(folder.storage, LocalStorage) else folder.shown,
        inputs=inputs,
        failed_inputs=sum(one.inputs["failed"] for one in stats),
        candidates=sum(one.count for one in stats),
        kept=sum(one.kept for one in stats),
        dropped=_total(stats, "dropped"),
        failed=_total(stats, "failed"),
        repaired=_total(stats, "repaired"),
        shards=sum(one.kept > 0 for one in stats),
        is_finished=folder.is_finished,
        not_read=_not_read(folder) if folder.is_finished else {},
        scores=_score_quantiles(folder) if already < inputs else {},
        seconds=seconds,
        already=already,
    )


def _not_read(folder: RunFolder) -> dict[str, int]:
    try:
        found = json.loads(text_of(folder.storage, NOT_READ))
    except (OSError, ValueError):  # nothing was left, or an older version wrote the run
        return {}
    return {str(kind): int(number) for kind, number in found.items()} if isinstance(found, dict) else {}


def _total(stats: list[ShardStats], field_name: Literal["dropped", "failed", "repaired"]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in stats:
        total.update(getattr(one, field_name))
    return dict(total.most_common())


def _score_quantiles(folder: RunFolder) -> dict[str, dict[float, float]]:
    """Exact quantiles, from the score columns alone. Takes eight bytes of memory per sample."""
    import numpy as np

    from mmsynth.io.parquet import columns_of, names_in

    values: dict[str, list[Any]] = {}
    for index in (index for index, stats in sorted(folder.committed.items()) if stats.scores):
        with folder.storage.open(table_name(index)) as opened:
            names = [name for name in names_in(opened) if score_in(name) is not None]
            columns = columns_of(opened, names)
        for name in names:
            values.setdefault(name, []).append(columns[name].drop_null().to_numpy())
    quantiles = {}
    for name, parts in values.items():
        scored = np.concatenate(parts)
        scored = scored[np.isfinite(scored)]  # quantiles need finite values
        if len(scored):
            cuts = np.quantile(scored, QUANTILES)
            quantiles[str(score_in(name))] = {q: float(v) for q, v in zip(QUANTILES, cuts, strict=True)}
    return quantiles
