"""`explore`: what-if live in a notebook: sliders, a chart and a status line that follow them.

    import coordsim as cs
    cs.explore(cs.load("modality-scaling"))

A move waits until the slider rests, then a coarse answer comes at once and gets better, until the next move stops it. Settings that
have been answered are answered again without a run. Replications run in a thread of the kernel, the same for all panels, one at a time, so
that sliders stay alive; without an event loop (a plain script) a move is answered before the next line.

Leaves out: what is run and how it is compared (`models.explore`), and which controls there are (`models.explore_controls`).
Checked: tests/test_explorer.py, tests/test_notebooks.py in a kernel, tests/test_lab.py in JupyterLab with a browser.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from .models.explore import Exploration, Seen, Setting
from .models.explore_controls import Control, controls_of
from .models.scenario import Scenario
from .models.variants import reason
from .sim.analysis.statistics import Estimate
from .sim.engine.errors import CoordsimError, ScenarioError
from .sim.engine.ledger import CATEGORIES
from .sim.report.numbers import show
from .sim.report.page.theme import COLOURS, CONFIG, GREY, PATTERNS, axis, layout, standing_alone, whiskers

if TYPE_CHECKING:
    from .sim.analysis.summary import Summary

__all__ = ["ExplorerError", "Panel", "explore"]

DELAY = 0.25  # s without a move before anything runs
TOTAL = "T_total"
_AS_IT_IS, _CHANGED = "as it is", "as set"
_LONGEST = 200  # characters of an error that nobody expected
_NO_WIDGETS = "`explore` needs {name}: try `pip install 'coordsim[notebook]'`"
_LOOKS = (
    {"color": GREY, "pattern": {"shape": PATTERNS[0]}},
    {"color": COLOURS[0], "pattern": {"shape": PATTERNS[1], "size": 6, "solidity": 0.25}},
)


class ExplorerError(CoordsimError):
    """An exploration that cannot be shown: what is missing, and the remedy."""


def explore(
    scenario: Scenario,
    controls: Mapping[str, Iterable[Any] | None] | Iterable[str] | None = None,
    *,
    replications: int | None = None,
    delay: float = DELAY,
) -> Panel:
    """Return sliders over what can be moved in a scenario, and where the time goes then, against the scenario as it is.

    Without `controls`: the speed of inference, steps, modalities, replicas and the runtime, those of them that the scenario has. With
    them: names of these, or a mapping of names and paths to the values of each (None: its own). `replications` (default: the scenario's, at least 2) make the
    answer final; `delay` (s) is how long a slider must rest. Raises ExplorerError without the extra `notebook`, ValueError or
    ScenarioError for controls that cannot be.
    """
    if not isinstance(scenario, Scenario):
        raise TypeError(f"must be a Scenario, such as `coordsim.load('quickstart')`; got {type(scenario).__name__}")
    if not delay >= 0:
        raise ValueError(f"`delay` must be 0 s or more, but got {delay}")
    return Panel(Exploration(scenario, controls_of(scenario, controls), replications), delay)


class Panel:
    """The sliders of an exploration, its status line and its chart.

    `controls` are the widgets by name, whose `value` is a label of their options; `status` and `figure` follow them; `seen` is what is
    shown; `exploration.runs` counts replications. `await settled()` waits for the last answer, `close()` ends it all. Until then the
    widgets, which any frontend may show, keep what was found.
    """

    def __init__(self, exploration: Exploration, delay: float = DELAY) -> None:
        widgets, self.figure = _needed(exploration.scenario.name)
        self.exploration = exploration
        self.delay = delay
        self.seen: Seen | None = None
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None
        self._is_held = False  # moves are not answered
        self.controls = {one.name: _widget(widgets, one) for one in exploration.controls}
        self.status = widgets.HTML()
        self._again = widgets.Button(
            description="put back", tooltip="Every control as the scenario has it", layout={"width": "8em"}
        )
        self._again.on_click(self._put_back)
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        self._row = widgets.HBox([*self.controls.values(), self._again], layout=row)
        self.box = widgets.VBox([self._row, self.status, self.figure])
        for one in self.controls.values():
            one.observe(self._moved, names="value")
        self._moved()

    @property
    def setting(self) -> Setting:
        """Where the controls stand."""
        return tuple(one.place(self.controls[one.name].value) for one in self.exploration.controls)

    def reset(self) -> None:
        """Put every control back to the scenario as it is, in one move."""
        before = self.setting
        self._is_held = True
        try:
            for one in self.exploration.controls:
                self.controls[one.name].value = one.labels[one.now]
        finally:
            self._is_held = False
        if self.setting != before and not self._is_closed:
            self._moved()

    async def settled(self) -> Panel:
        """Return when the answer to where the controls stand is final. Raises what went wrong on the way."""
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task})  # a move meanwhile ends it, and there is another
        if self._task is not None and not self._task.cancelled():
            self._task.result()
        return self

    def close(self) -> None:
        """Stop what runs, and take the widgets away; a move of a control that is kept is no longer answered."""
        self._stop()
        if self._is_closed:
            return
        self._is_closed = True
        for one in self.controls.values():
            one.unobserve(self._moved, names="value")
        self._again.on_click(self._put_back, remove=True)
        for one in (*self.controls.values(), self._again, self.status, self._row, self.box):
            for part in (getattr(one, "style", None), one.layout):  # widgets of their own
                if part is not None:
                    part.close()
            one.close()
        self.figure.close()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Return the widgets for a notebook."""
        return self.box._repr_mimebundle_(**options)

    def _put_back(self, _button: Any) -> None:
        self.reset()

    def _moved(self, _change: Any = None) -> None:
        """Answer for where the controls stand now: at once where it is known, else when they have rested."""
        if self._is_held:
            return
        self._stop()
        setting = self.setting
        known = self.exploration.known(setting)
        if known is not None:
            self._show(known)
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._answer_now(setting)
        else:
            self._task = loop.create_task(self._answer(setting))

    def _stop(self) -> None:
        """Ask for no more; a replication that has begun ends by itself."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _answer(self, setting: Setting) -> None:
        await asyncio.sleep(self.delay)
        self._say(self.seen, "running; this is of the setting before ..." if self.seen else "running ...")
        loop, over = asyncio.get_running_loop(), object()
        try:
            work = self.exploration.work(setting)
            while (seen := await loop.run_in_executor(_pool(), partial(next, work, over))) is not over:
                self._show(seen)
        except CoordsimError as error:
            self._fail(error)
        except Exception as error:
            self._fail(error)
            raise  # to `settled`, or to the log of the kernel

    def _answer_now(self, setting: Setting) -> None:
        try:
            for seen in self.exploration.work(setting):
                self._show(seen)
        except CoordsimError as error:
            self._fail(error)
        except Exception as error:
            self._fail(error)
            raise

    def _show(self, seen: Any) -> None:
        """Show what is known now; None is nothing new."""
        if seen is None:
            return
        self.seen = seen
        with self.figure.batch_update():
            for trace, drawn in zip(self.figure.data, _bars(seen), strict=True):
                trace.update(drawn)
            self.figure.layout.yaxis.categoryarray = self.figure.data[0].y
        self._say(seen, "" if seen.is_final else "refining ...")

    def _say(self, seen: Seen | None, doing: str) -> None:
        told = [] if seen is None else [f"<b>{html.escape(seen.estimates)}</b>", html.escape(seen.change)]
        told += [] if seen is None else [f"WARNING: {html.escape(one)}" for one in seen.warnings]
        self.status.value = "<br>".join([*told, *([f"<i>{doing}</i>"] if doing else [])])

    def _fail(self, error: Exception) -> None:
        if isinstance(error, CoordsimError):
            head, told = "This setting cannot be:", reason(error) if isinstance(error, ScenarioError) else str(error)
        else:  # a mistake of ours: its place is in the traceback
            head, told = "This setting failed:", " ".join(f"{type(error).__name__}: {error}".split())
            told = told if len(told) <= _LONGEST else f"{told[: _LONGEST - 1]}…"
        chart = " The chart is of the last that could." if self.seen else ""
        self.status.value = f"<b>{head}</b> {html.escape(told)}.{chart}"


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the thread in which the replications of all panels run: it is no faster with two."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="explore")


def _needed(name: str) -> tuple[Any, Any]:
    """Return the module of widgets, and an empty chart. Raises ExplorerError where the extra is not installed."""
    try:
        import anywidget  # noqa: F401 plotly's widget needs it, and says so less well
        import ipywidgets
        from plotly.graph_objects import FigureWidget
    except ImportError as error:
        raise ExplorerError(_NO_WIDGETS.format(name=error.name)) from None
    y = axis("", autorange="reversed", categoryorder="array")
    drawn = layout(axis("seconds per task, on the critical path", rangemode="tozero"), y, barmode="group")
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": called,
            "marker": marker,
            "hovertemplate": "%{hovertext}<extra></extra>",
        }
        for called, marker in zip((_AS_IT_IS, _CHANGED), _LOOKS, strict=True)
    ]
    shown = FigureWidget(data=traces, layout=standing_alone(drawn, f"{name}: where the time goes", 460))
    shown._config = shown._config | CONFIG
    return ipywidgets, shown


def _widget(widgets: Any, one: Control) -> Any:
    """Return the widget of a control: a slider where its settings are ordered."""
    kind = widgets.SelectionSlider if one.ordered else widgets.Dropdown
    return kind(
        options=list(one.labels), value=one.labels[one.now], description=one.name, style={"description_width": "initial"},
        layout={"width": "25em", "margin": "2px 16px 2px 2px"},
    )  # fmt: skip


def _bars(seen: Seen) -> Iterator[dict[str, Any]]:
    """Yield the bars of the scenario as it is, and as it is set: the categories that either has any time in, below T_total."""
    names = [
        name for name in CATEGORIES if any(one.categories[name].seconds.value for one in (seen.base, seen.changed))
    ]
    for called, one in ((_AS_IT_IS, seen.base), (_CHANGED, seen.changed)):
        yield _bar(called, [TOTAL, *names], [one.metrics["response_time_mean"], *_seconds(one, names)])


def _seconds(one: Summary, names: Sequence[str]) -> list[Estimate]:
    return [one.categories[name].seconds for name in names]


def _bar(called: str, names: Sequence[str], known: Sequence[Estimate]) -> dict[str, Any]:
    hover = [f"{name}, {called}: {show(one, 's').text}, n = {one.n}" for name, one in zip(names, known, strict=True)]
    values = [one.value if one.value == one.value else None for one in known]
    return {"x": values, "y": list(names), "error_x": whiskers(known), "hovertext": hover}
