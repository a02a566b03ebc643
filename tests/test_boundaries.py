"""Boundaries: what two components of one node cross, in the order that was measured, and what connecting to a tool costs."""

import csv
from pathlib import Path
from typing import Any

import pytest

from coordsim.models.network import BOUNDARIES, BoundaryName
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.errors import ScenarioError

from .scene import Data, fact, named, run, scene, steps, total

MEASURED = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "agent_runs"
ROWS = {
    "call": ("boundary", "inproc_call", "1000"),
    "asyncio": ("boundary", "asyncio_queue_rtt", "1000"),
    "thread": ("boundary", "thread_queue_rtt", "1000"),
    "pipe": ("boundary", "process_pipe_rtt", "1000"),
    "unix": ("boundary", "unix_socket_asyncio_rtt", "1000"),
    "tcp": ("boundary", "tcp_socket_asyncio_rtt", "1000"),
    "http": ("boundary", "http_keepalive_rtt", "1000"),
    "http-new": ("boundary", "http_new_client_rtt", "1000"),
    "mcp-memory": ("mcp", "inmemory_tools_call", "100"),
    "mcp-stdio": ("mcp", "stdio_tools_call", "100"),
    "mcp-http": ("mcp", "http_stateless_tools_call", "100"),
}
LADDER: list[BoundaryName] = ["call", "asyncio", "pipe", "unix", "tcp", "http", "mcp-stdio", "mcp-http", "http-new"]
CONNECTED = {"mcp-memory": "inmemory", "mcp-stdio": "stdio", "mcp-http": "http_stateless"}

APART: Data = {
    "runtime": {"preset": "ideal", "connection": "persistent", "placement": "external"},
    "orchestrator": {"node": "here"},
    "models": {"llm": {"node": "here"}},
    "network": {"nodes": {"here": {}}},
}
TOOL: Data = {"tools": {"t": {"latency": "1 s"}}, **steps("w", w={"agent": "a", "repeat": 3, "tools": {"t": 1}})}


def measured() -> dict[tuple[str, str, str], float]:
    """Return the fastest round trip (s) by group, name and bytes."""
    found: dict[tuple[str, str, str], float] = {}
    for name, unit in (("boundary", 1e-6), ("mcp", 1e-3)):
        path = MEASURED / f"local_{name}_microbench.csv"
        if not path.exists():
            pytest.skip(f"no {path}")
        with path.open() as file:
            for row in csv.DictReader(file):
                found[row["group"], row["name"], row["bytes"]] = unit * float(
                    row["min_us" if unit == 1e-6 else "min_ms"]
                )
    return found


def message(**network: Any) -> float:
    """Return the simulated seconds of a call of a model that takes no time: a round trip."""
    return total(run(APART, {"network": network}))


def with_tool(**tool: Any) -> Result:
    """Run three calls of a tool, in one process but for what the tool says."""
    return run(APART, TOOL, {"runtime": {"connection": "in-process"}, "tools": {"t": tool}})


def test_defaults_are_what_was_measured() -> None:
    """Each default is the fastest round trip in the measurements, to three digits, and connecting the fastest connect."""
    found = measured()
    for name, key in ROWS.items():
        assert BOUNDARIES[name].round_trip == pytest.approx(found[key], rel=5e-3)  # type: ignore[index]
    for name, how in CONNECTED.items():
        connect = found["mcp", f"{how}_connect_initialize", "0"]
        assert BOUNDARIES[name].connect == pytest.approx(connect, rel=5e-3)  # type: ignore[index]


def test_the_ladder_keeps_its_order_over_seven_decades() -> None:
    """A simulated round trip takes as much longer as was measured, from a call to connecting over stdio."""
    trips = [message(boundary=name) for name in LADDER]
    trips.append(named(with_tool(boundary="mcp-stdio"), "connect"))
    assert trips == sorted(trips)
    assert trips[-1] / trips[0] > 1e7


@pytest.mark.parametrize("share", [0.5, 1.0, 1.5])
def test_a_message_follows_what_was_measured_of_its_boundary(share: float) -> None:
    """Half or half again of a measured round trip, given as the one-way latency, is half or half again simulated.

    One boundary alone changes its own messages; all together keep their order.
    """
    found = measured()
    trips = [share * found[ROWS[name]] for name in LADDER]
    simulated = [message(loopback=f"{trip / 2:.9e} s") for trip in trips]
    assert simulated == pytest.approx(trips, rel=1e-6, abs=2e-12)
    assert simulated == sorted(simulated)


def test_a_profile_tells_its_own_boundaries() -> None:
    """Where it has a law, half the round trip is its; shared memory is that of its threads; else the default holds."""
    machine = {"profile": "cpu-reference"}
    ours = {
        name: total(run(APART, machine, {"network": {"boundary": name}})) for name in ("pipe", "thread", "mcp-stdio")
    }
    shared = total(run(APART, machine, {"runtime": {"connection": "shared-memory"}}))
    assert 20e-6 < ours["pipe"] < 300e-6
    assert min(shared, ours["thread"]) > 10e-6
    assert ours["mcp-stdio"] == pytest.approx(BOUNDARIES["mcp-stdio"].round_trip)


def test_shared_memory_encodes_nothing_on_one_node() -> None:
    """Messages are handed over, counted and not encoded; between nodes all is as with connections that last."""
    codec = {"runtime": {"codec": "json"}}
    shared = {"runtime": {"connection": "shared-memory"}}
    apart, beside = run(APART, codec), run(APART, codec, shared)
    assert named(beside, "encode") == named(beside, "decode") == 0 < named(apart, "encode")
    assert fact(beside, "messages") == fact(apart, "messages") == 2
    assert total(beside) == pytest.approx(BOUNDARIES["shared-memory"].round_trip)
    far = {
        "models": {"llm": {"node": "there"}},
        "network": {"nodes": {"there": {}}, "links": [{"between": ["here", "there"], "latency": "1 s"}]},
    }
    assert total(run(APART, codec, far)) == total(run(APART, codec, far, shared)) > 2


def test_boundaries_within_a_process_encode_nothing() -> None:
    """A codec is for what leaves a process: a call, a queue of a thread, not a pipe."""
    codec = {"runtime": {"codec": "json"}}
    encoded = {name: named(run(APART, codec, {"network": {"boundary": name}}), "encode") for name in BOUNDARIES}
    assert {name for name, seconds in encoded.items() if not seconds} == {"call", "asyncio", "thread", "shared-memory"}


def test_a_tool_of_its_own_boundary_connects_as_the_runtime_does() -> None:
    """Once a task, or before each call; the boundary is crossed though everything else is in one process."""
    lasting = with_tool(boundary="mcp-stdio")
    assert named(lasting, "connect") == pytest.approx(2.6965)
    assert named(lasting, "transit") == pytest.approx(3 * 1.733e-3)
    assert fact(lasting, "messages") == 6
    given = with_tool(boundary="mcp-stdio", connect="4 s")
    assert named(given, "connect") == 4
    each = run(APART, TOOL, {"runtime": {"connection": "new"}, "tools": {"t": {"boundary": "mcp-stdio"}}})
    of_tool = [span for span in each.spans if span.name == "connect" and span.component == "t"]
    assert [span.end - span.start for span in of_tool] == pytest.approx([2.6965] * 3)
    assert total(with_tool()) == 3


def test_branches_of_a_task_share_a_connection() -> None:
    """Three calls at once: the first connects."""
    at_once = {"runtime": {"tools": "overlapped", "connection": "in-process"}, "tools": {"t": {"boundary": "mcp-http"}}}
    result = run(APART, TOOL, steps("w", w={"agent": "a", "tools": {"t": 1}, "calls": 3}), at_once)
    assert len([span for span in result.spans if span.name == "connect"]) == 1


def test_contradictions_are_refused() -> None:
    """A boundary and its latency by hand; connecting to what has no boundary of its own."""
    with pytest.raises(ScenarioError, match="boundary"):
        scene(APART, {"network": {"boundary": "pipe", "loopback": "1 s"}})
    with pytest.raises(ScenarioError, match="needs `boundary`"):
        scene(APART, TOOL, {"tools": {"t": {"connect": "1 s"}}})
