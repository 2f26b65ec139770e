"""The command line: commands, one-line errors, exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import mmsynth as mm
from mmsynth.cli import run
from mmsynth.testing import photo_samples
from tests.engine.run_files import members, records, rows, shard_digests


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of six pictures with captions."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for sample in photo_samples(6):
        assert sample.image is not None
        (folder / f"{sample.key}.png").write_bytes(sample.image.data)
        (folder / f"{sample.key}.txt").write_text(sample.caption or "")
    return folder


def test_filter_reads_a_folder_and_writes_shards(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["filter", str(photos), str(tmp_path / "out"), "--filter", "caption_length", "--set", "max_chars=26"]
    assert run(command) == 0
    assert "chars_above_max" in capsys.readouterr().out
    assert {row["status"] for row in rows(tmp_path / "out")} == {"success", "dropped"}


def test_render_and_caption_take_scenes_as_a_source(tmp_path: Path) -> None:
    assert run(["render", "scenes:5", str(tmp_path / "drawn"), "--image-format", "png", "--set", "size=48"]) == 0
    assert all("png" in one for one in members(tmp_path / "drawn").values())
    assert run(["caption", str(tmp_path / "drawn"), str(tmp_path / "told"), "--captioner", "facts", "--seed", "3"]) == 0
    assert len(records(tmp_path / "told")) == 5


@pytest.mark.parametrize(
    "source", ["folder:{photos}", "concat:[{photos}, {photos}]", "mix:{{{photos}: 0.5}}", "prompts:{prompts}"]
)
def test_any_source_is_named_with_a_colon(source: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("one star\ntwo stars\n")
    named = source.format(photos=photos, prompts=tmp_path / "prompts.txt")
    command = ["filter", named, str(tmp_path / "out"), "--filter", "caption_length"]
    assert run(command) == 0
    assert len(rows(tmp_path / "out")) == {"concat": 12, "prompts": 2}.get(source.partition(":")[0], 6)


_FILTER = ["--filter", "caption_length", "--set", "max_chars=26", "--samples-per-shard", "4", "--limit", "5"]
_SCENES = ["--seed", "3", "--source-set", "max_groups=2", "--max-failures", "0.5", "--threads", "2", "--workers", "1"]


@pytest.mark.parametrize(
    "command",
    [
        ["filter", "{photos}", "OUT", *_FILTER],
        ["render", "scenes:5", "OUT", "--image-format", "png", "--quality", "80", "--set", "size=48", *_SCENES],
        ["caption", "{scored}", "OUT", "--captioner", "facts", "--seed", "4", "--device", "cpu"],
        ["ask", "{scored}", "OUT", "-q", "How many?", "--limit", "1"],
        ["select", "{scored}", "OUT", "--where", "short_side >= 48", "--seed", "2", "--sample", "3", "--workers", "1"],
        ["run", "{scored}/run.json", "--out", "OUT", "--limit", "3"],
    ],
    ids=lambda command: command[0],
)
def test_yaml_prints_the_recipe_that_a_command_is(
    command: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mm.scenes(5).render("scenes", size=48).filter("image_size").write(tmp_path / "scored")
    filled = [part.format(photos=photos, scored=tmp_path / "scored") for part in command]

    def at(out: str) -> list[str]:
        return [str(tmp_path / out) if part == "OUT" else part for part in filled]

    capsys.readouterr()
    assert run([*at("recipe"), "--yaml"]) == 0
    printed, live = capsys.readouterr()
    assert live == ""
    assert not (tmp_path / "recipe").exists()
    (tmp_path / "recipe.yaml").write_text(printed)
    assert run(["run", str(tmp_path / "recipe.yaml")]) == 0
    assert run(at("command")) == 0
    assert shard_digests(tmp_path / "recipe") == shard_digests(tmp_path / "command")
    assert rows(tmp_path / "command")
    # and it is the same run: the command finds nothing left to do
    assert run(at("recipe")) == 0


def test_yaml_says_what_a_recipe_with_code_of_ones_own_needs(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["caption", str(photos), "out", "--captioner", "mmsynth.testing:EchoCaptioner", "--yaml"]
    assert run(command) == 0
    told = capsys.readouterr().out
    assert told.startswith("# mmsynth run RECIPE --import mmsynth.testing\n")
    assert yaml.safe_load(told)["stages"] == [{"caption": "mmsynth.testing:EchoCaptioner"}]


def test_yaml_of_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", str(tmp_path / "demo"), "--n", "20", "--yaml"]) == 0
    told = capsys.readouterr().out
    assert not (tmp_path / "demo").exists()
    recipe = tmp_path / "demo.yaml"
    recipe.write_text(told)
    needed = told.partition("\n")[0].removeprefix("# mmsynth run RECIPE ").split()
    assert run(["run", str(recipe), *needed, "--yaml"]) == 0
    assert capsys.readouterr().out == told


_SHARED = ("--set", "--source-set", "--limit", "--workers", "--device", "--threads", "--max-failures", "--yaml")


@pytest.mark.parametrize("command", ["caption", "ask", "render", "filter"])
def test_commands_share_their_options_and_list_their_own_first(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "--help"]) == 0
    told = capsys.readouterr().out
    places = [told.index(f"{option} ") for option in (*_SHARED, "--samples-per-shard", "--seed")]
    assert told.index("--model ") < min(places)


def test_brackets_in_names_are_not_read_as_markup(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = "o[/b] [red]"
    assert run(["filter", str(photos), out, "--filter", "image_size"]) == 0
    assert out in capsys.readouterr().out
    how = ["--top", "0.5", "--by", "length(split(source, '[/]')[1])", "--dry-run"]
    assert run(["select", out, "s", *how]) == 0
    assert run(["info", out]) == 0
    assert out in capsys.readouterr().out
    assert run(["query", out, "select '[/b]' as \"[/i]\""]) == 0
    told = capsys.readouterr().out
    assert "[/b]" in told
    assert "[/i]" in told


def test_run_with_a_limit_and_then_whole(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"source: {{kind: scenes, n: 9}}\nstages: [{{render: scenes}}]\nout: {{path: {tmp_path / 'out'}}}\n"
    )
    assert run(["run", str(recipe), "--limit", "2"]) == 0
    assert len(rows(tmp_path / "out")) == 2
    assert run(["run", str(recipe)]) == 0
    assert len(rows(tmp_path / "out")) == 9


def test_info_tells_of_finished_and_unfinished_runs(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["filter", str(photos), str(out), "--filter", "image_size", "--samples-per-shard", "2"]) == 0
    capsys.readouterr()
    assert run(["info", str(out)]) == 0
    told = capsys.readouterr().out
    assert "filter: image_size" in told
    assert "unfinished" not in told
    for name in ("index.json", "00002_stats.json"):
        (out / name).unlink()
    assert run(["info", str(out)]) == 0
    assert "2 (unfinished)" in capsys.readouterr().out


def test_plugins_lists_every_one_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins"]) == 0
    listed = capsys.readouterr().out
    for name in ("folder", "webdataset", "scenes", "vlm", "ask", "facts", "diffusion", "clip", "caption_length"):
        assert name in listed
    for about in ("grouping", "repeat", "Make `times` candidates", "chat_engine", "transformers"):
        assert about in listed


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["run", "none.yaml"], 2, "cannot read the recipe none.yaml"),
        (["filter", "nowhere/", "out"], 5, "no such file or folder: nowhere/"),
        (["filter", "{photos}", "{out}", "--filter", "clipp"], 3, "Did you mean 'clip'?"),
        (["filter", "{photos}", "{out}", "--set", "minn=1"], 2, "no field 'minn'. Did you mean 'min'?"),
        (["filter", "{photos}", "{out}", "--set", "min"], 2, "--set takes name=value"),
        (["filter", "{photos}", "{out}", "--min", "0.5", "--max", "0.1"], 2, "max must be at least min"),
        (["filter", "{photos}", "{out}", "--model", "nobody/has-this"], 4, "has-this"),
        (["caption", "{photos}", "{out}", "--model", "nobody/has-this"], 4, "model 'nobody/has-this' could not be found or downloaded"),
        (["render", "scenes:3", "{out}", "--renderer", "diffusion", "--model", "nobody/has-this"], 4, "could not be found or downloaded"),
        (["info", "{photos}"], 6, "holds no mmsynth run"),
        (["filter", "{photos}", "{photos}", "--filter", "image_size"], 6, "is not empty"),
    ],
)  # fmt: skip
def test_errors_are_one_line_with_an_exit_code_before_any_work(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], code: int, message: str
) -> None:
    filled = [part.format(photos=photos, out=tmp_path / "out") for part in command]
    assert run(filled) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert len([line for line in said if line.startswith("error:")]) == 1
    assert "Traceback" not in "\n".join(said)
    assert not list((tmp_path / "out").glob("*.tar"))


def test_a_run_in_which_everything_fails_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no image at all")
    assert run(["filter", str(tmp_path / "photos"), str(tmp_path / "out"), "--filter", "image_size"]) == 7
    assert "every sample failed: image_unreadable" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mmsynth", "run", str(tmp_path / "none.yaml")]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False)
    assert plain.returncode == 2
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr


def test_a_finished_command_ends_whatever_threads_still_run(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "lingers.py").write_text(
        "import atexit, sys, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "atexit.register(print, 'cleaned up', file=sys.stderr)\n"
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"source: {{kind: folder, path: {photos}}}\nstages: [{{filter: image_size}}]\n")
    done = subprocess.run(
        [sys.executable, "-m", "mmsynth", "run", recipe, "--import", "lingers", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )
    assert done.returncode == 0
    assert "kept" in done.stdout
    assert "cleaned up" in done.stderr


def test_another_recipe_in_the_same_folder_says_what_differs(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["filter", str(photos), str(tmp_path / "out"), "--filter", "caption_length", "--set"]
    assert run([*command, "min_words=1"]) == 0
    assert run([*command, "min_words=2"]) == 6
    assert "stages[0].min_words (1 there, 2 here)" in capsys.readouterr().err


def test_run_json_is_a_recipe(photos: Path, tmp_path: Path) -> None:
    assert run(["filter", str(photos), str(tmp_path / "a"), "--filter", "image_size"]) == 0
    assert run(["run", str(tmp_path / "a" / "run.json"), "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a" / "00000.tar").read_bytes() == (tmp_path / "b" / "00000.tar").read_bytes()
    assert json.loads((tmp_path / "b" / "run.json").read_text())["seed"] == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_says_one_line_and_exits_with_130(tmp_path: Path, workers: str) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "mmsynth", "render", "scenes:50000", str(out), "--samples-per-shard", "50"]
    process = subprocess.Popen(
        [*command, "--workers", workers],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # a shell starts what runs in its background with Ctrl-C ignored; these tests may run there
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("*_stats.json")):
        assert time.monotonic() < deadline, "no shard was committed"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert said.strip().splitlines()[-1].startswith("stopped; what is committed is kept")
    assert "Traceback" not in said
    assert "Exception ignored" not in said


@pytest.mark.parametrize(
    "command", [["caption"], ["run", "--nonsense"], ["render", "scenes:3", "x", "--quality", "high"]]
)
def test_a_wrong_command_line_is_exit_code_2(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 2
    said = capsys.readouterr().err
    assert "Usage" in said
    assert "bug" not in said
