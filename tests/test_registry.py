"""Plugins: found by entry point, strangers exactly as built-ins, with a real package installed for the test."""

import subprocess
import sys
from pathlib import Path

import pytest

import mmsynth
from mmsynth import registry

_STAGE = '''
import mmsynth as mm


class ShortSide(mm.Filter):
    """Drop samples whose shorter side is below min_px."""

    min_px: int = 256

    def process(self, batch):
        short = [min(s.image.width, s.image.height) < self.min_px for s in batch]
        return [mm.Dropped("side_below_min") if is_short else s for s, is_short in zip(batch, short, strict=True)]
'''


def install(folder: Path, name: str, entries: dict[str, str], code: str) -> None:
    """A distribution as pip leaves it in site-packages: a module and its metadata."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[mmsynth.filters]\n{entry} = {target}" for entry, target in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def run(folder: Path, code: str) -> "subprocess.CompletedProcess[str]":
    root = Path(mmsynth.__file__).parents[1]
    env_path = f"{folder}:{root}"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": env_path, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installed_strangers_stage_runs_like_a_built_in(tmp_path: Path) -> None:
    install(tmp_path, "side_plugin", {"short_side": "side_plugin:ShortSide"}, _STAGE)
    done = run(
        tmp_path,
        "import mmsynth as mm\n"
        "r = mm.scenes(4).render('scenes', size=64).filter('short_side', min_px=65).take(4)\n"
        "print({d.reason for d in r}, mm.scenes(1).filter('short_side').recipe.to_dict()['stages'])",
    )
    assert done.stdout == "{'side_below_min'} [{'filter': 'short_side'}]\n", done.stderr


def test_two_plugins_with_one_name_is_an_error_that_names_both(tmp_path: Path) -> None:
    install(tmp_path, "first_plugin", {"same": "first_plugin:ShortSide"}, _STAGE)
    install(tmp_path, "second_plugin", {"same": "second_plugin:ShortSide"}, _STAGE)
    done = run(tmp_path, "import mmsynth as mm; mm.scenes(1).filter('same')")
    assert "two filters are named 'same': first_plugin:ShortSide (from first_plugin)" in done.stderr
    assert "second_plugin:ShortSide (from second_plugin)" in done.stderr


def test_a_plugin_whose_import_fails_says_what_to_install(tmp_path: Path) -> None:
    install(tmp_path, "needy", {"needy": "needy:ShortSide"}, "import a_module_nobody_has\n" + _STAGE)
    done = run(tmp_path, "import mmsynth as mm; mm.scenes(1).filter('needy')")
    assert "the filter 'needy' needs 'a_module_nobody_has', which is not installed" in done.stderr


@pytest.mark.parametrize("word", list(registry.GROUPS))
def test_every_registered_plugin_can_be_loaded_and_is_documented(word: str) -> None:
    for name in registry.entry_points(word):
        plugin = registry.load(word, name)
        assert plugin.__doc__, name
        assert registry.name_of(word, plugin) == name
