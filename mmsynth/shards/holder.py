"""Who holds a lock: the process, and what tells it from every other one, in other containers and after a reboot."""

import json
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def myself() -> dict[str, Any]:
    """This process, as it is written into a lock."""
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        **_machine(),
        "began": _began(os.getpid()),
    }


def lives(holder: dict[str, Any]) -> bool | None:
    """Whether the holder's process is there; None where that cannot be told from here: the number of a process means
    something to its own machine and container alone."""
    here = _machine()
    if not all(here.values()) or any(holder.get(name) != value for name, value in here.items()):
        return None
    # another process may have got its number
    return bool(holder.get("began")) and _began(holder.get("pid")) == holder["began"]


def named(holder: str) -> str:
    """A lock's content, for messages."""
    try:
        said = json.loads(holder)
        return f"another mmsynth run (process {said['pid']} on {said['host']}, since {said['since']})"
    except (ValueError, KeyError, TypeError):
        return "another mmsynth run"


def _machine() -> dict[str, str]:
    """Its boot and the namespace of its process numbers; empty where the system does not say."""
    boot = namespace = ""
    with suppress(OSError):
        boot, namespace = _BOOT.read_text().strip(), str(_NAMESPACE.readlink())
    return {"boot": boot, "namespace": namespace}


def _began(pid: object) -> str:
    """When a process of this machine began, in ticks since the boot; "" where there is none."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
