"""The option `--budget` of commands that measure.

Checked: tests/test_profile_commands.py, tests/test_validate_command.py.
"""

from __future__ import annotations

import re

import typer

__all__ = ["seconds_of"]


def seconds_of(budget: str) -> float:
    """Return the seconds of a text such as `10m` or `90 s`. Raises BadParameter."""
    from ..sim.engine import units

    try:
        seconds = units.parse(re.sub(r"(?<=\d)m$", " min", budget.strip()), units.DURATION)  # `3m`, as timers have it
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from None
    if seconds <= 0:
        raise typer.BadParameter(f"must be a duration > 0; got `{budget}`", param_hint="--budget")
    return seconds
