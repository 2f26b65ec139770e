"""Plugins that judge samples. Imports mmsynth, never another plugin package."""
