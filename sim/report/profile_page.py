"""The laws of a profile as one page: what each says in sentences, and its four charts, each with its words and its numbers.

Leaves out: what the charts hold (`profile_plot`), and the page around them (`page.shell`).
Checked: tests/test_profile_views.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..profile.profile import Profile
from .layout import Table
from .page import pieces, theme
from .page.parts import Chart, View
from .page.shell import Entry, Shell
from .profile_laws import Data, ordered, section, summary, timing
from .profile_plot import NOT_SHIPPED, Panel, panels

__all__ = ["page"]

_NAMES = ("size", "residual", "error", "agreement")
_HEIGHT = 420
_ROWS = 24  # of a chart's table, each line of it thinned evenly
_DIGITS = 5


def page(profile: Profile, laws: Iterable[str] | None = None) -> str:
    """Return the charts of laws, by default of all, as one HTML file. Raises ProfileError for a law it does not have."""
    names = ordered(profile) if laws is None else [timing(profile, name).name for name in laws]
    unknown = sum(not profile.laws[name].held_out for name in names)
    answer = f"{len(names) - unknown} of {len(names)} laws state their error on sizes that their fit did not see."
    shell = Shell(
        f"How long do operations take on {profile.name}?",
        header=pieces.paragraphs("answer", [answer]) + pieces.paragraphs("note", [profile.what]),
    )
    for title in dict.fromkeys(section(name) for name in names):
        anchor = shell.anchors.take(f"group-{len(shell.contents)}")
        shell.body.append(f'<section id="{anchor}">{pieces.heading(2, anchor, title)}')
        inside = [_law(shell, profile, name) for name in names if section(name) == title]
        shell.body.append("</section>")
        shell.contents.append(Entry(anchor, title, tuple(inside)))
    return shell.to_html()


def _law(shell: Shell, profile: Profile, name: str) -> Entry:
    """Add a law; return its line of the contents."""
    anchor = shell.anchors.take("law")
    texts = "".join(f"<li>{html.escape(text)}</li>" for text in _texts(profile, name))
    shell.body.append(f'<div id="{anchor}" class="source">{pieces.heading(3, anchor, name)}<ul>{texts}</ul>')
    for called, panel in zip(_NAMES, panels(profile, name), strict=True):
        if panel.traces:
            _chart(shell, f"{anchor}-{called}", panel)
        else:
            shell.body.append(
                pieces.paragraphs("note", [f"{panel.title} {panel.remark[:1].upper()}{panel.remark[1:]}."])
            )
    shell.body.append("</div>")
    return Entry(anchor, name)


def _texts(profile: Profile, name: str) -> tuple[str, ...]:
    texts = summary(profile, name)
    return texts if profile.laws[name].measured else (*texts, f"{NOT_SHIPPED[0].upper()}{NOT_SHIPPED[1:]}.")


def _chart(shell: Shell, wanted: str, panel: Panel) -> None:
    anchor = shell.anchors.take(wanted)
    remark = f" ({panel.remark}.)" if panel.remark else ""
    drawn = theme.layout(_axis(panel.x), _axis(panel.y))
    view = View([_plain(one) for one in panel.traces], drawn, panel.said + remark, _table(panel))
    chart = Chart(anchor, panel.title, {"": view}, height=_HEIGHT)
    shell.charts[anchor] = {
        "switch": "", "scales": [], "threshold": "", "height": chart.height,
        "views": {"": {"data": view.data, "layout": view.layout}},
    }  # fmt: skip
    shell.body.append(pieces.chart(chart, anchor, 4, ""))


def _axis(given: Data) -> Data:
    rest = {key: _plain(value) for key, value in given.items() if key != "title"}
    return theme.axis(str(given.get("title", "")), **rest)


def _plain(given: Any) -> Any:
    """Return what plotly takes without arrays, with as many digits as a chart can show, and nothing for nan."""
    if isinstance(given, dict):
        return {key: _plain(value) for key, value in given.items() if value is not None}
    if isinstance(given, np.ndarray | list | tuple):
        return [_plain(one) for one in given]
    if isinstance(given, float | np.floating):
        return float(f"{given:.{_DIGITS}g}") if math.isfinite(given) else None
    return int(given) if isinstance(given, np.integer) else given


def _table(panel: Panel) -> Table:
    """Return the numbers of a panel, a row a point; long lines are thinned evenly."""
    x, y = (str(one.get("title", "")) or "value" for one in (panel.x, panel.y))
    lines = [one for one in panel.traces if one.get("fill") is None and len(one["x"]) and one["x"][0] is not None]
    most = max(_ROWS // max(len(lines), 1), 3)
    rows = []
    for one in lines:
        places = range(len(one["x"]))
        kept = (
            places
            if len(places) <= most
            else dict.fromkeys(np.linspace(0, len(places) - 1, most).round().astype(int).tolist())
        )
        rows += [(str(one["name"]), _text(one["x"][at]), _text(one["y"][at])) for at in kept]
    total = sum(len(one["x"]) for one in lines)
    note = f"{len(rows)} of {total:,} points of the lines." if len(rows) < total else ""
    return Table("", ("line", x, y), "<>>", tuple(rows), note)


def _text(value: Any) -> str:
    return value.replace("<br>", ", ") if isinstance(value, str) else f"{float(value):.4g}"
