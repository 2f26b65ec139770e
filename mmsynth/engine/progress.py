"""Progress: what a run tells whoever watches it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `total` is None while the source cannot say how much there is."""

    total: int | None = None
    inputs: int = 0
    kept: int = 0
    dropped: int = 0
    failed: int = 0
    #: inputs that an earlier run had already done
    already: int = 0

    def plus(self, kept: int = 0, dropped: int = 0, failed: int = 0, already: int | None = None) -> "Progress":
        """So many more; `already` is told anew."""
        return Progress(
            self.total,
            self.inputs + kept + dropped + failed,
            self.kept + kept,
            self.dropped + dropped,
            self.failed + failed,
            self.already if already is None else already,
        )


OnProgress = Callable[[Progress], None]
