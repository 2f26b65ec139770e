"""query: any SELECT over a run's rows, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmsynth.cli import run
from mmsynth.errors import RecipeError
from mmsynth.selection import Rows


def test_a_query_gives_a_table_csv_or_json(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "select key, clip from samples where clip > 0.27 order by key"
    assert run(["query", str(pairs), sql]) == 0
    assert "k028" in capsys.readouterr().out
    assert run(["query", str(pairs), sql, "--format", "csv"]) == 0
    assert capsys.readouterr().out == "key,clip\nk028,0.28\nk029,0.29\n"
    assert run(["query", str(pairs), sql, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0]) == {"key": "k028", "clip": 0.28}


def test_a_query_may_begin_with_a_comment(pairs: Path) -> None:
    for sql in ("-- how many?\nselect count(*) from samples", " /* all; of them */ (select count(*) from samples)"):
        assert Rows([pairs]).query(sql).fetchone() == (30,)


def test_json_of_nested_values_and_columns_of_one_name(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nested = "['nan'::double, 1] l, {'a': 'inf'::double} s, map {date '2026-01-02': 1} m"
    sql = f"select {nested}, 1 n, 2 n from samples limit 1"
    assert run(["query", str(pairs), sql, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert told == {"l": [None, 1.0], "s": {"a": None}, "m": {"2026-01-02": 1}, "n": 1, "n_1": 2}


def test_json_has_no_nan(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", str(pairs), "select 'nan'::double as x from samples limit 1", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"x": None}


def test_text_in_brackets_is_shown_as_it_is(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", str(pairs), "select '[INST] hi [/INST]' as caption, '[bold]x[/bold]' as b"]) == 0
    told = capsys.readouterr().out
    assert "[INST] hi [/INST]" in told
    assert "[bold]x[/bold]" in told


@pytest.mark.parametrize(
    "sql",
    [
        "drop table samples",
        "select 1; select 2",
        "selec",
        "copy samples to 'x.csv'",
        "select * from 'other.parquet'",
        "attach 'x.db'",
        "set memory_limit = '1GB'",
    ],
)
def test_a_query_is_one_select_of_the_runs_rows(pairs: Path, sql: str) -> None:
    with pytest.raises(RecipeError):
        Rows([pairs]).query(sql)


@pytest.mark.parametrize("sql", ["describe samples", "show tables", "summarize samples"])
def test_what_is_no_select_is_refused(pairs: Path, sql: str) -> None:
    with pytest.raises(RecipeError, match="one SELECT"):
        Rows([pairs]).query(sql)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select samples.foo from samples", "no column 'foo' .* there are key, parent, status"),
        ("select s.foo from samples s", "no column 'foo' .* there are key, parent, status"),
        ("select foo.clip from samples", "no table 'foo': there is samples, with key, parent, status"),
        ("select * from sample", "no table 'sample': there is samples, with key, parent, status"),
        ("select samples.words from samples", "The filter 'caption_length' gives this score"),
    ],
)
def test_an_unknown_name_gets_the_names_there_are(pairs: Path, sql: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Rows([pairs]).query(sql)


def test_values_are_whole_and_a_wide_answer_is_records(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "word " * 60 + "end"
    assert run(["query", str(pairs), f"select key, '{text}' as said from samples limit 2"]) == 0
    printed = capsys.readouterr().out
    assert f"said  {text}\n" in printed
    assert printed.count("-- ") == 2


def test_decimals_are_numbers_and_no_column_is_lost(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", str(pairs), "select 100.0 * 3 as a, [0.5] as a, 1 as a_1", "--format", "json"]) == 0
    assert capsys.readouterr().out == '{"a": 300.0, "a_2": [0.5], "a_1": 1}\n'


def test_text_in_double_quotes_is_told(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", str(pairs), 'select * from samples where key = "3"']) == 2
    assert "there is no column \"3\" (double quotes name a column; text is written '3')" in capsys.readouterr().err


@pytest.mark.parametrize("stdout", ["", ">/dev/full", ">&-", "| true"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_selection_is_written_whatever_stdout_is(pairs: Path, stdout: str, encoding: str, tmp_path: Path) -> None:
    command = f"set -o pipefail; {sys.executable} -m mmsynth select {pairs} {tmp_path}/out --sample 3 {stdout}"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Rows([tmp_path / "out"]).query("select count(*) from samples").fetchone() == (3,)


def test_an_answer_that_cannot_be_printed_whole_is_an_error(pairs: Path) -> None:
    command = f"{sys.executable} -m mmsynth query {pairs} 'select key from samples' --format json >/dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, text=True)
    assert done.returncode == 6
    assert done.stderr.startswith("error: the answer cannot be printed")
