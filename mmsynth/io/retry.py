"""The one retry policy for all remote access: a few tries, increasing waits, and a one-line error.

Missing files, denied access and invalid requests fail at once, because a retry would fail the same way.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from mmsynth.secrets import without_secrets

T = TypeVar("T")

#: the waits before the second try, the third, …
WAITS_S = (0.5, 1.0, 2.0)
#: errors that a retry does not cure
_LASTING = (PermissionError, NotADirectoryError, IsADirectoryError, NotImplementedError, ImportError)
#: HTTP statuses for too many requests, and for a request that took too long
_COME_BACK_LATER = {408, 425, 429}
_CLIENT_ERRORS = range(400, 500)


def retried(what: str, ask: Callable[[], T]) -> T:
    """Call `ask`, retry failures, and return its result. `what` names the action in errors: "list s3://bucket/run".

    Raises FileNotFoundError unchanged, and every other failure as OSError, since each protocol has its own errors.
    """
    for wait_s in (*WAITS_S, None):
        try:
            return ask()
        except FileNotFoundError:
            raise
        except PermissionError as error:
            raise PermissionError(f"cannot {what}: {one_line(error)}") from error
        except Exception as error:
            if wait_s is None or _is_lasting(error):
                raise OSError(f"cannot {what}: {one_line(error)}") from error
            # random, so that workers that were refused together do not all retry together
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
    raise AssertionError("the last try returns or raises")


def _is_lasting(error: Exception) -> bool:
    status = getattr(error, "status", None)
    refused = isinstance(status, int) and status in _CLIENT_ERRORS and status not in _COME_BACK_LATER
    return refused or isinstance(error, _LASTING)


def one_line(error: BaseException) -> str:
    """The first line of an error's message, with credentials redacted."""
    lines = str(error).strip().splitlines()
    return str(without_secrets(lines[0])) if lines else type(error).__name__
