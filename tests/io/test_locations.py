"""`~` is the home folder and file:// a path, wherever a location is given."""

from pathlib import Path

import pytest

import mmsynth as mm
from mmsynth.cli import run
from mmsynth.io.locations import is_remote, local, shown
from mmsynth.testing import photo_samples
from tests.engine.run_files import members


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a picture in it, from somewhere else."""
    (tmp_path / "home/pictures").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (sample,) = photo_samples(1)
    assert sample.image is not None
    (tmp_path / "home/pictures/a.png").write_bytes(sample.image.data)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


@pytest.mark.parametrize("start", ["~", "file://~", "file://{home}"])
def test_inputs_and_outputs_may_be_in_the_home_folder(home: Path, start: str) -> None:
    start = start.format(home=home)
    assert run(["filter", f"{start}/pictures", f"{start}/one", "--filter", "image_size"]) == 0
    assert run(["filter", f"{start}/one", f"{start}/two", "--filter", "caption_length"]) == 0
    assert run(["filter", f"{start}/one/{{00000..00000}}.tar", f"{start}/three", "--filter", "image_size"]) == 0
    assert run(["select", f"{start}/two", f"{start}/four", "--where", "short_side > 1"]) == 0
    for name in ("one", "two", "three", "four"):
        assert members(home / name).keys() == {"a"}
        assert run(["info", f"{start}/{name}"]) == 0
        assert run(["verify", f"{start}/{name}"]) == 0
    assert run(["query", f"{start}/four", "select key from samples"]) == 0
    assert list(Path().iterdir()) == [], "nothing is written to a folder called ~"


def test_tables_and_prompts_may_be_in_the_home_folder(home: Path) -> None:
    (home / "table.csv").write_text("image,caption\npictures/a.png,a picture\n")
    (home / "prompts.txt").write_text("a cat\n")
    for name in ("table.csv", "table*.csv", "prompts.txt"):
        for start in ("~", f"file://{home}"):
            kind = "table" if name.startswith("table") else "prompts"
            assert len(mm.source(kind, path=f"{start}/{name}").take(9)) == 1


def test_what_is_here_and_what_is_not() -> None:
    assert not is_remote("file:///a")
    assert is_remote("s3://bucket/a")
    assert local("file:///a/b.tar") == Path("/a/b.tar")
    assert local("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
    assert shown("file:///a/b.tar") == "b.tar"
