"""The command `coordsim profile calls`.

Leaves out: what it does; `calls` reads and fits.
Checked: tests/test_call_law.py.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..sim.report.terminal import Format, put, put_view

__all__ = ["CallsFormat", "calls"]


class CallsFormat(StrEnum):
    """How laws of calls are written: as any result, or as the `models:` of a scenario."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"
    YAML = "yaml"


def calls(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV of calls, also gzipped, or parquet.")],
    *,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT=COLUMN",
            help="Which column holds `seconds`, `output`, `cached`, and `input` (with the cached tokens) or `new` (without): "
            "`cached=64*blocks`; `cached=none` for none. May be repeated.",
        ),
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="COLUMN", help="The model of a call: each gets a law.")] = None,
    group: Annotated[str | None, typer.Option(metavar="COLUMN", help="The run of a call: held out whole.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the runs that are resampled for intervals.")] = 0,
    format: Annotated[
        CallsFormat, typer.Option("--format", help="How stdout is written; yaml: to paste into a scenario.")
    ] = CallsFormat.TABLE,
) -> None:
    """Fit the latency of calls to hosted models: overhead and time per new, cached and output token, and the residual."""
    from ..sim.report.call_tables import calls_view
    from .calls import ColumnError, fit_recorded, parse_columns, read_calls

    try:
        chosen = parse_columns(columns or ())
    except ColumnError as error:
        raise typer.BadParameter(str(error), param_hint="--columns") from None
    fitted = fit_recorded(read_calls(file, chosen, by, group), seed)
    if format is CallsFormat.YAML:
        put(fitted.to_yaml())
    else:
        put_view(calls_view(fitted.to_data()), Format(format.value))
