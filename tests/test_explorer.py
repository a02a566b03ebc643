"""`explore`: controls that a scenario really has, answers coarse and then final, work that can be left, and widgets that follow.

In a kernel it is tests/test_notebooks.py that moves the sliders, in a browser tests/test_lab.py.
"""

import asyncio
import builtins
import gc
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import pytest

import coordsim as cs
from coordsim.explorer import ExplorerError
from coordsim.models.explore import Exploration, Seen, Setting
from coordsim.models.explore_controls import AS_IT_IS, Control, controls_of
from coordsim.sim.engine.errors import Problem

SPEED = "inference speed"


@pytest.fixture(scope="module")
def scenario() -> cs.Scenario:
    """Return a small copilot, with coarse answers of 20 tasks."""
    return cs.load("modality-scaling").replace("workload.tasks", 40)


def explored(scenario: cs.Scenario, replications: int = 3) -> Exploration:
    """Return an exploration of the controls that are found."""
    return Exploration(scenario, controls_of(scenario), replications)


def at(exploration: Exploration, **labels: str) -> Setting:
    """Return the setting with some controls, by the last word of their names, at a label."""
    return tuple(
        one.place(labels[key]) if (key := one.name.rpartition(".")[2].rpartition(" ")[2]) in labels else one.now
        for one in exploration.controls
    )


def answers(exploration: Exploration, setting: Setting) -> list[Seen]:
    """Return all that is told of a setting, one after the other."""
    return [one for one in exploration.work(setting) if one is not None]


@pytest.fixture
def panel() -> Iterator[Callable[..., Any]]:
    """Return `explore`, whose panels are closed in the end."""
    pytest.importorskip("ipywidgets", reason="widgets are an extra: pip install 'coordsim[notebook]'")
    pytest.importorskip("anywidget", reason="widgets are an extra: pip install 'coordsim[notebook]'")
    made: list[Any] = []

    def make(*args: Any, **more: Any) -> Any:
        made.append(cs.explore(*args, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


# ---------------------------------------------------------------------------------------------------------------------
# Controls


def test_the_controls_are_what_the_scenario_has(scenario: cs.Scenario) -> None:
    """A copilot has modalities to move; the quickstart, which perceives nothing, has none."""
    found = [one.name for one in controls_of(scenario)]
    assert found == [SPEED, "steps", "modalities", "models.llm.replicas", "runtime"]
    assert "modalities" not in [one.name for one in controls_of(cs.load("quickstart"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "modality-scaling", "llama-on-h100", "research-team", "retry-storm"])
def test_the_setting_at_now_is_the_scenario_and_no_other_is(name: str) -> None:
    """Each control has exactly one setting that changes nothing, and every other gives another scenario that loads."""
    loaded = cs.load(name)
    for one in controls_of(loaded):
        assert [place for place, option in enumerate(one.options) if not option.changes] == [one.now]
        assert len(set(one.labels)) == len(one.labels)
        exploration = Exploration(loaded, [one])
        said = [exploration.scenario_at((place,)).to_data() for place in range(len(one.options))]
        assert [data == said[one.now] for data in said].count(True) == 1


def test_a_faster_model_is_a_factor_on_what_each_is() -> None:
    """Models of different speed keep their ratio."""
    loaded = cs.load("research-team").replace("models.opus.speed", 3)
    (speed,) = (one for one in controls_of(loaded) if one.name == SPEED)
    made = Exploration(loaded, [speed]).scenario_at((speed.place("4x"),))
    assert (made.models["opus"].speed, made.models["sonnet"].speed) == (12, 4)


def test_a_drawn_number_of_steps_stays_drawn_until_it_is_moved() -> None:
    """The quickstart's researcher takes a geometric number of turns, which is no setting of a slider but its first one."""
    (steps,) = (one for one in controls_of(cs.load("quickstart")) if one.name == "steps")
    assert (steps.labels[0], steps.now) == (AS_IT_IS, 0)


def test_controls_that_are_asked_for_come_in_their_order(scenario: cs.Scenario) -> None:
    """A name without values has its own, a name with values those, and a path what it is given."""
    made = controls_of(scenario, {"runtime": None, "steps": [2, 8], "encoders.eye.replicas": [1, 4], "seed": [1, 2]})
    assert [one.name for one in made] == ["runtime", "steps", "encoders.eye.replicas", "seed"]
    assert [one.labels for one in made[1:]] == [("2", "4", "8"), ("1", "4"), (AS_IT_IS, "1", "2")]
    assert [one.labels[one.now] for one in made[1:]] == ["4", "4", AS_IT_IS]
    assert controls_of(scenario, ["steps", "runtime"]) == controls_of(scenario, {"steps": None, "runtime": None})
    assert controls_of(scenario, "steps") == controls_of(scenario, ["steps"])


@pytest.mark.parametrize(
    ("asked", "kind", "told"),
    [
        ({"step": None}, ValueError, "did you mean `steps`"),
        (["step"], ValueError, "did you mean `steps`"),
        ([3], TypeError, r"must be names, or a mapping of names to values such as \{'steps': \[2, 4\]\}; got 3"),
        (3, TypeError, "must be names, or a mapping .*; got 3"),
        ({"steps": []}, ValueError, "must have a list of values"),
        ({"steps": "1..4"}, ValueError, "must have a list of values"),
        ({"models.llm.replica": [1, 2]}, cs.ScenarioError, "did you mean `replicas`"),
        ({"models.llm.replicas": [1, -2]}, cs.ScenarioError, "replicas"),
        ({"seed": [1, "1"]}, ValueError, "`seed` has two settings that are shown as `1`; give each value once"),
        ({SPEED: [2, 2.0000001]}, ValueError, "two settings that are shown as `2x`"),
    ],
)
def test_a_control_that_cannot_be_is_refused(
    scenario: cs.Scenario, asked: Any, kind: type[Exception], told: str
) -> None:
    """Names, values and paths are checked before anything runs, and the remedy is told."""
    with pytest.raises(kind, match=told):
        controls_of(scenario, asked)


# ---------------------------------------------------------------------------------------------------------------------
# Answers


def test_a_coarse_answer_comes_first_and_the_last_is_the_run(scenario: cs.Scenario) -> None:
    """The final numbers are exactly those of `simulate` with as many replications."""
    exploration = explored(scenario)
    told = answers(exploration, setting := at(exploration, speed="8x"))
    assert [(one.is_coarse, one.changed.replications, one.is_final) for one in told] == [
        (True, 2, False), (False, 2, False), (False, 3, True),
    ]  # fmt: skip
    run = cs.simulate(scenario.replace("models.llm.speed", 8), replications=3)
    assert told[-1].changed.metrics["response_time_mean"] == run.estimates.metrics["response_time_mean"]
    assert exploration.known(setting) is told[-1]


def test_differences_are_paired(scenario: cs.Scenario) -> None:
    """They are the means of differences of replications, and known better than the two numbers are."""
    exploration = explored(scenario)
    seen = answers(exploration, at(exploration, runtime="ideal"))[-1]
    before, after = (np.asarray(one.samples["response_time_mean"]) for one in (seen.base, seen.changed))
    difference = seen.differences["response_time_mean"]
    assert difference.value == pytest.approx(float((after - before).mean()), rel=1e-12)
    spread = (after - before).std(ddof=1) / math.sqrt(3)
    assert difference.half_width == pytest.approx(4.302653 * spread, rel=1e-6)  # t of 2 degrees of freedom at 97.5 %
    whole = seen.base.metrics["response_time_mean"].half_width + seen.changed.metrics["response_time_mean"].half_width
    assert difference.half_width < whole


def test_the_line_of_status_has_intervals_and_counts(scenario: cs.Scenario) -> None:
    """T_total, p95 and the share of coordination each with ±, and how many replications of how many."""
    exploration = explored(scenario)
    first, *_, last = answers(exploration, at(exploration, speed="8x"))
    assert first.estimates.endswith("coarse: 2 replications of 20 tasks")
    assert last.estimates.endswith("; 3 of 3 replications")
    assert last.estimates.count("±") == 3
    assert last.change.startswith("Against the scenario as it is: T_total falls by ")
    assert answers(exploration, exploration.now)[-1].change == "This is the scenario as it is."


def test_what_is_not_told_apart_is_not_called_a_fall(scenario: cs.Scenario) -> None:
    """A change that changes no task has no difference, and the line says none."""
    controls = controls_of(scenario, {"slo": [{"p95": "100 s"}]})
    exploration = Exploration(scenario, controls, 2)
    assert "no difference of T_total is told" in answers(exploration, (1,))[-1].change


def test_coming_back_runs_nothing(scenario: cs.Scenario) -> None:
    """An answer that is final is told at once, in one piece."""
    exploration = explored(scenario)
    setting = at(exploration, speed="4x")
    last = answers(exploration, setting)[-1]
    runs = exploration.runs
    assert answers(exploration, setting) == [last]
    assert answers(exploration, exploration.now)[-1].is_final  # all of its replications ran for the comparison
    assert exploration.runs == runs


def test_work_that_was_left_goes_on_where_it_was(scenario: cs.Scenario) -> None:
    """Leaving a setting for another and coming back costs no replication twice, and gives the same numbers."""
    exploration, whole = explored(scenario), explored(scenario)
    setting = at(exploration, speed="2x")
    expected = answers(whole, setting)[-1]
    left = exploration.work(setting)
    while (seen := next(left)) is None or seen.is_coarse:
        pass
    left.close()
    answers(exploration, at(exploration, steps="1"))
    found = answers(exploration, setting)[-1]
    assert found.changed.metrics == expected.changed.metrics
    assert exploration.runs == whole.runs + 2 + 3  # the other setting: two coarse ones, three whole ones


def test_a_scenario_without_a_number_of_tasks_has_no_coarse_answer() -> None:
    """What ends at a horizon is run as it is."""
    loaded = cs.load("capacity/mmc").replace_all({"workload.tasks": None, "workload.horizon": "60 s"})
    assert [one.is_coarse for one in answers(Exploration(loaded, controls_of(loaded), 2), (0, 0, 0, 0))] == [False]


def test_an_unstable_queue_is_told() -> None:
    """Too few servers have a warning, the first coarse answer included."""
    loaded = cs.load("capacity/mmc").replace("workload.tasks", 200)
    exploration = Exploration(loaded, controls_of(loaded, {"models.server.replicas": [4, 12]}), 2)
    assert "cannot be stable" in " ".join(answers(exploration, (0,))[0].warnings)


def test_a_remedy_names_the_scenario_as_it_is_set() -> None:
    """A warning's command runs as it stands: the name that `load` took, and the values that the controls have."""
    loaded = cs.load("capacity/mmc").replace("workload.tasks", 400)
    exploration = Exploration(loaded, controls_of(loaded, {"models.server.replicas": [10, 12]}), 2)
    for setting, name in ((0,), "capacity/mmc"), ((1,), "capacity/mmc"):
        told = " ".join(answers(exploration, setting)[-1].warnings)
        assert "SCENARIO" not in told
        moved = "" if setting == exploration.now else f" --set models.server.replicas={(10, 12)[setting[0]]}"
        assert f"`coordsim run {name} --set workload.tasks=400{moved} --" in told


def test_fewer_than_two_replications_have_no_interval(scenario: cs.Scenario) -> None:
    """One is refused; a scenario that says one has two."""
    with pytest.raises(ValueError, match="at least 2"):
        explored(scenario, 1)
    assert Exploration(scenario.replace("replications", 1), ())._stages[-1].replications == 2


# ---------------------------------------------------------------------------------------------------------------------
# Widgets


@pytest.mark.slow  # the first widget of a process takes seconds to import
def test_without_an_event_loop_a_move_is_answered_at_once(scenario: cs.Scenario, panel: Callable[..., Any]) -> None:
    """In a plain script the next line sees the answer: bars, hover text and status."""
    made = panel(scenario, replications=2)
    before = tuple(made.figure.data[1].x)
    assert before == tuple(made.figure.data[0].x)
    made.controls[SPEED].value = "8x"
    base, changed = made.figure.data
    assert changed.x[0] == made.seen.changed.metrics["response_time_mean"].value < base.x[0] == before[0]
    assert changed.y == base.y
    assert changed.error_x["array"][0] == pytest.approx(made.seen.changed.metrics["response_time_mean"].half_width)
    assert "2 of 2 replications" in made.status.value
    made.reset()
    assert tuple(made.figure.data[1].x) == before


def test_only_the_place_where_a_slider_rests_is_run(scenario: cs.Scenario, panel: Callable[..., Any]) -> None:
    """Three moves without a rest cost what one costs."""

    async def move() -> Any:
        made = panel(scenario, replications=2, delay=0.05)
        await made.settled()
        runs = made.exploration.runs
        for label in ("2x", "4x", "8x"):
            made.controls[SPEED].value = label
        await made.settled()
        return made, made.exploration.runs - runs

    made, cost = asyncio.run(move())
    assert cost == 2 + 2  # coarse and whole
    assert made.seen.is_final
    assert made.exploration.known(at(made.exploration, speed="2x")) is None


def test_a_move_stops_what_runs(scenario: cs.Scenario, panel: Callable[..., Any]) -> None:
    """Replications that were not begun are not run, and the last setting is answered."""

    async def move() -> Any:
        made = panel(scenario, replications=200, delay=0)
        while made.seen is None or made.seen.is_coarse:
            await asyncio.sleep(0.01)
        made._stop()
        await asyncio.sleep(0)
        return made

    made = asyncio.run(move())
    assert 0 < made.exploration.runs < 200


def test_parts_that_do_not_go_together_are_told(scenario: cs.Scenario, panel: Callable[..., Any]) -> None:
    """The status says which setting cannot be and why, escaped, and the chart stays."""
    controls = {
        "encoders.eye.node": ["model"],
        "network.nodes": [{"site": {}, "cluster": {}, "encoders": {}, "model": {}}],
    }
    made = panel(scenario, controls, replications=2)
    before = made.figure.data[1].x

    def refuse(_setting: Setting) -> NoReturn:
        raise cs.ScenarioError([Problem("network", "must be <b>")], "a test")

    made.exploration.work = refuse
    made.controls["encoders.eye.node"].value = "model"
    assert "This setting cannot be" in made.status.value
    assert "network: must be &lt;b&gt;" in made.status.value
    assert made.figure.data[1].x == before


class Broken(Exception):
    """An error that nobody expects."""


def broken(_setting: Setting) -> NoReturn:
    """Fail as a mistake in the program does."""
    raise Broken("<b> " + "x" * 1000)


def test_an_error_that_nobody_expects_is_shown_and_raised(scenario: cs.Scenario, panel: Callable[..., Any]) -> None:
    """Nothing says that it is running for ever: the status has the error, short and escaped, and `settled` raises it."""

    async def move() -> Any:
        made = panel(scenario, replications=2, delay=0)
        await made.settled()
        made.exploration.work = broken
        made.controls[SPEED].value = "8x"
        with pytest.raises(Broken):
            await made.settled()
        return made

    made = asyncio.run(move())
    assert made.status.value.startswith("<b>This setting failed:</b> Broken: &lt;b&gt; xxx")
    assert "running" not in made.status.value
    assert len(made.status.value) < 350
    with pytest.raises(Broken):  # without an event loop the line that moves it raises
        made.controls[SPEED].value = "4x"


def test_putting_back_is_one_move(scenario: cs.Scenario, panel: Callable[..., Any]) -> None:
    """No setting on the way, with some controls back and others not yet, is run."""
    made = panel(scenario, ["steps", SPEED], replications=2)
    made.controls[SPEED].value = "8x"
    made.controls["steps"].value = "2"
    runs = made.exploration.runs
    made.reset()
    assert made.setting == made.exploration.now == made.seen.setting
    assert made.exploration.runs == runs


def test_panels_share_a_thread_and_a_closed_one_is_let_go(scenario: cs.Scenario, panel: Callable[..., Any]) -> None:
    """Five panels have one thread; a closed one answers no move, may be closed again, and its results go with it."""

    async def make() -> list[Any]:
        made = [cs.explore(scenario, replications=2, delay=0) for _ in range(5)]
        for one in made:
            await one.settled()
        return made

    panel(scenario, replications=2).close()  # skips without the extra
    made = asyncio.run(make())
    assert sum(one.name.startswith("explore") for one in threading.enumerate()) <= 1
    kept, runs = made[0].controls[SPEED], made[0].exploration.runs
    for one in made:
        one.close()
        one.close()
    kept.value = "8x"
    made[0].reset()
    assert made[0].exploration.runs == runs
    gone = [weakref.ref(one.exploration) for one in made]
    del made, one
    gc.collect()
    assert [one() for one in gone] == [None] * 5


def test_nothing_of_a_panel_is_sent_anywhere(scenario: cs.Scenario, panel: Callable[..., Any]) -> None:
    """The chart has no button that would send it to a server."""
    assert panel(scenario, replications=2).figure._config["showSendToCloud"] is False


def test_without_the_extra_the_error_names_it(scenario: cs.Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no widgets reads what to install."""
    real = builtins.__import__

    def missing(name: str, *args: Any, **more: Any) -> Any:
        if name == "ipywidgets":
            raise ImportError(name=name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ExplorerError, match=r"`explore` needs \w+: try `pip install 'coordsim\[notebook\]'`"):
        cs.explore(scenario)


@pytest.mark.parametrize(("given", "kind"), [("quickstart", TypeError), (None, TypeError)])
def test_what_is_no_scenario_is_refused(given: Any, kind: type[Exception]) -> None:
    """A name is not loaded by itself; the message says how."""
    with pytest.raises(kind, match=r"such as `coordsim\.load"):
        cs.explore(given)


def test_a_control_knows_its_labels() -> None:
    """A label that is none of them is refused with theirs."""
    with pytest.raises(ValueError, match="must be one of"):
        Control("steps", (), 0).place("3")
