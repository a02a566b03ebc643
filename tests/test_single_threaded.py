"""An orchestrator whose messages are handled on its event loop, and the work of the software that sends and receives them."""

from typing import Any

import pytest

from coordsim.models.bounds import bounds
from coordsim.models.levers import levers
from coordsim.models.mechanisms import isolated

from .scene import Data, accounts, named, parts, run, scene, steps, total

CALL: Data = {
    "runtime": {"preset": "ideal", "connection": "persistent", "placement": "external", "codec": "own"},
    "orchestrator": {"node": "here", "dispatch": "0 s", "concurrency": 1, "single_threaded": True},
    "serializers": {"own": {"encode": {"overhead": "1 s"}, "decode": {"overhead": "2 s"}}},
    "tools": {"t": {"latency": "10 s"}},
    "network": {"loopback": "0 s", "nodes": {"here": {}}},
    **steps("w", w={"tool": "t"}),
}
TWO: Data = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 2}}
ANY: Data = {"orchestrator": {"single_threaded": False}}


def stack(**says: Any) -> Data:
    """Return the patch of the work of messages at each end."""
    return {"network": {"stack": says}}


CLIENT = stack(client={"send": {"overhead": "0.5 s"}, "receive": {"overhead": "0.25 s"}})
NODES: list[Data] = [
    {},
    {"network": {"nodes": {"here": {"cores": 4}}}},
    {"network": {"nodes": {"here": {"cores": 4, "scheduling": "share"}}}},
]


@pytest.mark.parametrize("node", NODES)
def test_the_loop_handles_one_message_after_the_other(node: Data) -> None:
    """The second request waits for the first to be encoded (1 s), the second answer for the first to be decoded (1 s of 2)."""
    result = run(CALL, TWO, node)
    assert [total(result, task) for task in range(2)] == pytest.approx([16, 18], abs=1e-5)
    assert parts(result, 1) == pytest.approx({"serialization": 6, "tool": 10, "queueing": 2}, abs=1e-5)
    waited = {one.component: seconds for one, seconds in accounts(result, 1).items() if one.category == "queueing"}
    assert waited == pytest.approx({"orchestrator": 2}, abs=1e-5)


@pytest.mark.parametrize("node", NODES)
def test_any_core_handles_messages_where_the_orchestrator_has_threads(node: Data) -> None:
    """As ever: both at once."""
    result = run(CALL, TWO, ANY, node)
    assert [total(result, task) for task in range(2)] == pytest.approx([16, 16], abs=1e-5)


@pytest.mark.parametrize("node", NODES)
def test_a_message_holds_the_loop_for_its_code_and_its_stack(node: Data) -> None:
    """Encoding and sending, 1.5 s, are one hold of the loop, and so are receiving and decoding, 2.25 s; each is booked apart."""
    result = run(CALL, TWO, CLIENT, node)
    assert total(result, 0) == pytest.approx(1.5 + 2 + 10 + 1 + 2.25, abs=1e-5)
    assert total(result, 1) == pytest.approx(16.75 + 2.25, abs=1e-5)  # 1.5 behind the request, 0.75 behind the answer
    assert parts(result, 1) == pytest.approx(
        {"serialization": 6, "communication": 0.75, "tool": 10, "queueing": 2.25}, abs=1e-5
    )
    assert named(result, "stack", 1) == pytest.approx(0.75, abs=1e-5)
    held = sorted(
        (one.start, one.name) for one in result.spans if one.task == 1 and one.component == "t" and one.end <= 3 + 1e-5
    )
    assert [name for _, name in held] == ["encode", "stack"]
    assert [start for start, _ in held] == pytest.approx([1.5, 2.5], abs=1e-5)


def test_dispatch_waits_for_messages_of_others() -> None:
    """The loop has one queue for all its work: the second dispatch stands behind the first request."""
    result = run(CALL, TWO, {"runtime": {"dispatch": "every-step"}, "orchestrator": {"dispatch": "3 s"}})
    assert total(result, 0) == pytest.approx(3 + 3 + 16, abs=1e-5)  # its request waits for the second dispatch


def test_the_stack_is_communication_by_the_bytes_on_the_wire() -> None:
    """10 MB at 10 MB/s there, 5 MB back; the client sends and receives the request and the answer of a call, the server the others."""
    law = {"overhead": "1 s", "bandwidth": "10 MB/s"}
    sizes: Data = {
        "runtime": {"codec": None},
        "tools": {"t": {"request": "10 MB", "response": "5 MB", "result": "0 tokens"}},
    }
    for end, way, seconds in (
        ("client", "send", 2), ("server", "receive", 2), ("server", "send", 1.5), ("client", "receive", 1.5),
    ):  # fmt: skip
        result = run(CALL, sizes, stack(**{end: {way: law}}))
        assert parts(result) == pytest.approx({"communication": seconds, "tool": 10})
        assert named(result, "stack") == pytest.approx(seconds)


def test_messages_within_a_process_take_no_stack() -> None:
    """A boundary `within`, as a call is, and a runtime in one process."""
    for patch in ({"network": {"boundary": "call", "loopback": None}}, {"runtime": {"connection": "in-process"}}):
        assert named(run(CALL, CLIENT, patch), "stack") == 0


def test_the_stack_runs_on_the_cores_of_its_node() -> None:
    """Beside three others on two cores it takes twice as long."""
    result = run(CALL, ANY, CLIENT, {"network": {"nodes": {"here": {"cores": 2, "busy": 3}}}})
    assert named(result, "stack") == pytest.approx(1.5)


def test_the_bounds_count_what_the_loop_does() -> None:
    """Each task keeps it for 3.75 s; four messages' ends are on the cores of the node, where these are shared."""
    load: Data = {"workload": {"arrivals": {"poisson": "0.1 / s"}, "tasks": 1}}
    found = bounds(scene(CALL, CLIENT, NODES[2], load))
    assert found.resource("orchestrator").demand == pytest.approx(3.75)
    assert found.resource("nodes.here.cpu").demand == pytest.approx(6.75)
    assert found.response == pytest.approx(16.75)


def test_the_stack_has_a_lever_and_the_loop_a_mechanism() -> None:
    """Twice the work of the stack is a change; without queues for the CPU nobody waits for a loop."""
    lever = levers(scene(CALL, CLIENT)).by_name("network.stack")
    assert lever is not None
    assert dict(lever.at(2.0)) == {
        "network.stack.client.send.overhead": '"1 s"',
        "network.stack.client.receive.overhead": '"500 ms"',
    }
    assert not isolated(scene(CALL, CLIENT), "retries").orchestrator.single_threaded
