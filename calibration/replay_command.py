"""The command `coordsim profile replay`.

Leaves out: the replay itself (`replay`), imported only when it is called.
Checked: tests/test_replay.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..sim.report.terminal import Format, put_view

__all__ = ["replay"]


def replay(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A folder with meta.json, requests.jsonl and config.json.")
    ],
    *,
    profile: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The model's tables (meta.yaml, tpN/*.csv), or a folder above them.")
    ],
    workload: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The requests' tokens. Default: what meta.json names, if it is near."),
    ] = None,
    shape: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The model's shape: one that is known, or its own config.json.")
    ] = "",
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the engine, such as `kv_blocks=20000`."),
    ] = None,
    calibrate: Annotated[
        str, typer.Option(metavar="NAME", help="Fit this one parameter to the run: host_step, host_token or skew.")
    ] = "",
    format: Annotated[
        Format, typer.Option("--format", help="How stdout is written; csv: a row for each request.")
    ] = Format.TABLE,
) -> None:
    """Send the requests of a real server's run through the simulated one, and say how far off their times are."""
    from ..sim.report.replay_tables import replay_view
    from .replay import replay as replayed
    from .replay_engine import Settings

    texts = {}
    for text in sets or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"must be NAME=VALUE; got `{text}`", param_hint="--set")
        texts[name.strip()] = value
    found = replayed(
        run, profile, Settings.from_texts(texts), workload=workload, shape=shape, calibrate=calibrate
    )  # fmt: skip
    put_view(replay_view(found.to_data()), format)
