"""Bounds of steps that take in modalities, run teams and overlap stages: against what the simulator counts."""

import numpy as np
import pytest

from coordsim.models.bounds import bounds
from coordsim.models.scenario import Scenario
from coordsim.models.simulate import simulate
from coordsim.sim.engine.source import Document

from .scene import Data, merged
from .test_bounds import RUNTIMES, counted, said

REPLICATIONS = 4
# One task at a time, so that nobody waits; every component has a limit, so that it is counted.
WORLD: Data = {
    "coordsim": 1,
    "name": "counted",
    "seed": 5,
    "workload": {
        "arrivals": {"deterministic": "0.001 / s"},
        "tasks": 300,
        "request": {"uniform": {"low": "50 tokens", "high": "450 tokens"}},
    },
    "orchestrator": {"node": "app", "dispatch": "2 ms", "concurrency": 99, "assemble": "1 us / token"},
    "network": {
        "nodes": {"app": {"cores": 64}, "gpu": {"cores": 64}, "far": {}, "phone": {}},
        "header": "300 B",
        "links": [
            {"between": ["app", "gpu"], "latency": "2 ms", "bandwidth": "1 MB/s"},
            {"between": ["app", "far"], "latency": "30 ms", "overhead": "1 ms", "bandwidth": "2 MB/s"},
            {"between": ["phone", "app"], "latency": "20 ms", "bandwidth": "4 MB/s"},
        ],
    },
    "models": {
        "llm": {
            "kind": "llm",
            "node": "gpu",
            "replicas": 99,
            "prefill": "200 us / token",
            "decode": "9 ms / token",
            "tokenize": "3 us / token",
            "prefix_cache": "60 %",
            "overhead": "20 ms",
        },
        "api": {
            "kind": "api",
            "node": "far",
            "overhead": "100 ms",
            "new": "50 us / token",
            "cached": "5 us / token",
            "output": "5 ms / token",
            "cache_hit": "50 %",
            "limits": {"requests": "90 / s", "tokens": "90k tokens / s", "concurrency": 99},
        },
    },
    "agents": {
        "a": {
            "model": "llm",
            "prompt": "200 tokens",
            "output": {"uniform": {"low": "60 tokens", "high": "120 tokens"}},
        },
        "b": {"model": "api", "prompt": "100 tokens", "output": {"uniform": {"low": "20 tokens", "high": "60 tokens"}}},
    },
    "tools": {"shell": {"latency": "700 ms", "concurrency": 99, "result": "80 tokens"}},
    "evaluators": {"critic": {"model": "llm", "prompt": "50 tokens", "output": "10 tokens", "accept": "40 %"}},
}
WORKERS: Data = {
    "think": {"agent": "a"},
    "write": {"agent": "b"},
    "work": {"agent": "b", "tools": {"shell": 1}, "repeat": 2, "next": "report"},
    "report": {"agent": "a"},
}
UNIFORM = {"uniform": {"low": 1, "high": 3}}
TEAMS: dict[str, Data] = {
    "single": {"team": "single", "members": {"agent": "work"}},
    "chain": {"team": "chain", "members": {"one": "think", "two": "work", "three": "write"}},
    "private chain": {
        "team": "chain",
        "members": {"one": "think", "two": "work"},
        "context": "private",
        "message": "answer",
    },
    "supervisor": {"team": "supervisor", "members": {"lead": "think", "worker": "work"}, "size": 3, "rounds": UNIFORM},
    "fresh": {
        "team": "supervisor",
        "members": {"lead": "think", "worker": "work"},
        "size": 3,
        "rounds": 2,
        "fresh": True,
        "message": "answer",
        "stop": "critic",
    },
    "shared supervisor": {
        "team": "supervisor",
        "members": {"lead": "think", "worker": "write"},
        "size": 2,
        "context": "shared",
    },
    "hierarchy": {
        "team": "hierarchy",
        "members": {"lead": "think", "worker": "write"},
        "depth": 2,
        "fanout": 2,
        "rounds": 2,
    },
    "debate": {
        "team": "debate",
        "members": {"debater": "think", "judge": "write"},
        "size": 3,
        "rounds": UNIFORM,
        "stop": "30 %",
        "message": "40 tokens",
    },
    "blackboard": {"team": "blackboard", "members": {"member": "write", "controller": "think"}, "size": 3, "rounds": 2},
    "swarm": {"team": "swarm", "members": {"x": "think", "y": "write"}, "hand_off": "60 %"},
    "private swarm": {
        "team": "swarm",
        "members": {"x": "think", "y": "write"},
        "hand_off": "60 %",
        "context": "private",
        "turns": 4,
    },
    "graph": {
        "team": "graph",
        "members": {"x": "think", "y": "write", "z": "work"},
        "nodes": {"start": "x", "left": "y", "right": "z", "end": "x"},
        "edges": [["start", "left"], ["start", "right"], ["left", "end"], ["right", "end"]],
        "start": "start",
    },
    "cyclic": {
        "team": "graph",
        "members": {"x": "think", "y": "write"},
        "nodes": {"ask": "x", "answer": "y"},
        "edges": [["ask", "answer"], ["answer", "ask"]],
        "start": "ask",
        "turns": 4,
    },
}
MEDIA: Data = {
    "encoders": {
        "eye": {"node": "gpu", "concurrency": 99, "latency": "50 ms", "per_unit": "30 ms"},
        "ear": {"model": "llm", "latency": "40 ms", "per_unit": "10 ms"},
    },
    "modalities": {
        "image": {
            "kind": "vision",
            "node": "phone",
            "amount": {"uniform": {"low": 1, "high": 3}},
            "bytes": "200 kB",
            "tokens": "150 tokens",
            "representation": "50 kB",
            "preprocess": {"latency": "5 ms", "per_unit": "3 ms"},
            "encoder": "eye",
            "errors": "15 %",
        },
        "voice": {
            "kind": "audio",
            "node": "phone",
            "amount": 6,
            "bytes": "8 kB",
            "tokens": "12 tokens",
            "preprocess": {"latency": "20 ms", "on": "gpu"},
            "encoder": "ear",
        },
        "record": {"kind": "structured", "node": "far", "bytes": "10 kB", "tokens": "300 tokens"},
    },
}
ALL = ["image", "voice", "record"]
AGAIN = {"answer": {"agent": "b", "next": {"look": 3, "done": 1}}}
LOOKS: dict[str, tuple[Data, Data]] = {
    "barrier": ({"perceive": ALL, "model": "llm", "partial": "retry"}, {}),
    "degrade": ({"perceive": ALL, "model": "llm", "partial": "degrade"}, {}),
    "pairwise": (
        {"perceive": ALL, "model": "llm", "align": {"pairwise": {"each": "30 ms"}}, "copies": 2, "partial": "retry"},
        {},
    ),
    "late": ({"perceive": ALL, "fusion": {"late": {"agent": "a"}}, "partial": "retry"}, {}),
    "tree": ({"perceive": ALL, "model": "llm", "fusion": {"hierarchical": {"each": "40 ms"}}, "partial": "retry"}, {}),
    "patience": (
        {
            "perceive": ["voice", "record"],
            "model": "api",
            "align": {"barrier": {"patience": "20 ms"}},
            "late": "degrade",
        },
        {},
    ),
    "all": ({"perceive": ["image", "record"], "model": "api", "partial": "retry"}, AGAIN),
    "last": ({"perceive": ["image", "record"], "model": "api", "partial": "retry", "keep": {"last": 2}}, AGAIN),
    "summary": ({"perceive": ["record"], "model": "api", "keep": {"summary": "100 tokens"}}, AGAIN),
}
# Streams and stages: what goes through each is constant, so that no piece waits for another by chance.
SPEECH: Data = {
    "modalities": {
        "speech": {
            "kind": "audio",
            "node": "phone",
            "bytes": "2 kB",
            "tokens": "5 tokens",
            "encoder": "eye",
            "stream": {"rate": "4 / s", "length": "3 s", "jitter": "3 ms", "source": "person"},
        },
    },
    "encoders": {"eye": {"node": "gpu", "concurrency": 99, "latency": "20 ms"}},
    "agents": {"b": {"output": "60 tokens"}},
    "tools": {
        "hear": {"latency": "30 ms", "concurrency": 99, "result": "0 tokens"},
        "speak": {"latency": "40 ms", "concurrency": 99, "result": "0 tokens"},
    },
}
LISTEN = {"listen": "speech"}
PLAY = {"play": "200 ms", "per_unit": "5 ms"}
HEARD = {"tool": "hear", "per_unit": "10 ms", "makes": "8 tokens"}
STAGES: dict[str, Data] = {
    "stream": {"perceive": ["speech", "picture"], "model": "llm"},
    "slow stream": {"perceive": ["speech", "picture"], "model": "api"},
    "streaming": {
        "pipeline": [LISTEN, HEARD, {"agent": "b", "chunk": "12 tokens"}, {"tool": "speak", "per_unit": "1 ms"}, PLAY],
        "endpoint": "300 ms",
    },
    "whole": {
        "pipeline": [LISTEN, HEARD, {"agent": "b", "chunk": "12 tokens"}, {"tool": "speak", "per_unit": "1 ms"}, PLAY],
        "endpoint": "300 ms",
        "streaming": False,
    },
}


def scenario(runtime: str, *patches: Data) -> Scenario:
    """Put a scenario together."""
    data = WORLD
    for patch in patches:
        data = merged(data, patch)
    text = RUNTIMES[runtime].strip("{}")
    policies = dict(part.split(": ") for part in text.split(", "))
    return Scenario.of(Document.from_data(data | {"runtime": policies}, "counted"))


def team(name: str, runtime: str) -> Scenario:
    """Return the scenario of a team, with a step before and behind."""
    steps = {
        "before": {"agent": "a", "next": "team"},
        "team": {**TEAMS[name], "next": "after"},
        "after": {"agent": "b"},
    }
    used = {*TEAMS[name]["members"].values()}
    used |= {"report"} if "work" in used else set()
    workers = {worker: step for worker, step in WORKERS.items() if worker in used}
    return scenario(runtime, {"workflow": {"start": "before", "steps": {**steps, **workers}}})


def look(name: str, runtime: str) -> Scenario:
    """Return the scenario of a step that perceives, with a step behind."""
    step, more = LOOKS[name]
    steps = {"look": {**step, "next": "answer"}, "answer": {"agent": "b"}, **more}
    return scenario(runtime, MEDIA, {"workflow": {"start": "look", "steps": steps}})


def compare(of: Scenario) -> dict[str, tuple[float, float, float]]:
    """Return what the bounds say, the mean of what replications count, and half the width of its interval, of everything."""
    runs = [counted(simulate(of, replication=number)) for number in range(REPLICATIONS)]
    expected = said(bounds(of))
    found = {}
    for name in sorted({*runs[0], *expected}):
        values = np.array([run.get(name, 0.0) for run in runs])
        half = 12.9 * float(values.std(ddof=1)) / REPLICATIONS**0.5  # 99.9 % of Student's t with 3 degrees of freedom
        found[name] = expected.get(name, 0.0), float(values.mean()), half
    return found


def staged(name: str, runtime: str) -> Scenario:
    """Return the scenario of a stream, or of stages that overlap, with a step behind."""
    patch = SPEECH
    if name.endswith("stream"):
        picture = {"kind": "vision", "node": "far", "bytes": "100 kB", "tokens": "90 tokens", "encoder": "eye"}
        patch = merged(patch, {"modalities": {"picture": picture}, "tools": None})
    if name == "slow stream":
        patch = merged(patch, {"encoders": {"eye": {"latency": "600 ms"}}})
    steps = {"first": {**STAGES[name], "next": "then"}, "then": {"agent": "a"}}
    return scenario(runtime, patch, {"workflow": {"start": "first", "steps": steps}})


def wrong(of: Scenario, slack: Data) -> dict[str, tuple[float, float, float]]:
    """Return what the bounds say otherwise than the simulator counts, beyond the interval and the share that `slack` allows.

    It is looked up by the first word (`visits`, `demand`, `time`), or as `link` for the demand of links; times are summed.
    """
    compared = compare(of)
    times = [compared.pop(name) for name in list(compared) if name.startswith("time ")]
    compared["time"] = sum(one[0] for one in times), sum(one[1] for one in times), max(one[2] for one in times)
    found = {}
    for name, (value, mean, half) in compared.items():
        kind = "link" if name.startswith("demand") and "->" in name else name.split(maxsplit=1)[0]
        if abs(value - mean) > half + slack.get(kind, 1e-6) * mean + 1e-9:
            found[name] = value, mean, half
    return found


# Outputs and requests that do not differ, so that of parallel branches none takes longer by chance.
EVEN: Data = {
    "agents.a.output": "90 tokens",
    "agents.b.output": "40 tokens",
    "workload.request": "250 tokens",
    "workload.tasks": 60,
}


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", TEAMS)
def test_teams_are_what_the_simulator_counts(name: str, runtime: str) -> None:
    """Visits are exact, and demands and the time of a task alone but for what members know of one another.

    Of that the bounds say that it is an estimate: on links a state is at most a quarter off, all else 2 %, and the time 3 %.
    """
    of = team(name, runtime).replace_all(EVEN)
    assert wrong(of, {"link": 0.25, "demand": 0.02, "time": 0.03}) == {}
    assert any("what its members know" in note for note in bounds(of).notes)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", [name for name in LOOKS if name != "patience"])
def test_what_is_perceived_is_what_the_simulator_counts(name: str, runtime: str) -> None:
    """Bytes on links, encoders on slots of their own and on a model's device, cores, tokens and the time of a task alone."""
    of = look(name, runtime).replace_all(EVEN)
    if name == "pairwise":  # two copies of each share the links, and would wait for each other there
        of = of.replace_all({f"network.links.{number}.bandwidth": "100 GB/s" for number in range(3)})
        of = of.replace("modalities.image.amount", 2)
    # A modality that is tried again, or varies in amount, takes longer than in the mean; what `keep` leaves is an estimate.
    assert wrong(of, {"time": 0.03, "link": 0.02 if name in ("last", "summary") else 1e-6, "demand": 0.02}) == {}


@pytest.mark.parametrize("name", ["supervisor", "debate", "chain"])
def test_a_team_is_in_the_bounds(name: str) -> None:
    """In the default run, too: visits of each resource lie in the interval, and the time within 3 %."""
    of = team(name, "full").replace_all({**EVEN, "workload.tasks": 30})
    assert wrong(of, {"link": 0.25, "demand": 0.02, "time": 0.03}) == {}


def test_patience_bounds_the_time() -> None:
    """What the others lose patience with makes nobody wait longer, and counts as work done, as a note says."""
    of = look("patience", "bare").replace_all(EVEN)
    found = compare(of)
    assert all(value >= mean - half - 1e-9 for name, (value, mean, half) in found.items() if name.startswith("demand"))
    assert found["time synchronization"][0] == pytest.approx(found["time synchronization"][1])
    assert any("patience is lost" in note for note in bounds(of).notes)


@pytest.mark.parametrize(
    "part", ["encoders.eye.per_unit", "modalities.image.bytes", "modalities.voice.tokens", "modalities.record.bytes"]
)
def test_what_is_compared_depends_on_what_the_scenario_says(part: str) -> None:
    """A tenth more of what a modality costs is a larger demand somewhere."""
    of = look("barrier", "full")
    more = {"encoders.eye.per_unit": "33 ms", "modalities.image.bytes": "220 kB", "modalities.record.bytes": "11 kB"}
    changed = bounds(of.replace(part, more.get(part, "13.2 tokens")))
    before = {one.name: one.demand for one in bounds(of).resources}
    after = {one.name: one.demand for one in changed.resources}
    assert any(after[name] > before[name] * 1.001 for name in before)
    assert all(after[name] >= before[name] * (1 - 1e-9) for name in before)


def test_a_barge_in_takes_more_turns() -> None:
    """The turns that are interrupted ask for their stages, too, and their time is lost work and human."""
    of = staged("streaming", "full")
    found = bounds(of.replace("workflow.steps.first.barge_in", {"chance": "50 %", "after": "500 ms", "at_most": 2}))
    plain = bounds(of)
    assert found.resource("tools.hear").visits == pytest.approx(1.75 * plain.resource("tools.hear").visits)
    assert found.times["recovery"] > plain.times["recovery"] == 0.0
    assert any("barge-in" in note for note in found.notes)


def test_what_nothing_takes_in_is_a_doubt() -> None:
    """Modalities and encoders that no step comes to are told; those in use are not."""
    of = look("summary", "bare")
    doubts = [doubt for doubt in of.doubts() if doubt.startswith(("modalities", "encoders"))]
    assert doubts == [
        "modalities.image: no step takes it in",
        "modalities.voice: no step takes it in",
        "encoders.eye: encodes nothing that a step takes in",
        "encoders.ear: encodes nothing that a step takes in",
    ]
    assert [doubt for doubt in look("barrier", "bare").doubts() if doubt.startswith("modalities")] == []


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", STAGES)
def test_streams_and_stages_are_what_the_simulator_counts(name: str, runtime: str) -> None:
    """Where each piece is like another, what comes piece by piece takes exactly what the bounds say, and asks for as much."""
    of = staged(name, runtime).replace_all(
        {"workload.request": "200 tokens", "workload.tasks": 4, "agents.a.output": "90 tokens"}
    )
    assert wrong(of, {"link": 0.02, "time": 1e-3}) == {}
