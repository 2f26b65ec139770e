"""Loading quietly, and whose code may run: what every stage that loads a model needs."""

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

_trusted: set[str] = set()


def trust(model: str) -> None:
    """Let recipes run the code that comes with `model`. Stages that are built in Python need no such word."""
    _trusted.add(model)


def is_trusted(model: str) -> bool:
    """Whether `trust` was said of it in this process."""
    return model in _trusted


@contextmanager
def loading_quietly(*libraries: str) -> Iterator[None]:
    """Without the bars of `libraries` (transformers, diffusers) and without what they or their imports deprecate.

    The weights are on disk already, and a bar within ours tears it.
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
    """Say in one line that `stage` runs on its nano model, and name a `real` one."""
    log.info(
        "%s runs on 'nano', the small offline default, which knows drawn scenes and nothing else; "
        "name a real model for the rest, such as model='%s'",
        stage,
        real,
    )
