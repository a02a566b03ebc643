"""An error as the command tells it, and the exit code that goes with it.

A user's mistake is told as it is rendered; ours with how to report it.

Leaves out: tracebacks.
Checked: tests/test_cli.py.
"""

from __future__ import annotations

from ..analysis.jobs import WorkerError
from ..engine.errors import ConservationError, CoordsimError

BUG, INVALID = 1, 2


def explain(error: Exception) -> tuple[str, int]:
    """Return what to say of an error, and the exit code."""
    if isinstance(error, WorkerError):  # nobody's mistake in the input
        return str(error), BUG
    if isinstance(error, CoordsimError) and not isinstance(error, ConservationError):
        return str(error), INVALID
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith(__name__.partition(".")[0]):
        return f"{error}; try `coordsim doctor`", INVALID
    if isinstance(error, MemoryError):
        return "out of memory; try fewer tasks, fewer `--workers`, or `--spans none`", BUG
    text = (
        f"coordsim failed: {type(error).__name__}: {error}\n"
        "This is a mistake of coordsim, not yours: please report it, with your scenario and what\n"
        "`COORDSIM_TRACEBACK=1` before the same command prints."
    )
    return text, BUG
