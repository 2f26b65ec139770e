"""The one policy for whatever talks to a URL: a few tries, longer and longer waits, and one line that says what failed.

A file that is not there, an access that is refused and a request that cannot be right fail at once: they would again.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from mmsynth.secrets import without_secrets

T = TypeVar("T")

#: before the second try, the third, …
WAITS_S = (0.5, 1.0, 2.0)
#: what another try does not change
_LASTING = (PermissionError, NotADirectoryError, IsADirectoryError, NotImplementedError, ImportError)
#: HTTP's answers to too many requests, and to one that took too long
_COME_BACK_LATER = {408, 425, 429}
_CLIENT_ERRORS = range(400, 500)


def retried(what: str, ask: Callable[[], T]) -> T:
    """What `ask` gives. `what` is what it does, for the error: "list s3://bucket/run".

    Raises FileNotFoundError as it comes, and every other failure as OSError. Every protocol has its own errors.
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
            # not all at the same time, where many workers were refused together
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
    raise AssertionError("the last try returns or raises")


def _is_lasting(error: Exception) -> bool:
    status = getattr(error, "status", None)
    refused = isinstance(status, int) and status in _CLIENT_ERRORS and status not in _COME_BACK_LATER
    return refused or isinstance(error, _LASTING)


def one_line(error: BaseException) -> str:
    """The first line of what an error says, without passwords and signatures."""
    lines = str(error).strip().splitlines()
    return str(without_secrets(lines[0])) if lines else type(error).__name__
