"""Decides which samples a selection keeps, by bounds, duplicates, a best share, balance or at random, and why not.

The steps run in this order, each on the samples that the one before it left: `where`, `dedup`, `near_duplicates`,
`top`, `per`, `sample`. Knows what the rows say; reads no image.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mmsynth.errors import RecipeError
from mmsynth.layout import score_column
from mmsynth.near_duplicates.hashes import BITS
from mmsynth.report import QUANTILES
from mmsynth.selection.near import BOUNDS, PLACE, near_duplicates
from mmsynth.selection.rows import KEPT, TABLE, Rows, quoted

_FETCHED = 10_000


class Decision(BaseModel):
    """The rules that pick samples out of those that runs have kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: str | None = Field(None, description="SQL over the rows: clip >= 0.26 and caption_words between 4 and 60")
    dedup: bool = Field(False, description="keep one of the images with the same bytes: the best by `by`, or the first")
    near_duplicates: dict[str, float] = Field(
        default_factory=dict,
        description="keep one of nearly equal images or captions: the best by `by`, or the first. Says what to compare "
        "and the bound, {hash: 6, embedding: 0.95, caption: 0.7}, or names alone for these bounds",
    )
    top: float | None = Field(None, ge=0, le=1, description="keep the best share by `by`, over all runs")
    by: str | None = Field(None, description="a column or an SQL expression; higher is better")
    per: str | None = Field(None, description="a column or an SQL expression whose values to balance")
    at_most: int | None = Field(None, ge=1, description="samples for each value of `per`: the best by `by`, or any")
    sample: int | None = Field(None, ge=1, description="keep so many, at random")
    seed: int = Field(0, description="seed of the random choices and of the order")

    @field_validator("near_duplicates", mode="before")
    @classmethod
    def _bounds_that_are_known(cls, given: Any) -> Any:
        """Names without bounds get their default bounds."""
        names = [given] if isinstance(given, str) else given
        if not isinstance(names, Iterable):
            return given
        if unknown := sorted(map(str, set(names) - BOUNDS.keys())):
            raise ValueError(f"cannot compare {', '.join(unknown)}; choose from {', '.join(BOUNDS)}")
        return names if isinstance(names, Mapping) else {name: BOUNDS[name] for name in names}

    @field_validator("near_duplicates")
    @classmethod
    def _bounds_that_can_be(cls, bounds: dict[str, float]) -> dict[str, float]:
        for name, bound in bounds.items():
            if name == "hash" and bound not in range(BITS // 2):
                raise ValueError(f"hash is a number of bits from 0 to {BITS // 2 - 1}, got {bound:g}")
            if name != "hash" and not 0 < bound <= 1:
                raise ValueError(f"{name} is a similarity above 0 and at most 1, got {bound:g}")
        return bounds

    @model_validator(mode="after")
    def _parts_belong_together(self) -> Self:
        if self.top is not None and self.by is None:
            raise ValueError("top needs by: the score that says which are best, such as by: clip")
        if self.by is not None and self.top is None and self.per is None and not (self.dedup or self.near_duplicates):
            raise ValueError(
                f"by: {self.by} alone decides nothing: it says which are best for top, per and at_most, dedup or "
                "near_duplicates; for a bound use where"
            )
        if (self.per is None) != (self.at_most is None):
            raise ValueError("per and at_most go together: at most so many for each value")
        return self

    def decide(self, rows: Rows) -> "Decided":
        """Apply the rules to `rows`. Raises RecipeError for unknown columns, and if no sample is left."""
        for what in ("where", "by", "per"):
            if expression := getattr(self, what):
                rows.check_columns(expression, what)
                rows.check_scores_in(expression)
        return _Deciding(self, rows).run()


@dataclass(frozen=True)
class Decided:
    """The samples that are left, in the order to write them, and why the rest was dropped."""

    rows: Rows
    #: the samples that the runs kept, before the decision
    candidates: int
    kept: int
    #: reason → how many samples it dropped
    dropped: dict[str, int]
    #: score → quantile → value, of the candidates and of the samples left; and how many samples lack the score
    quantiles: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    without_score: dict[str, int] = field(default_factory=dict)
    #: score → the runs in which no sample has it
    unscored_runs: dict[str, list[str]] = field(default_factory=dict)
    #: how many samples have no hash to compare, because their pictures are flat
    without_hash: int = 0

    def duplicates(self) -> list[tuple[str, str, str, str, str]]:
        """Who went as a duplicate, and who stays for it: `run`, `key`, `stays_run`, `stays`, `reason`."""
        columns, order = "run_number, key, stays_run_number, stays, reason", "run_number, key, shard, tar_start"
        sql = f"SELECT {columns} FROM duplicates ORDER BY {order}"
        found = self.rows.run(sql).fetchall()
        runs = self.rows.runs
        return [(runs[run], key, runs[by], stays, reason) for run, key, by, stays, reason in found]

    def in_order(self) -> Iterator[tuple[int, int, str, int, int]]:
        """The samples left, shuffled by the seed: run number, shard, key, start and stop in the tar."""
        found = self.rows.connection.cursor()
        found.execute(f"SELECT run_number, shard, key, tar_start, tar_stop FROM kept ORDER BY {_ANY}")
        while part := found.fetchmany(_FETCHED):
            yield from part


class _Deciding:
    """A decision in progress. The table `kept` holds the samples left so far."""

    def __init__(self, decision: Decision, rows: Rows) -> None:
        self._decision, self._rows = decision, rows
        self._dropped: dict[str, int] = {}
        self._left = 0
        self._without_hash = 0

    def run(self) -> Decided:
        decision = self._decision
        candidates = self._begin()
        if decision.dedup:
            self._drop("duplicate", _SAME_BYTES)
        if decision.near_duplicates:
            near, self._without_hash = near_duplicates(self._rows, decision.near_duplicates)
            self._rows.connection.register("near", near)
            self._drop("near duplicate", "SELECT * FROM near")
            self._rows.connection.unregister("near")
        if decision.top is not None:
            self._keep(f"without {decision.by}", "WHERE value IS NOT NULL")
            most = math.floor(decision.top * self._left + 0.5)
            self._keep("below top", f"QUALIFY row_number() OVER (ORDER BY {_BEST}) <= {most}")
        if decision.at_most is not None:
            number = f"row_number() OVER (PARTITION BY per ORDER BY {_BEST})"
            self._keep(f"over {decision.at_most} per {decision.per}", f"QUALIFY {number} <= {decision.at_most}")
        if decision.sample is not None:
            self._keep("not sampled", f"QUALIFY row_number() OVER (ORDER BY {_ANY}) <= {decision.sample}")
        if self._left == 0:
            raise RecipeError(self._nothing_left(candidates))
        scores = self._quantiles(), *self._without_score()
        return Decided(self._rows, candidates, self._left, self._dropped, *scores, self._without_hash)

    def _begin(self) -> int:
        """Fill the table `kept` with the samples that pass `where`. Returns how many there were before."""
        decision, run = self._decision, self._rows.run
        if "tar_start" not in self._rows.columns:
            raise RecipeError(
                "these shards were written by a version that did not note where samples lie: run it again"
            )
        candidates = self._left = self._count(TABLE, KEPT)
        by = f"CAST(({decision.by or 'NULL'}) AS DOUBLE)"
        scores = "".join(f", {quoted(score_column(name))}" for name in self._rows.scores)
        run(
            # each sample gets a random place that does not depend on the other samples
            f"CREATE OR REPLACE TABLE kept AS SELECT run_number, shard, key, tar_start, tar_stop, sha256, "
            f"md5_number_lower('{decision.seed}:' || run_number || ':' || key) AS place, "
            f"CASE WHEN isnan({by}) THEN NULL ELSE {by} END AS value, ({decision.per or 'NULL'}) AS per{scores} "
            f"FROM {TABLE} WHERE {KEPT} AND ({decision.where or 'true'})"
        )
        run(
            f"CREATE OR REPLACE TABLE duplicates ({', '.join(f'{one} BIGINT, stays_{one} BIGINT' for one in PLACE)}, "
            "key VARCHAR, stays VARCHAR, reason VARCHAR)"
        )
        self._note("where")
        return candidates

    def _keep(self, reason: str, clause: str) -> None:
        self._rows.run(f"CREATE OR REPLACE TABLE kept AS SELECT * FROM kept {clause}")
        self._note(reason)

    def _drop(self, reason: str, who: str) -> None:
        """Without the rows that `who` selects, with those that stay for them, and for all that went for them before."""
        run = self._rows.run
        run(f"CREATE OR REPLACE TABLE going AS {who}")
        same = " AND ".join(f"duplicates.stays_{one} = going.{one}" for one in PLACE)
        stays = ", ".join(f"stays_{one} = going.stays_{one}" for one in PLACE)
        run(f"UPDATE duplicates SET {stays}, stays = going.stays FROM going WHERE {same}")
        run(f"INSERT INTO duplicates BY NAME SELECT *, '{reason}' AS reason FROM going")
        self._keep(reason, f"ANTI JOIN going USING ({', '.join(PLACE)})")

    def _note(self, reason: str) -> None:
        left = self._count("kept")
        if left < self._left:
            self._dropped[reason] = self._left - left
        self._left = left

    def _count(self, table: str, condition: str = "true") -> int:
        return int(self._one(f"SELECT count(*) FROM {table} WHERE {condition}")[0])

    def _one(self, sql: str) -> tuple[Any, ...]:
        (row,) = self._rows.run(sql).fetchall()
        return tuple(row)

    def _nothing_left(self, candidates: int) -> str:
        if not candidates:
            runs = self._rows.runs
            return (
                f"{', '.join(runs)} kept no sample: there is nothing to select from. Why: mmsynth info {runs[0]}, or "
                f'mmsynth query {runs[0]} "select status, reason, count(*) from samples group by all"'
            )
        most = max(self._dropped, key=lambda reason: self._dropped[reason])
        said = f"nothing is left of {candidates:,} samples: '{most}' removed the most ({self._dropped[most]:,})"
        return f"{said}{self._worst_clause()}" if most == "where" else said

    def _worst_clause(self) -> str:
        """The clause of `where` that removes the most by itself, as text. Empty if there is only one clause."""
        clauses = self._rows.clauses(self._decision.where or "true")
        if len(clauses) == 1:
            return ""
        alone = {clause: self._count(TABLE, f"{KEPT} AND ({clause}) IS DISTINCT FROM true") for clause in clauses}
        worst = max(alone, key=lambda clause: alone[clause])
        return f", and of its clauses {worst} ({alone[worst]:,} by itself)"

    def _quantiles(self) -> dict[str, dict[str, dict[str, float]]]:
        """Score → before and after → quantile → value."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for name in self._rows.scores:
            column = quoted(score_column(name))
            tables = {"before": f"{TABLE} WHERE {KEPT}", "after": "kept"}
            for when, table in tables.items():
                # quantiles need finite values
                (values,) = self._one(
                    f"SELECT quantile_cont({column}, {list(QUANTILES)}) FILTER (WHERE isfinite({column})) FROM {table}"
                )
                if values is not None:
                    named = {f"{q:g}": value for q, value in zip(QUANTILES, values, strict=True)}
                    found.setdefault(name, {})[when] = named
        return found

    def _without_score(self) -> tuple[dict[str, int], dict[str, list[str]]]:
        """Score → samples without a number for it, which pass no bound on it, and score → runs without the score."""
        names = self._rows.scores
        counts = "".join(f", count({quoted(score_column(name))})" for name in names)
        by_run = self._rows.run(
            f"SELECT run_number, count(*){counts} FROM {TABLE} WHERE {KEPT} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        missing, unscored = {}, {}
        for place, name in enumerate(names, 2):
            if number := sum(row[1] - row[place] for row in by_run):
                missing[name] = number
            if runs := [self._rows.runs[row[0]] for row in by_run if not row[place]]:
                unscored[name] = runs
        return missing, unscored


#: the best first; of equals, any, but always the same
_ANY = "place, run_number, key, shard, tar_start"
_BEST = "value DESC NULLS LAST, key, run_number, shard, tar_start"
_SAME_BYTES = (
    f"SELECT {', '.join(PLACE)}, key, first(key) OVER best AS stays, "
    f"{', '.join(f'first({one}) OVER best AS stays_{one}' for one in PLACE)} "
    f"FROM kept WHERE sha256 IS NOT NULL WINDOW best AS (PARTITION BY sha256 ORDER BY {_BEST}) "
    "QUALIFY row_number() OVER best > 1"
)
