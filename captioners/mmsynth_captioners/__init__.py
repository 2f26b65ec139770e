"""Plugins that write text. Imports mmsynth, never another plugin package."""
