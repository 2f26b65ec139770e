"""One run in a process of its own: what the campaign starts, and disturbs.

    python -m tests.faults.child OUT PIPELINE '{"workers": 2}'     PIPELINE: a name of stages.PIPELINES, or read:PATH

It runs as where only the core is installed, without torch and pandas: so it starts five times as fast.
"""

import json
import signal
import sys
from typing import Any


class WithoutExtras:
    """An importer that has neither torch nor pandas."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in {"torch", "pandas"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


if __name__ in {"__main__", "__mp_main__"}:  # worker processes import this file under the second name
    sys.meta_path.insert(0, WithoutExtras())  # type: ignore[arg-type]  # find_spec is all that Python asks of it


def main(out: str, pipeline: str, options: dict[str, Any]) -> int:
    """Run it; an error becomes one line and an exit code, as on the command line."""
    import mmsynth as mm
    from mmsynth.errors import MMSynthError
    from tests.faults.stages import PER_SHARD, PIPELINES, waits_at

    kind, _, path = pipeline.partition(":")
    made = mm.read(path).filter("image_size", min_side=1) if kind == "read" else PIPELINES[pipeline]()
    options = {"samples_per_shard": PER_SHARD, "device": "cpu", **options}
    try:
        made.write(out, on_progress=lambda _: waits_at("write"), **options)
    except MMSynthError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    # a shell starts what it has in the background deaf to Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}))
