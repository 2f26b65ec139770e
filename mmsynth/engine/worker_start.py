"""What a worker process begins with. Imports next to nothing: it outlives its parent until it is tied to it."""

from typing import Any

from mmsynth.engine.stopping import end_with_parent


def start(*arguments: Any) -> None:
    """The life of a worker process: `worker.work`, ended with its parent."""
    end_with_parent()
    from mmsynth.engine.worker import work  # seconds, on a busy machine

    work(*arguments)
