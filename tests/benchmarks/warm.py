"""Stages that load their model once in a process: loading is counted in no benchmark."""

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import mmsynth as mm

_OF_A_RUN = {"_step_name", "_run_seed"}


class Warm:
    """Before a stage's class: what the first setup() left is there for the next."""

    loaded_before: ClassVar[dict[tuple[str, str], dict[str, Any]]] = {}

    def check(self) -> None:
        """The model is there: it was made for this."""

    def setup(self, device: str) -> None:
        key = (type(self).__name__, str(self.model))  # type: ignore[attr-defined]  # of the stage that follows
        if key not in self.loaded_before:
            super().setup(device)  # type: ignore[misc]  # the stage's
            private: dict[str, Any] = self.__pydantic_private__  # type: ignore[attr-defined]  # a stage is a pydantic model
            self.loaded_before[key] = {name: value for name, value in private.items() if name not in _OF_A_RUN}
        for name, value in self.loaded_before[key].items():
            setattr(self, name, value)


def run(pipeline: mm.Pipeline, n: int, device: str, **options: Any) -> int:
    """The whole pipeline into a folder that is thrown away; all `n` samples must have come through."""
    with tempfile.TemporaryDirectory() as folder:
        report = pipeline.write(Path(folder) / "out", device=device, **options)
    assert report.kept == n, f"{report.kept} of {n} samples came through"
    return n
