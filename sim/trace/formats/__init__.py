"""How each kind of trace file says what happened: one module a format, each from a file to observations."""
