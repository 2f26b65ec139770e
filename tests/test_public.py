"""The public surface: `__all__` is what it says, and importing is free."""

import subprocess
import sys
import time

import pytest

import mmsynth as mm


def test_all_is_sorted_and_every_name_in_it_is_there() -> None:
    assert mm.__all__ == sorted(mm.__all__)
    for name in mm.__all__:
        assert getattr(mm, name) is not None
    assert set(dir(mm)) == {*mm.__all__, "__version__"}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'captions'"):
        _ = mm.captions


_HEAVY = "torch transformers diffusers open_clip datasets"


@pytest.mark.parametrize(
    "code",
    [
        "import mmsynth",
        "import mmsynth as mm; mm.scenes(3).render('scenes').caption('facts').filter('clip').caption('vlm').render('diffusion')",
        "from mmsynth.cli import run; run(['--help'])",
        "from mmsynth.cli import run; run(['plugins'])",
    ],
)  # fmt: skip
def test_nothing_heavy_is_imported(code: str) -> None:
    check = f"{code}\nimport sys; print([m for m in '{_HEAVY}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_comes_at_once() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mmsynth", "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    # against an empty interpreter in the same run, since machines are busy; 0.3 s where nothing else runs
    def empty() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import typing, re, json"], capture_output=True, check=True)
        return time.perf_counter() - start

    best, floor = min(seconds() for _ in range(5)), min(empty() for _ in range(5))
    assert best < max(0.3, 10 * floor)


def test_errors_have_different_exit_codes_and_stand_in_the_tree_of_the_docstring() -> None:
    from mmsynth import errors

    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.MMSynthError)]
    codes = {c.__name__: c.exit_code for c in classes if not issubclass(c, errors.SampleError | errors.Unreachable)}
    assert len(set(codes.values())) == len(codes)
    for name in codes:
        assert f"{name} " in (errors.__doc__ or "")
