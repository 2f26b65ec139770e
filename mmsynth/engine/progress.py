"""Progress: how far a run is."""

from collections.abc import Callable
from dataclasses import dataclass

from mmsynth.blocks import Counted, Status


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `total` is None while the source cannot say how many inputs there are."""

    total: int | None = None
    inputs: int = 0
    failed_inputs: int = 0
    #: of the candidates that stages made of the inputs; of the inputs themselves where no stage makes any
    kept: int = 0
    dropped: int = 0
    failed: int = 0
    #: inputs that an earlier run had already done
    already: int = 0

    @property
    def candidates(self) -> int:
        """Rows, whatever became of them."""
        return self.kept + self.dropped + self.failed

    def plus(self, what: Counted, status: Status, n: int, already: int) -> "Progress":
        """So many more; `already` is told anew."""
        # not by replace(), which takes five times as long: this is called for every row
        if what == "input":
            failed = self.failed_inputs + (n if status == "failed" else 0)
            return Progress(self.total, self.inputs + n, failed, self.kept, self.dropped, self.failed, already)
        kept, dropped, failed = (n if status == one else 0 for one in ("kept", "dropped", "failed"))
        return Progress(
            *(self.total, self.inputs, self.failed_inputs),
            *(self.kept + kept, self.dropped + dropped, self.failed + failed, already),
        )


OnProgress = Callable[[Progress], None]
