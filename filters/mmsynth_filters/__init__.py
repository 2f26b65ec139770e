"""Plugins that judge samples. Imports mmsynth, never another plugin package."""

from pathlib import Path

#: the small model that this package ships
NANO = Path(__file__).parent / "nano_clip"
