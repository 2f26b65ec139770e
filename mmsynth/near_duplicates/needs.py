"""Checks that the packages of the extra `duplicates` are installed, before any work is done."""

import importlib.util

from mmsynth.errors import PluginError


def need(module: str, what: str) -> None:
    """Raise PluginError, which names the extra, if `module` is not installed. `what` says what needs it."""
    if importlib.util.find_spec(module) is None:
        raise PluginError(f"{what} needs '{module}', which is not installed: pip install 'mmsynth[duplicates]'")
