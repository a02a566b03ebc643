"""A page that uses everything a page can have, with numbers made up from a formula: what the tests in a browser turn and move."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from coordsim.sim.analysis.statistics import Estimate, mean_interval
from coordsim.sim.analysis.summarize import SHARES
from coordsim.sim.report.layout import Table
from coordsim.sim.report.numbers import show
from coordsim.sim.report.page.assemble import to_html
from coordsim.sim.report.page.parts import PERCENTILES, Chart, Curve, Missing, Part, Section, Slider, Switch, View
from coordsim.sim.report.page.provenance import Input, Line, Provenance
from coordsim.sim.report.page.theme import COLOURS, axis, bar, layout, limit, whiskers

__all__ = ["LIMIT", "SOURCE", "UNITS", "curves", "parts", "write"]

LIMIT = 2.0  # s, at first
REPLICATIONS = 12
SERVERS = (2, 3, 4, 6)
UNITS = ("75 s ± 4", "950 ms ± 10", "1.2 s", "3 min", "1,200 s ± 100", "–", "0 s")  # from one column, in no order
SOURCE = Provenance(
    scenario="made-up <b>&amp; escaped</b>",
    question="How many servers are enough?",
    sha256="0123456789abcdef" * 4,
    seed=7,
    command="coordsim run made-up.yaml -o out",
    versions={"coordsim": "0.1.0", "python": "3.11"},
    lines=(Line("seed: 7", True), Line("runtime: ideal", False), Line("  latency: 2 ms", True, "profile h100")),
    inputs=(Input("h100", "imported", "a database"), Input("latency", "assumed", "the scenario")),
    data=("trace.csv",),
    runtime="ideal",
    rate=2.0,
    objectives=(("p95", LIMIT, "<="),),
)


def curves() -> tuple[Curve, ...]:
    """Return four configurations: T_total is exponential, the mean falls with servers and differs between replications."""
    found = []
    for place, servers in enumerate(SERVERS):
        rng = np.random.default_rng((20, place))
        rows = tuple(
            tuple(np.quantile(rng.exponential(1.5 / servers, 400) + 0.2, SHARES).tolist()) for _ in range(REPLICATIONS)
        )
        found.append(Curve(f"{servers} servers", rows, cost=3.0 * servers))
    return tuple(found)


def _quantile(curve: Curve, percentile: str) -> Estimate:
    place = SHARES.index(int(percentile[1:]) / 100)
    return mean_interval([row[place] for row in curve.rows])


def _within(curve: Curve) -> Estimate:
    return mean_interval([float(np.interp(LIMIT, row, SHARES)) for row in curve.rows])


def _numbers(title: str, known: list[Estimate], unit: str = "s") -> Table:
    rows = tuple((str(servers), show(one, unit).text) for servers, one in zip(SERVERS, known, strict=True))
    return Table(title, ("servers", "value"), ">>", rows)


def _times() -> Chart:
    """T_total over servers, by percentile, with the limit that the slider moves."""
    views = {}
    for percentile in PERCENTILES:
        known = [_quantile(one, percentile) for one in curves()]
        trace = {
            "type": "scatter", "mode": "lines+markers", "name": percentile, "x": list(SERVERS),
            "y": [one.value for one in known], "error_y": whiskers(known), "line": {"color": COLOURS[0]},
        }  # fmt: skip
        drawn = layout(axis("servers"), axis(f"{percentile} of T_total (s)", type="log"), shapes=[limit(LIMIT, "y")])
        said = f"The {percentile} of T_total falls to {show(known[-1], 's').text} with {SERVERS[-1]} servers."
        views[percentile] = View([trace], drawn, said, _numbers(f"{percentile} of T_total", known))
    return Chart("times", "How long do tasks take?", views, Switch.PERCENTILE, scales=("y",), threshold="y", height=420)


def _met() -> Chart:
    """The share of tasks within the limit, which the slider draws anew."""
    known = [_within(one) for one in curves()]
    trace = {
        "type": "scatter", "mode": "markers", "x": [one.label for one in curves()], "y": [one.value for one in known],
        "error_y": whiskers(known), "marker": {"symbol": "diamond", "size": 9},
    }  # fmt: skip
    drawn = layout(axis("configuration"), axis("share within the limit", tickformat=".0%"))
    return Chart(
        "met", "Which share is in time?", {"": View([trace], drawn, "Nearly all.", _numbers("share", known, "share"))}
    )


def _sides() -> Chart:
    views = {}
    for side, values in {"A": [3.0, 2.0, 1.0], "B": [2.0, 1.5, 0.9], "difference": [-1.0, -0.5, -0.1]}.items():
        trace = {"type": "bar", "x": ["mean", "p95", "p99"], "y": values, "marker": bar("inference")}
        drawn = layout(axis("statistic"), axis("T_total (s)"))
        table = Table(
            f"side {side}", ("statistic", "value"), "<>", (("mean", f"{values[0]:g} s"), ("p95", f"{values[1]:g} s"))
        )
        views[side] = View([trace], drawn, f"Side {side} is at {values[0]:g} s.", table)
    return Chart("sides", "What does B save?", views, Switch.SIDE)


def _kinds() -> list[Chart]:
    """A chart of each other kind of trace that reports draw."""
    table = Table("numbers", ("name", "value"), "<>", (("a", "1 s"), ("b", "2 s")))
    icicle = {
        "type": "icicle",
        "labels": ["all", "a", "b"],
        "parents": ["", "all", "all"],
        "values": [3, 1, 2],
        "branchvalues": "total",
    }
    names = ["a long name of a step", "b"]
    heat = {
        "type": "heatmap",
        "x": ["compute", "waiting"],
        "y": names,
        "z": [[1, 2], [3, None]],
        "colorscale": "Cividis",
    }
    stacked = [
        {"type": "bar", "name": name, "x": ["p50", "p99"], "y": [1, place + 1], "marker": bar(name)}
        for place, name in enumerate(("inference", "queueing"))
    ]
    flat: dict[str, Any] = {"margin": {"l": 0, "r": 0, "t": 8, "b": 8}, "paper_bgcolor": "rgba(0,0,0,0)"}
    return [
        Chart("tree", "Where does it go?", {"": View([icicle], flat, "Two parts.", table)}),
        Chart("heat", "Which step?", {"": View([heat], layout(axis(""), axis("")), "Step b waits.", table)}),
        Chart(
            "stacks",
            "Which part?",
            {"": View(stacked, layout(axis(""), axis("s"), barmode="stack"), "It grows.", table)},
        ),
    ]


def parts() -> list[Part]:
    """Return parts for several sections, with everything that parts may hold."""
    slider = Slider("Limit on T_total", 0.5, 4.0, LIMIT, SHARES, curves(), redraws="met")
    mixed = tuple((chr(97 + place), value) for place, value in enumerate(UNITS))
    tree, heat, stacks = _kinds()
    long = Table("long", ("number", "value"), ">>", tuple((str(one), f"{math.sqrt(one):.3g} s") for one in range(60)))
    return [
        Part(
            Section.ANSWER,
            "Four servers are enough: p95 1.2 s ± 0.1.",
            facts=(("p95", "1.2 s ± 0.1", "pass"), ("cost", "$12 an hour", ""), ("p99", "2 s ± 1", "inconclusive")),
            warnings=("What is made up is doubtful.",),
            missing=(Missing("There are few replications.", "coordsim run made-up.yaml --replications 40"),),
            downloads={"numbers.json": '{"a": [1, 2.5, "é"]}\n', "numbers.csv": "a,b\n1,2\n"},
        ),
        Part(Section.REPLICAS, "Four.", charts=(_times(), _met()), slider=slider, notes=("A note.",)),
        Part(Section.TIME, "In queues.", charts=(tree, heat, stacks), tables=(Table("Mixed units", ("name", "time"), "<>", mixed), long)),
        Part(Section.RUNTIME, "It saves a third.", charts=(_sides(),), blocks=(("models:", "  llm: {replicas: 4}"),)),
    ]  # fmt: skip


def write(path: Path) -> Path:
    """Write the page, and return its path."""
    path.write_text(to_html("A page with everything", [(SOURCE, one) for one in parts()], [SOURCE]), encoding="utf-8")
    return path
