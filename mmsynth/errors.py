"""Every error that mmsynth raises on purpose, with the exit code that the command line gives it.

    MMSynthError                exit 1
    ├── RecipeError             exit 2   an invalid recipe, parameter or command line
    ├── PluginError             exit 3   an unknown plugin, a missing extra, a name registered twice
    ├── ModelError              exit 4   a model that could not be found or loaded
    ├── SourceError             exit 5   an input that is not there or cannot be read at all
    │   └── Unreachable                  one at a URL that could not be read now; the same command tries again
    ├── OutputError             exit 6   an output folder in use, or holding another recipe's run
    ├── TooManyFailures         exit 7   the share of failed samples passed max_failures
    ├── WorkerError             exit 8   a worker process died
    ├── DeviceError             exit 9   a GPU failed, and every later call in this process would fail too
    └── SampleError             a single sample that cannot be used: the engine turns it into a `failed` row
        └── ImageError

Messages say what is wrong, where, and what to do next, in one line. They are caught once, in `mmsynth.cli`.
"""

from typing import ClassVar


class MMSynthError(Exception):
    """Base class: catching this catches everything that mmsynth raises on purpose."""

    exit_code: ClassVar[int] = 1


class RecipeError(MMSynthError):
    """A recipe, a stage's parameter or a command line that is invalid."""

    exit_code = 2


class PluginError(MMSynthError):
    """No such plugin, an extra not installed, a name registered twice, or a stage that breaks its contract."""

    exit_code = 3


class ModelError(MMSynthError):
    """A model that cannot be found, downloaded or loaded."""

    exit_code = 4


class SourceError(MMSynthError):
    """An input that is missing or unreadable."""

    exit_code = 5


class Unreachable(SourceError):
    """An input at a URL that could not be read for want of the network, a server or a permission: no sample's fault."""


class OutputError(MMSynthError):
    """An output folder that is in use, damaged, cannot be written, or holds the run of another recipe."""

    exit_code = 6


class TooManyFailures(MMSynthError):
    """The share of failed samples passed `max_failures`."""

    exit_code = 7


class WorkerError(MMSynthError):
    """A worker process died (killed, out of memory, a crash in native code), or no cluster answers."""

    exit_code = 8


class DeviceError(MMSynthError):
    """A device failed, other than by running out of memory. This process can no longer use it."""

    exit_code = 9


class SampleError(MMSynthError):
    """One sample cannot be used. `reason` is a short code that is counted; the message has the detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["SampleError"], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class ImageError(SampleError):
    """Bytes that are not an image, a truncated image, or one with too many pixels to decode."""
