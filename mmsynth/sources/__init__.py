"""Sources: where samples come from. Each is a plugin; `base` says what a source must give."""
