"""Loads models quietly, and decides whose code may run. Every stage that loads a model uses this."""

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

_trusted: set[str] = set()


def trust(model: str) -> None:
    """Let recipes run the code that comes with `model`. Stages built in Python do not need this."""
    _trusted.add(model)


def is_trusted(model: str) -> bool:
    """Whether `trust(model)` was called in this process."""
    return model in _trusted


@contextmanager
def loading_quietly(*libraries: str) -> Iterator[None]:
    """Hide the progress bars of `libraries` (transformers, diffusers), and deprecation warnings.

    The weights are on disk already, and a bar inside ours would garble it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        bars = [importlib.import_module(f"{name}.utils.logging") for name in libraries]
        shown = [bar for bar in bars if bar.is_progress_bar_enabled()]
        for bar in shown:
            bar.disable_progress_bar()
        try:
            yield
        finally:
            for bar in shown:
                bar.enable_progress_bar()


def tell_of_nano(stage: str, real: str) -> None:
    """Log in one line that `stage` runs on its nano model, and name a `real` one."""
    log.info(
        "%s runs on 'nano', the small offline default, which knows drawn scenes and nothing else; "
        "name a real model for the rest, such as model='%s'",
        stage,
        real,
    )
