"""What a page is made of: sections by question, and to each what one answer says: words first, then charts and tables.

A chart has a view for each position of its switch, and every view has its words and its table: nothing is said by a picture alone.

Leaves out: how it looks (`theme`), and how it becomes HTML or Markdown.
Checked: tests/test_page.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..layout import Table

__all__ = ["PERCENTILES", "SIDES", "Chart", "Curve", "Missing", "Part", "Section", "Slider", "Switch", "View"]

Data = dict[str, Any]  # as plotly takes it: no arrays, no nan (None instead)


class Section(StrEnum):
    """The sections of a page, in order; the value is the anchor."""

    ANSWER = "answer"
    REPLICAS = "replicas"
    TIME = "time"
    BREAKS = "breaks"
    RUNTIME = "runtime"
    SCALING = "scaling"
    MATTERS = "matters"
    SURE = "sure"
    ASSUMPTIONS = "assumptions"
    REPRODUCE = "reproduce"

    @property
    def question(self) -> str:
        """The title of the section."""
        return _QUESTIONS[self]


_QUESTIONS = {
    Section.ANSWER: "What is the answer?",
    Section.REPLICAS: "How many replicas do I need?",
    Section.TIME: "Where does the time go?",
    Section.BREAKS: "What breaks first?",
    Section.RUNTIME: "What would another runtime save?",
    Section.SCALING: "How does it scale with steps and modalities?",
    Section.MATTERS: "What matters most?",
    Section.SURE: "How sure are we?",
    Section.ASSUMPTIONS: "What does it assume?",
    Section.REPRODUCE: "How is it reproduced?",
}


class Switch(StrEnum):
    """What the reader chooses once for the page: all charts that have this switch follow."""

    NONE = ""
    PERCENTILE = "percentile"  # views by `PERCENTILES`
    SIDE = "side"  # views by `SIDES`: baseline, variant, and what lies between


PERCENTILES = ("p50", "p95", "p99")
SIDES = ("A", "B", "difference")


@dataclass(frozen=True, slots=True)
class View:
    """A chart at one position of its switch: what plotly draws, what it says in a sentence or two, and its numbers."""

    data: list[Data]
    layout: Data
    summary: str
    table: Table


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: `name` is its anchor and unique in the answer, `title` a question or a statement.

    `views` are by position of the `switch`; without one, the only key is ''. `scales` names the axes ('x', 'y') that the reader may
    set to linear or logarithmic; which it is at first is said by the layout. `threshold` is the axis of T_total ('x', 'y'; '' for
    none) on which the slider of the part moves a line: the layout's first shape. `height` is in pixels.
    """

    name: str
    title: str
    views: Mapping[str, View]
    switch: Switch = Switch.NONE
    scales: tuple[str, ...] = ()
    threshold: str = ""
    height: int = 460

    def figure(self, view: str | None = None) -> Any:
        """Return a view as a plotly Figure for a notebook; by default that of p95, of the difference, or the only one."""
        import plotly.graph_objects as go

        from .theme import standing_alone

        wanted = view or next((one for one in ("p95", "difference") if one in self.views), next(iter(self.views)))
        shown = self.views[wanted]
        data = [dict(one) for one in shown.data]  # plotly takes the type out of what it is given
        return go.Figure(data=data, layout=standing_alone(shown.layout, self.title, self.height))


@dataclass(frozen=True, slots=True)
class Curve:
    """A configuration that the slider judges: T_total (s) at the slider's `shares`, a row a replication; $ an hour where known."""

    label: str
    rows: tuple[tuple[float, ...], ...]
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Slider:
    """A limit on T_total (s) that the reader moves, from `low` to `high`, at first `value`.

    `percentile`, one of `PERCENTILES`, is that of the objective: the page starts there where all its sliders agree.

    The page computes, for each curve and the percentile that is chosen, its estimate with an interval over the replications, the
    verdict by the rule of `analysis.slo`, the share of tasks within the limit, and which is the cheapest that passes (the first in
    the order given, where none has a cost). Percentiles outside `shares` are interpolated. `redraws` names a chart with a point for each curve (x: labels,
    in order; y: share within the limit): its first trace gets new y and intervals.
    """

    label: str
    low: float
    high: float
    value: float
    shares: tuple[float, ...]
    curves: tuple[Curve, ...]
    confidence: float = 0.95
    redraws: str = ""
    percentile: str = "p95"


@dataclass(frozen=True, slots=True)
class Missing:
    """What a section would say more, and the command that adds it."""

    what: str
    command: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one answer says to one section.

    `answer` is one to three sentences with numbers and intervals. `facts` are headline figures (label, value with interval, verdict or
    ''), shown large in the first section; `opened` are tables below them that stay open. `tables` come after the charts, folded. `warnings` are doubts. `blocks` are HTML-free texts
    laid out already (YAML, commands). `unasked` are sections that no answer of the page speaks to, linked in one line.
    """

    section: Section
    answer: str
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    facts: tuple[tuple[str, str, str], ...] = ()
    blocks: tuple[tuple[str, ...], ...] = ()
    slider: Slider | None = None
    downloads: Mapping[str, str] = field(default_factory=dict)  # file name -> text, offered by a button
    opened: tuple[Table, ...] = ()
    unasked: tuple[Section, ...] = ()
