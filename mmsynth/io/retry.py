"""The one retry policy for all remote access: a few tries, increasing waits, and a one-line error.

Missing files, denied access and invalid requests fail at once, because a retry would fail the same way.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from mmsynth.errors import MMSynthError
from mmsynth.secrets import without_secrets

T = TypeVar("T")

#: the waits before the second try, the third, …
WAITS_S = (0.5, 1.0, 2.0)
#: errors that a retry does not cure
_LASTING = (PermissionError, NotADirectoryError, IsADirectoryError, NotImplementedError, ImportError)
#: HTTP statuses for too many requests, and for a request that took too long
_COME_BACK_LATER = {408, 425, 429}
_CLIENT_ERRORS = range(400, 500)
_NOT_THERE = {404, 410}


def retried(what: str, ask: Callable[[], T]) -> T:
    """Call `ask`, retry failures, and return its result. `what` names the action in errors: "list s3://bucket/run".

    Raises FileNotFoundError and our own errors as they come, and every other failure as OSError. Every protocol has its
    own errors.
    """
    for wait_s in (*WAITS_S, None):
        try:
            return ask()
        except MMSynthError:
            raise
        except Exception as error:
            found = _meant(error)
            if isinstance(found, FileNotFoundError):
                raise
            if wait_s is None or _is_lasting(found):
                kind = PermissionError if isinstance(found, PermissionError) else OSError
                raise kind(f"cannot {what}: {one_line(found)}") from found
            # not all at the same time, where many workers were refused together
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
    raise AssertionError("the last try returns or raises")


def _meant(error: Exception) -> BaseException:
    """What stopped it: fsspec says of a web server's every failure that the file is not there."""
    cause = error.__cause__
    # a LookupError is a file system in memory that has no such name
    if not isinstance(error, FileNotFoundError) or cause is None or isinstance(cause, FileNotFoundError | LookupError):
        return error
    return error if getattr(cause, "status", None) in _NOT_THERE else cause


def _is_lasting(error: BaseException) -> bool:
    return is_refused(error) or isinstance(error, _LASTING)


def is_refused(error: BaseException | None) -> bool:
    """Whether it is, or came of, a web server's answer that another try does not change: 403, 404, …"""
    if error is None:
        return False
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in _CLIENT_ERRORS and status not in _COME_BACK_LATER
    return is_refused(error.__cause__)


def one_line(error: BaseException) -> str:
    """The first line of an error's message, with credentials redacted."""
    lines = str(error).strip().splitlines()
    return str(without_secrets(lines[0])) if lines else type(error).__name__
