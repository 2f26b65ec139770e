"""Plugins that draw images. Imports mmsynth, never another plugin package."""
