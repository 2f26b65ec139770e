"""What of the extra `duplicates` is missing, said before any work is done."""

import importlib.util

from mmsynth.errors import PluginError


def need(module: str, what: str) -> None:
    """Raise PluginError that names the extra when `module`, which `what` needs, is not installed."""
    if importlib.util.find_spec(module) is None:
        raise PluginError(f"{what} needs '{module}', which is not installed: pip install 'mmsynth[duplicates]'")
