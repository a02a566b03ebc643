"""Laws that hold in every scenario: time is conserved, causes come first, and what should change nothing changes nothing."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordsim.models import system
from coordsim.models.scenario import Scenario
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.ledger import STRUCTURE, UNFINISHED, Ledger, Span
from coordsim.sim.engine.source import Document

from .scene import table
from .worlds import Data, times, worlds

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)
EXAMPLES = settings(max_examples=60, suppress_health_check=SLOW)
FEWER = settings(max_examples=40, suppress_health_check=SLOW)


def scenario_of(world: Data) -> Scenario:
    """Return a world as a scenario."""
    return Scenario.of(Document.from_data(world, "world"))


def ulp(time: float) -> float:
    """Return what rounding of the clock may leave between two spans that abut."""
    return float(1e-9 + 8 * np.spacing(time))


@EXAMPLES
@given(worlds())
def test_time_and_tasks_are_conserved(world: Data) -> None:
    """Each task that arrived is in one row; its parts are not negative and sum to the time from its arrival to its end."""
    result = simulate(scenario_of(world))
    rows = result.rows
    assert len(rows) == result.arrived == result.ended + result.unfinished
    assert len(set(rows[:, 0])) == len(rows)
    parts = rows[:, len(Ledger.HEAD) + len(result.facts) :]
    assert (parts >= 0).all()
    np.testing.assert_allclose(parts.sum(axis=1), rows[:, 3] - rows[:, 2], rtol=1e-9, atol=1e-8)
    assert (rows[:, result.columns.index("overlapped")] >= -1e-9).all()
    assert sum(result.failures.values()) == (rows[:, 4] == 1).sum()
    if "tasks" in world["workload"] and "drain" not in world["workload"]:
        assert result.arrived == 12
        assert not result.unfinished


@EXAMPLES
@given(worlds())
def test_no_span_comes_before_its_cause(world: Data) -> None:
    """What a span encloses lies within it, spans of one thread do not overlap, and the critical ones tile the task's time."""
    result = simulate(scenario_of(world), spans="all")
    by_task: dict[int, list[Span]] = defaultdict(list)
    for span in result.spans:
        assert span.start <= span.end
        by_task[span.task].append(span)
    for row in result.rows:
        check_task(row[2], row[3], by_task[int(row[0])], row[4] == UNFINISHED)


def check_task(arrival: float, end: float, spans: list[Span], unfinished: bool) -> None:
    """Check the spans of one task."""
    known = {span.id: span for span in spans}
    slack = ulp(end)
    lanes: dict[int, list[Span]] = defaultdict(list)
    for span in spans:
        assert span.start >= arrival - slack
        parent = known.get(span.parent)
        if parent is not None:
            assert parent.start - slack <= span.start
            assert span.end <= parent.end + slack or parent.lane != span.lane  # a branch may run on after its fork
        if span.category != STRUCTURE:
            lanes[span.lane].append(span)
    for own in lanes.values():
        own.sort(key=lambda span: (span.start, span.end))
        for before, after in itertools.pairwise(own):
            assert before.end <= after.start + slack
    path = sorted(
        (span for own in lanes.values() for span in own if span.critical), key=lambda span: (span.start, span.end)
    )
    edges = [arrival, *(edge for span in path for edge in (span.start, span.end)), end]
    for ended, began in zip(edges[::2], edges[1::2], strict=True):
        assert abs(began - ended) <= slack * (1 + len(path)), (unfinished, ended, began)


@EXAMPLES
@given(worlds())
def test_spans_and_repetition_change_nothing(world: Data) -> None:
    """The same scenario gives the same bytes, with every span kept or none."""
    scenario = scenario_of(world)
    plain = simulate(scenario)
    assert simulate(scenario).rows.tobytes() == plain.rows.tobytes()
    assert simulate(scenario, spans="all").rows.tobytes() == plain.rows.tobytes()


@EXAMPLES
@given(worlds(cancels=False, ties=False))
def test_booking_ahead_is_the_same_as_serving(world: Data) -> None:
    """Pools that answer on arrival and pools that serve by events give every task the same times and parts.

    Two that come at the same instant may change places, so nothing makes that happen here.
    """
    scenario = scenario_of(world)
    booked = simulate(scenario)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "cancels", lambda _scenario: True)
        served = simulate(scenario)
    assert booked.columns == served.columns
    assert booked.rows.shape == served.rows.shape
    one, other = (comparable(result, world["workload"]) for result in (booked, served))
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-8)


def comparable(result: Result, workload: Data) -> np.ndarray:
    """Return the rows; of a run that may be cut off, without what depends on how far branches ran ahead of its end.

    That is what they have begun to count, and the work beside the critical path; seconds on it are exact.
    """
    rows = result.rows.copy()
    if "drain" in workload or "horizon" in workload:
        rows[:, np.isin(result.columns, [*result.facts, "overlapped"])] = 0.0
    return rows


IDLE: Data = {
    "agents": {"idle": {"model": "idle", "prompt": "9 tokens", "memory": "idle", "node": "cloud"}},
    "models": {"idle": {"kind": "llm", "overhead": {"exponential": {"mean": "1 s"}}}},
    "tools": {"idle": {"latency": {"exponential": {"mean": "1 s"}}, "concurrency": 1}},
    "memories": {"idle": {"read": "1 s"}},
    "evaluators": {"idle": {"model": "idle", "accept": 0.5}},
}


@FEWER
@given(worlds())
def test_an_unused_component_changes_nothing(world: Data) -> None:
    """Whatever no task ever comes to leaves every row as it was; so does a patch with nothing in it."""
    plain = simulate(scenario_of(world))
    added = {**world, **{kind: {**world[kind], **idle} for kind, idle in IDLE.items()}}
    assert table(simulate(scenario_of(added))) == table(plain)


@FEWER
@given(world=worlds())
def test_an_empty_patch_changes_nothing(world: Data, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A scenario that extends another by nothing is the other; and it survives being written and read."""
    scenario = scenario_of(world)
    folder = tmp_path_factory.mktemp("extends")
    (folder / "base.yaml").write_text(scenario.to_yaml())
    (folder / "same.yaml").write_text("extends: base.yaml\n")
    from coordsim.models.scenario import load

    same = load(folder / "same.yaml")
    assert same.hash == scenario.hash
    assert simulate(same).rows.tobytes() == simulate(scenario).rows.tobytes()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    services=st.lists(times(0.1, 1.2), min_size=1, max_size=4),
    faster=st.floats(1.0, 10.0),
    which=st.integers(0, 3),
)
def test_a_faster_server_delays_nobody_in_a_tandem(seed: int, services: list[Data], faster: float, which: int) -> None:
    """One class, first come first served, the same draws: when a station is faster, no task leaves later."""
    names = [f"m{number}" for number in range(len(services))]
    which %= len(names)

    def ends(speed: float) -> np.ndarray:
        world = {
            "coordsim": 1,
            "name": "tandem",
            "seed": seed,
            "runtime": "ideal",
            "workload": {"arrivals": {"poisson": "1 / s"}, "tasks": 60},
            "agents": {name: {"model": name} for name in names},
            "models": {
                name: {"kind": "llm", "overhead": service, "speed": speed if number == which else 1.0}
                for number, (name, service) in enumerate(zip(names, services, strict=True))
            },
            "workflow": {
                "start": names[0],
                "steps": {
                    name: {"agent": name, "next": after}
                    for name, after in zip(names, [*names[1:], "done"], strict=True)
                },
            },
        }
        return np.asarray(simulate(scenario_of(world)).rows[:, 3])

    assert (ends(faster) <= ends(1.0) + 1e-9).all()
