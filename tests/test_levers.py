"""Levers: what a scenario has of them, and that multiplying one gives the same law, scaled."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordsim.models.lever_parts import CodecPart, WholePart, scaled
from coordsim.models.levers import Lever, LeverError, lever_at, levers
from coordsim.models.load_factor import load_times
from coordsim.models.scenario import Scenario, load
from coordsim.models.simulate import simulate
from coordsim.models.variants import Variants, scenario_of
from coordsim.sim.engine import units
from coordsim.sim.engine.distributions import DurationDist
from coordsim.sim.engine.spec import Quantity

ROOT = Path(__file__).resolve().parent.parent
FACTORS = (0.5, 0.95, 1.2, 3.0)
FAMILIES: dict[str, Any] = {
    "constant": "250 ms",
    "uniform": {"uniform": {"low": "0 s", "high": "1.5 s"}},
    "exponential": {"exponential": {"mean": "70 ms"}},
    "lognormal by quantiles": {"lognormal": {"median": "350 ms", "p95": "1.4 s"}},
    "lognormal by moments": {"lognormal": {"mean": "350 ms", "cv": 2}},
    "gamma by mean": {"gamma": {"mean": "2 s", "cv": 0.5}},
    "gamma by scale": {"gamma": {"shape": 3, "scale": "20 ms"}},
    "weibull by scale": {"weibull": {"shape": 0.7, "scale": "1 s"}},
    "weibull by mean": {"weibull": {"shape": 1.5, "mean": "1 s"}},
    "pareto": {"pareto": {"minimum": "100 ms", "shape": 1.5}},
    "hyperexponential by cv": {"hyperexponential": {"mean": "1 s", "cv": 3}},
    "hyperexponential by phases": {
        "hyperexponential": {"phases": [{"weight": 9, "mean": "1 s"}, {"weight": 1, "mean": "9 s"}]}
    },
    "values": {"empirical": {"values": ["1 s", "2 s", "7 s"], "weights": [1, 5, 2]}},
    "quantiles": {"empirical": {"quantiles": {"0 %": "0 s", "50 %": "1 s", "95 %": "2 s", "100 %": "9 s"}}},
    "mixture": {
        "mixture": [
            {"weight": 3, "of": {"exponential": {"mean": "1 s"}}},
            {"weight": 1, "of": {"uniform": {"low": "1 s", "high": "2 s"}}},
        ]
    },
    "shifted": {"shifted": {"by": "300 ms", "of": {"exponential": {"mean": "100 ms"}}}},
    "truncated": {
        "truncated": {"low": "50 ms", "high": "2 s", "of": {"lognormal": {"median": "350 ms", "p95": "1.4 s"}}}
    },
    "truncated mixture": {
        "truncated": {
            "high": "3 s",
            "of": {"mixture": [{"weight": 1, "of": {"exponential": {"mean": "1 s"}}}, {"weight": 1, "of": "500 ms"}]},
        }
    },
}
CHAIN = """
coordsim: 1
name: chain
seed: 5
runtime: ideal
workload: {arrivals: {poisson: 2 / s}, tasks: 200, warmup: 0 s}
tools:
  search: {latency: {lognormal: {median: 300 ms, p95: 1 s}}, invoke: 20 ms, concurrency: 2}
  idle: {latency: 1 s}
models: {llm: {kind: llm, concurrency: 2, prefill: 1 ms / token, decode: 20 ms / token}}
agents: {a: {model: llm, prompt: 50 tokens, output: {exponential: {mean: 10 tokens}}}}
workflow:
  start: ask
  steps:
    ask: {agent: a, next: look}
    look: {tool: search, next: person}
    person: {human: {uniform: {low: 1 s, high: 2 s}}}
"""


def drawn(written: Any, seed: int = 11, n: int = 500) -> np.ndarray:
    """Return draws of a distribution as YAML writes it."""
    return DurationDist.model_validate(written).sample(np.random.default_rng(seed), n)


@pytest.fixture
def chain() -> Scenario:
    """Return a scenario of a model, a tool and a person."""
    return Scenario.from_text(CHAIN)


def found(scenario: Scenario, name: str) -> Lever:
    """Return a lever by its name."""
    lever = levers(scenario).by_name(name)
    assert lever is not None, [one.name for one in levers(scenario).found]
    return lever


@pytest.mark.parametrize("family", FAMILIES)
def test_a_scaled_distribution_gives_the_same_draws_times_the_factor(family: str) -> None:
    """By the same random numbers, each draw is the factor times what it was, to the rounding of floats."""
    draw = DurationDist.model_validate(FAMILIES[family])
    for factor in FACTORS:
        again = scaled(draw, factor, Quantity(units.DURATION))
        np.testing.assert_allclose(drawn(again), factor * drawn(FAMILIES[family]), rtol=1e-9)


def test_values_of_a_file_are_written_out_with_how_often_they_come(tmp_path: Path) -> None:
    """Scaled, a file of samples gives the same draws times the factor, though it is no file any more."""
    path = tmp_path / "times.csv"
    path.write_text("ms\n" + "\n".join(str(one) for one in (10, 20, 20, 70, 30, 10, 10)) + "\n", encoding="utf-8")
    given = {"empirical": {"file": str(path), "unit": "ms"}}
    again = scaled(DurationDist.model_validate(given), 1.3, Quantity(units.DURATION))
    assert again["empirical"]["weights"] == [3.0, 2.0, 1.0, 1.0]
    np.testing.assert_allclose(drawn(again), 1.3 * drawn(given), rtol=1e-12)


def test_arrivals_by_times_of_a_file_come_as_often_as_the_load_says(tmp_path: Path, chain: Scenario) -> None:
    """Numbers in a file carry no unit, and are scaled with the load all the same."""
    path = tmp_path / "gaps.csv"
    path.write_text("s\n0.2\n0.4\n0.9\n", encoding="utf-8")
    given = {"empirical": {"file": str(path), "unit": "s"}}
    arrivals = chain.workload.arrivals.model_validate({"renewal": {"interarrival": given}})
    scenario = chain.model_copy(update={"workload": chain.workload.model_copy(update={"arrivals": arrivals})})
    twice = json.loads(dict(load_times(scenario, 2.0))["workload.arrivals"])
    np.testing.assert_allclose(drawn(twice["renewal"]["interarrival"]), drawn(given) / 2, rtol=1e-12)


def test_levers_are_found_and_named(chain: Scenario) -> None:
    """A component's times are one lever by its short name; what no task uses is none, and said."""
    known = levers(chain)
    names = {one.name: one for one in known.found}
    assert names["search"].members == ("tools.search.latency", "tools.search.invoke")
    assert names["llm"].members == ("models.llm.prefill", "models.llm.decode")
    assert (names["models.llm.decode"].kind, names["models.llm.decode"].now) == ("time", "20 ms / token")
    assert (names["tools.search.concurrency"].kind, names["tools.search.concurrency"].is_whole) == ("capacity", True)
    assert (names["load"].kind, names["load"].now) == ("load", "2 / s")
    assert names["workflow.steps.person.human"].kind == "time"
    assert "`tools.idle` is no lever: no task uses it" in known.notes
    assert not any("idle" in name for name in names)


def test_no_two_levers_apart_change_the_same(chain: Scenario) -> None:
    """Levers that may vary together have no path in common."""
    paths = [path for one in levers(chain).apart for path in one.paths]
    assert len(paths) == len(set(paths))
    assert "models.llm.decode" in paths


def test_a_component_divides_its_bandwidths() -> None:
    """A link twice as slow has twice the latency, and half the bandwidth."""
    scenario = Scenario.from_text(
        CHAIN
        + "network: {nodes: {app: {}, far: {}}, links: [{between: [app, far], latency: 4 ms, bandwidth: 100 MB/s}]}\n"
        + "orchestrator: {node: app}\n"
    )
    changed = dict(found(scenario, "network.app-far").at(2.0))
    assert {path: json.loads(text) for path, text in changed.items()} == {
        "network.links.0.latency": {"constant": "8 ms"},
        "network.links.0.bandwidth": "50 MB/s",
    }


def test_more_speed_is_more_and_not_more_time() -> None:
    """A speed is a rate: a per cent more of it takes time away, whatever its unit."""
    scenario = load(ROOT / "scenarios" / "quickstart.yaml")
    kinds = {path: lever_at(scenario, f"models.llm.{path}").kind for path in ("speed", "decode", "replicas")}
    assert kinds == {"speed": "rate", "decode": "time", "replicas": "capacity"}


def test_whole_numbers_move_by_whole_steps(chain: Scenario) -> None:
    """A step of one where the factor asks for less; none below what the field allows; shares end at 100 %."""
    lever = found(chain, "tools.search.concurrency")
    assert (lever.reach(0.95), lever.reach(1.05), lever.reach(2.0)) == (0.5, 1.5, 2.0)
    assert lever.at(1.5) == [("tools.search.concurrency", "3")]
    replicas = found(chain, "models.llm.replicas")
    assert replicas.reach(0.95) == 1.0
    share = lever_at(
        Scenario.from_text(CHAIN.replace("person: {human", "person: {skip: 80 %, human")), "workflow.steps.person.skip"
    )
    assert share.reach(2.0) == pytest.approx(1.25)


def test_a_path_that_no_factor_changes_is_refused(chain: Scenario) -> None:
    """Text, zero and a path that is not there are told apart, the last with what was probably meant."""
    with pytest.raises(LeverError, match="must be an amount"):
        lever_at(chain, "agents.a.model")
    with pytest.raises(LeverError, match="is 0, which no factor changes"):
        lever_at(chain, "models.llm.tokenize")
    with pytest.raises(LeverError, match=r"did you mean `models\.llm\.decode`"):
        lever_at(chain, "models.llm.decod")


def test_scaling_all_times_and_the_arrivals_scales_every_response(chain: Scenario) -> None:
    """With every time twice as long and tasks half as often, each task takes twice as long: nothing else is in time."""
    times = [one for one in levers(chain).apart if one.kind == "time"]
    assert {one.name for one in times} == {"llm", "search", "orchestrator.dispatch", "workflow.steps.person.human"}
    changes = [change for one in times for change in one.at(2.0)]
    changes += [one for one in load_times(chain, 0.5) if one[0] != "workload.tasks"]
    key = Variants(chain).key(changes)
    slow, base = simulate(scenario_of(key), 5, 0), simulate(chain, 5, 0)
    assert base.arrived == slow.arrived == 200
    np.testing.assert_allclose(slow.response_times, 2 * base.response_times, rtol=1e-9)


SHIPPED = sorted(one.relative_to(ROOT).as_posix() for one in (ROOT / "scenarios").rglob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_lever_of_a_scenario_that_ships_scales_what_it_says(name: str) -> None:
    """All levers at once near 110 % make a valid scenario, in which each part has the factor times what it was.

    First those that may vary together, then all single ones: of a whole component each part is one of the latter.
    """
    scenario = load(ROOT / name)
    known = levers(scenario)
    assert len({one.name for one in known.found}) == len(known.found)
    assert known.by_name("load") is not None
    variants, at_once = Variants(scenario), {one: one.reach(1.1) for one in known.apart}
    assert variants.key([change for one, at in at_once.items() for change in one.at(at)])
    reached = {one: one.reach(1.1) for one in known.found if not one.members}
    variant = scenario_of(variants.key([change for one, at in reached.items() for change in one.at(at)]))
    for one, at in reached.items():
        for part, power in one.parts:
            # What is several amounts tells so many times what it is, and that is 1 in each scenario.
            if isinstance(part, WholePart) or (part.dimension is not None and not isinstance(part, CodecPart)):
                now = lever_at(variant, part.path).amount if part.path != "workload.arrivals" else load_of(variant)
                assert now == pytest.approx(part.amount * at**power, rel=1e-9), part.path


def load_of(scenario: Scenario) -> float:
    """Return what the lever `load` of a scenario says it is."""
    return found(scenario, "load").amount


@pytest.mark.parametrize(
    ("name", "lever"),
    [
        ("gpu-resident", "models.llm.concurrency"),
        ("multimodal-copilot", "encoders.siglip.replicas"),
        ("voice-assistant", "modalities.speech.amount"),
    ],
)
def test_what_another_field_tells_is_no_lever(root: Path, name: str, lever: str) -> None:
    """Of a model with a shape the calls at once, of an encoder on a model's device its slots, of a stream its amount."""
    names = [one.name for one in levers(load(root / "scenarios" / f"{name}.yaml")).found]
    assert "models.llm.batching.sequences" in names
    assert lever not in names


@pytest.mark.parametrize("path", ["seed", "workload.tasks", "confidence"])
def test_what_is_run_is_no_part_of_the_system(chain: Scenario, path: str) -> None:
    """The seed, the length of a run and how it is measured are amounts, and no levers."""
    with pytest.raises(LeverError, match="is no part of the system"):
        lever_at(chain, path)
