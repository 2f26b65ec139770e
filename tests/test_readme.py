"""README and docs: short, true of the tree, and their examples run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("mmsynth", "captioners", "renderers", "filters", "examples", "tests")
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


FENCED = [
    (language, code) for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
]


def fenced(language: str) -> list[str]:
    return [code for fenced_as, code in FENCED if fenced_as == language]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_architectures_tree_names_what_is_there() -> None:
    tree = ARCHITECTURE.partition("## Where things are")[2].partition("## ")[0]
    named = set(re.findall(r"[\w]+\.py\b|[\w]+(?=/)", tree))
    rooms = (ROOT / "mmsynth", ROOT / "mmsynth" / "engine")
    there = {
        path.name for room in rooms for path in room.iterdir() if not path.name.startswith((".", "__", "py.typed"))
    }
    assert there - named == set()
    assert {
        name
        for name in named
        if name not in FOLDERS and not any(list((ROOT / folder).rglob(name)) for folder in FOLDERS)
    } == set()


def test_the_offline_example_runs_as_it_stands(tmp_path: Path) -> None:
    (example,) = [code for code in fenced("python") if "mm.scenes(40" in code]
    code = "import mmsynth as mm\n" + example.replace("40", "12")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "nano" / "index.json").exists()


def test_the_stage_of_ones_own_runs_from_a_recipe_beside_it(tmp_path: Path) -> None:
    (stage,) = [code for code in fenced("python") if "class ShortSide" in code]
    (tmp_path / "short_side.py").write_text(stage)
    (tmp_path / "recipe.yaml").write_text(
        "source: {kind: scenes, n: 4}\nstages:\n  - render: scenes\n    size: 64\n"
        "  - filter: short_side:ShortSide\n    min_px: 65\nout: {path: out}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mmsynth", "run", "recipe.yaml", "--import", "short_side"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "side_below_min" in done.stdout


@pytest.mark.parametrize("code", [code for code in fenced("python") if ".write(" in code])
def test_python_examples_build_recipes(code: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"never read")
    (tmp_path / "prompts.txt").write_text("a red star\n")
    built = re.sub(r"\.write\(\s*\"[^\"]+\"\s*\)", ".recipe.to_yaml()", code.replace("import mmsynth as mm", ""))
    check = f"import mmsynth as mm\n{built}"
    subprocess.run([sys.executable, "-c", check], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize(
    "line", [line for block in fenced("") for line in block.splitlines() if line.startswith("mmsynth ")]
)
def test_commands_of_the_readme_have_only_options_that_exist(line: str) -> None:
    command = line.split()[1]
    options = re.findall(r"(--[a-z-]+)", line)
    done = subprocess.run(
        [sys.executable, "-m", "mmsynth", command, "--help"], check=True, capture_output=True, text=True
    )
    for option in options:
        assert option in done.stdout, f"{command} has no {option}"
