"""The simulator, which knows no component by name."""
