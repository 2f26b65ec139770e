"""The rows of one or more runs as a DuckDB table called `samples`, for `select` and `query`.

It has the columns of the parquet files, and `run` (the folder), `shard` (the number), `caption_words` and
`caption_chars`. Each score also gets a column of its own name (`clip` for `score_clip`), unless another column has that
name. NaN scores become NULL. Knows SQL and parquet; does not know what is decided.
"""

import difflib
import json
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsynth import registry
from mmsynth.blocks import ON_DISK, all_made_by
from mmsynth.errors import PluginError, RecipeError, SourceError
from mmsynth.io.storage import storage_at
from mmsynth.layout import score_column, score_in, table_name
from mmsynth.shards.folder import RunFolder

if TYPE_CHECKING:
    import duckdb

TABLE = "samples"
#: the condition that a row's sample was kept
KEPT = f"status = '{ON_DISK['kept']}'"
_DERIVED = ("caption_words", "caption_chars")
_SELECT = re.compile(r"(?:[\s(]|--[^\n]*\n|/\*.*?\*/)*(select|with|from|values)\b", re.IGNORECASE | re.DOTALL)
_MEMORY = "1500MB"
_UNKNOWN_COLUMN = re.compile(
    r'[Rr]eferenced column "([^"]+)" (?:was )?not found|does not have a column named "([^"]+)"'
)
#: what a column may be called
_NAME = re.compile(r"[A-Za-z_]\w*")
#: a commit or a digest; what is shorter may be anybody's
_A_REVISION = 12
_UNKNOWN_TABLE = re.compile(r'[Rr]eferenced table "([^"]+)" not found|Table with name "?([^"\s]+?)"? does not exist')


class Rows:
    """A connection to the rows of `runs`. Raises SourceError for a folder without a run or without finished shards."""

    def __init__(self, runs: Sequence[str | Path]) -> None:
        import duckdb

        #: the storage of each run, in the order of `run_number`
        self.files = [storage_at(run) for run in runs]
        #: the names of the runs in messages and in the column `run`
        self.runs = [files.shown for files in self.files]
        self.connection = duckdb.connect()
        self.connection.execute("SET preserve_insertion_order = false")
        # larger results spill to disk, in a folder that is removed with this object
        self._spill = tempfile.TemporaryDirectory(prefix="mmsynth-select-")
        self.connection.execute(f"SET memory_limit = '{_MEMORY}'")
        self.connection.execute(f"SET temp_directory = {_text(self._spill.name)}")
        self._folders: list[Path] = []
        #: of each run: column of a score, or `name.npy` of an array → the models that gave it, where that is known
        self.made_by: list[dict[str, tuple[str, ...]]] = []
        parts = [self._part(number, RunFolder(run)) for number, run in enumerate(runs)]
        self.connection.execute(f"CREATE VIEW stored AS {' UNION ALL BY NAME '.join(parts)}")
        stored = self.connection.execute("DESCRIBE stored").fetchall()
        #: the scores' names, without their prefix
        self.scores = [score for name, *_ in stored if (score := score_in(name)) is not None]
        self.connection.execute(self._view({name for name, *_ in stored}))
        #: every column that a query may name, in order
        self.columns = [name for name, *_ in self.connection.execute(f"DESCRIBE {TABLE}").fetchall()]
        self._lock()

    def _part(self, number: int, run: RunFolder) -> str:
        """The select of one run's rows: committed shards only."""
        run.description()  # raises where there is no run
        self.made_by.append(all_made_by(stats.made_by for stats in run.committed.values()))
        names = [table_name(index) for index in sorted(run.committed)]
        if not names:
            raise SourceError(f"{run.shown} has no finished shard yet: nothing to decide from")
        try:
            folder = self._place(number, self.files[number].here(names).absolute())
        except OSError as error:
            raise SourceError(f"the rows of {run.shown} cannot be read: {error}") from error
        self._folders.append(folder)
        return (
            f"SELECT *, {number} AS run_number, {_text(run.shown)} AS run, "
            r"CAST(regexp_extract(filename, '(\d+)\.parquet$', 1) AS INTEGER) AS shard "
            f"FROM read_parquet([{', '.join(_text(str(folder / name)) for name in names)}], filename = true, "
            # otherwise a folder called score_clip=9 would add that column to every row
            "union_by_name = true, hive_partitioning = false)"
        )

    def _place(self, number: int, folder: Path) -> Path:
        """A path at which DuckDB finds the run: a link if it would take the folder's name for a pattern."""
        if not set(str(folder)) & set("*?["):
            return folder
        link = Path(self._spill.name) / f"run-{number}"
        link.symlink_to(folder, target_is_directory=True)
        return link

    def _view(self, stored: set[str]) -> str:
        # SQL ignores case: a score called Width would hide the picture's width
        taken = {name.lower() for name in (*stored, *_DERIVED)}
        numbers = "".join(
            f"CASE WHEN isnan({column}) THEN NULL ELSE {column} END AS {alias}, "
            for name in self.scores
            for column in [quoted(score_column(name))]
            for alias in (column, quoted(name))
            if alias == column or name.lower() not in taken
        )
        left_out = ["filename", *map(score_column, self.scores)]
        words = r"len(string_split_regex(trim(caption), '\s+'))"
        return (
            f"CREATE VIEW {TABLE} AS SELECT * EXCLUDE ({', '.join(map(quoted, left_out))}), {numbers}"
            f"CASE WHEN caption IS NULL OR trim(caption) = '' THEN 0 ELSE {words} END AS caption_words, "
            "length(caption) AS caption_chars FROM stored"
        )

    def _lock(self) -> None:
        """Let later queries read the runs and nothing else: no other file, no network, no setting."""
        folders = ", ".join(_text(str(folder)) for folder in self._folders)
        self.connection.execute(f"SET allowed_directories = [{folders}]")
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")

    def check_one_model(self, name: str, what: str) -> None:
        """Raise RecipeError where models that differ gave the numbers called `name`; messages call them `what`."""
        by_run = zip(self.runs, self.made_by, strict=True)
        known = [(run, made_by[name]) for run, made_by in by_run if name in made_by]
        if len({_revision(model) for _, models in known for model in models}) < 2:
            return
        said = "; ".join(f"{' and '.join(models)} in {run}" for run, models in known)
        raise RecipeError(
            f"{what} cannot be compared, since different models gave it: {said}. Let one model judge all of them "
            "(mmsynth filter), or decide for each run by itself"
        )

    def check_scores_in(self, expression: str) -> None:
        """The same for every score that an expression names, unless it tells the runs apart."""
        words = set(re.findall(r"\w+", expression))
        if not words & {"run", "run_number"}:
            for score in self.scores:
                if words & {score, score_column(score)}:
                    self.check_one_model(score_column(score), f"the score {score}")

    # -- asking ------------------------------------------------------------------------------------------------------

    def query(self, sql: str) -> "duckdb.DuckDBPyConnection":
        """Run one SELECT over `samples`. Raises RecipeError for anything else, and for unknown columns."""
        import duckdb

        try:
            statements = self.connection.extract_statements(sql)
        except duckdb.Error as error:
            raise RecipeError(f"this is not SQL: {_first_line(error)}") from error
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT or not _SELECT.match(sql):
            raise RecipeError(f"a query is one SELECT over the table {TABLE}, such as: SELECT reason, count(*) …")
        return self.run(sql)

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> "duckdb.DuckDBPyConnection":
        """Like `query`, for SQL of our own. Errors say what the user can do."""
        import duckdb

        try:
            return self.connection.execute(sql, list(parameters))
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            raise RecipeError(self._unknown_name(error, sql)) from error
        except duckdb.Error as error:
            raise RecipeError(f"the query cannot be run: {_first_line(error)}") from error

    def check_columns(self, expression: str, what: str) -> None:
        """Raise RecipeError if `expression` (of `what`: where, by, per) is not an expression over the columns."""
        import duckdb

        # with and without the brackets, or "true) or (true" would pass
        for written in (f"SELECT ({expression}) FROM {TABLE}", f"SELECT {expression} FROM {TABLE}"):
            try:
                statements = self.connection.extract_statements(written)
            except duckdb.Error as error:
                raise RecipeError(f"{what}: '{expression}' is not an SQL expression: {_first_line(error)}") from error
            if len(statements) != 1:
                raise RecipeError(f"{what}: '{expression}' must be one expression")
        self.run(f"SELECT ({expression}) FROM {TABLE} LIMIT 0")

    def clauses(self, expression: str) -> list[str]:
        """The parts of an expression that are joined by AND, as DuckDB writes them."""
        selecting = f"SELECT 1 FROM {TABLE} WHERE "
        parsed = json.loads(self._one_value("SELECT json_serialize_sql(?)", f"{selecting}({expression})"))
        query = parsed["statements"][0]["node"]
        found = []
        for clause in _joined_by_and(query["where_clause"]):
            query["where_clause"] = clause
            found.append(self._one_value("SELECT json_deserialize_sql(?)", json.dumps(parsed)).removeprefix(selecting))
        return found

    def _one_value(self, sql: str, parameter: str) -> str:
        ((value,),) = self.run(sql, [parameter]).fetchall()
        return str(value)

    def _unknown_name(self, error: Exception, sql: str) -> str:
        if table := _UNKNOWN_TABLE.search(str(error)):
            return f"there is no table '{table[1] or table[2]}': there is {TABLE}, with {', '.join(self.columns)}"
        match = _UNKNOWN_COLUMN.search(str(error))
        if match is None:
            return f"the query cannot be run: {_first_line(error)}"
        name = match[1] or match[2]
        as_text = f" (double quotes name a column; text is written {_text(name)})" if quoted(name) in sql else ""
        if as_text and not _NAME.fullmatch(name):
            return f"there is no column {quoted(name)}{as_text}"
        there = f"there is no column '{name}'{as_text} in {', '.join(self.runs)}: there are {', '.join(self.columns)}"
        score = score_in(name) or name
        if _filter_that_scores(score) is None and difflib.get_close_matches(name, self.columns, 1):
            return there
        how = how_to_score(self.runs[0], score)
        return f"{there}. {how}" if how else there


def how_to_score(run: str, score: str) -> str:
    """A sentence with the command that gives a run's samples this score. Empty if no filter gives it."""
    command = f"mmsynth filter {run} OUT --filter"
    if maker := _filter_that_scores(score):
        return f"The filter '{maker}' gives this score: {command} {maker}"
    named = _filters_with_a_name()
    if not named:
        return ""
    answer = f"Each of the filters {', '.join(named)} gives a score of any name"
    return f"{answer}: {command} {named[-1]} --set name={score} and its model"


def how_to_give_array(run: str, array: str) -> str:
    """A sentence with the command that gives a run's samples this array; empty if no installed filter can."""
    for name in registry.entry_points("filter"):
        with suppress(PluginError):
            settings = registry.load("filter", name).can_give_arrays.get(array)
            if settings is not None:
                return f"The filter '{name}' writes it: mmsynth filter {run} OUT --filter {name} {settings}".strip()
    return ""


def _filter_that_scores(score: str) -> str | None:
    """The installed filter that, with its defaults, gives a score of this name."""
    for name in registry.entry_points("filter"):
        try:
            if score in registry.load("filter", name)().score_names():
                return name
        except (PluginError, ValueError):  # an extra is missing, or a parameter has no default
            continue
    return None


def _filters_with_a_name() -> list[str]:
    """The installed filters that let the user name their score."""
    found = []
    for name in registry.entry_points("filter"):
        with suppress(PluginError):
            if "name" in registry.load("filter", name).model_fields:
                found.append(name)
    return sorted(found)


def _joined_by_and(node: dict[str, Any]) -> list[dict[str, Any]]:
    if node["type"] != "CONJUNCTION_AND":
        return [node]
    return [part for child in node["children"] for part in _joined_by_and(child)]


def _revision(model: str) -> str:
    """What tells models apart: a revision, whatever the folder or name that it was loaded from."""
    revision = model.rpartition(" at ")[2]
    return revision if len(revision) >= _A_REVISION else model


def quoted(name: str) -> str:
    """A column's name, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
