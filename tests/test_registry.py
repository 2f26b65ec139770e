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


_GROUPING = '''
from typing import ClassVar

import mmsynth as mm


class Crops(mm.Grouping):
    """Make `times` copies of each sample, each with `text` for a caption."""

    main: ClassVar[str] = "times"
    opens_groups: ClassVar[bool] = True

    times: int
    text: str = "a crop"

    def process(self, batch):
        return [[s.with_caption(self.text)] * self.times for s in batch]


class Alone(mm.Grouping):
    """Keeps the first of each group; takes no value."""

    def process_group(self, samples):
        return [s if i == 0 else mm.Dropped("not_first") for i, s in enumerate(samples)]
'''


def install(folder: Path, name: str, entries: dict[str, str], code: str, group: str = "filters") -> None:
    """A distribution as pip leaves it in site-packages: a module and its metadata."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[mmsynth.{group}]", *(f"{entry} = {target}" for entry, target in entries.items())]
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


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A stranger's groupings, installed."""
    entries = {"crops": "crops_plugin:Crops", "alone": "crops_plugin:Alone"}
    install(tmp_path, "crops_plugin", entries, _GROUPING, group="groupings")
    return tmp_path


def test_a_strangers_grouping_is_a_method_and_a_word_of_recipes(crops: Path) -> None:
    done = run(
        crops,
        "import mmsynth as mm\n"
        "pipeline = mm.scenes(1).crops(3, text='part').alone()\n"
        "print([getattr(r, 'caption', None) or r.reason for r in pipeline])\n"
        "print(pipeline.recipe.to_dict()['stages'], 'crops' in dir(pipeline))\n"
        "import yaml; again = mm.Recipe.from_dict(yaml.safe_load(pipeline.recipe.to_yaml()))\n"
        "print(again == pipeline.recipe, [stage.step_name for stage in again.bound_stages()])\n"
        "spec = [{'crops': 3, 'text': 'part'}, {'alone': None}]\n"
        "print(mm.Recipe.from_dict({'source': {'kind': 'scenes', 'n': 1}, 'stages': spec}) == again)",
    )
    assert done.stdout.splitlines() == [
        "['part', 'not_first', 'not_first']",
        "[{'crops': 3, 'text': 'part'}, {'alone': None}] True",
        "True ['crops', 'alone']",
        "True",
    ], done.stderr


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("{'cropz': 3}", "got ['cropz']. Did you mean 'crops'? (recipe, stages[0])"),
        ("{'crops': 3, 'texts': 'x'}", "no field 'texts'. Did you mean 'text'? Fields: "),
        ("{'crops': 'many'}", "times: input should be a valid integer"),
        ("{'crops': 3, 'times': 4}", "crops: times is the value beside the name, and cannot be given twice"),
        ("{'alone': 3}", "alone takes no value beside its name, got 3"),
        ("{'crops': None}", "times is required (recipe, stages[0], crops)"),
        ("{'crops': 3, 'repeat': 2}", "got ['crops', 'repeat'] (recipe, stages[0])"),
    ],
)
def test_a_strangers_grouping_is_checked_as_ours_are(crops: Path, stage: str, message: str) -> None:
    spec = f"{{'source': {{'kind': 'scenes', 'n': 1}}, 'stages': [{stage}]}}"
    done = run(crops, f"import mmsynth as mm; mm.Recipe.from_dict({spec})")
    said = done.stderr.strip().splitlines()[-1]
    assert "RecipeError" in said
    assert message in said


def test_plugins_are_listed_with_strangers_groupings(crops: Path) -> None:
    done = run(crops, "from mmsynth.cli import run; run(['plugins'])")
    told = " ".join(done.stdout.split())
    assert "crops Make `times` copies of each sample" in told
    assert "crops_plugin" in told


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
