"""The network: what a message costs on each kind of way, and how concurrent transfers share a link."""

import pytest

from coordsim.models.network import LOOPBACK
from coordsim.sim.engine.errors import ScenarioError

from .scene import Data, accounts, fact, leaves, named, parts, row_of, run, scene, steps, total

UNIT = {"context": {"bytes_per_token": "1 B / token"}}
MESSAGE = {"agents": {"a": {"prompt": "1000 tokens", "output": "500 tokens"}}}


def between(**link: object) -> Data:
    """Return two nodes, an agent here, a model there, and a link between them."""
    return {
        "runtime": {"preset": "ideal", "placement": "external", "connection": "persistent", "state": "full"},
        "orchestrator": {"node": "here"},
        "models": {"llm": {"node": "there"}},
        "network": {"nodes": {"here": {}, "there": {}}, "links": [{"between": ["here", "there"], **link}]},
    }


def test_latency_and_overhead_of_each_message() -> None:
    """Two messages of 3 s + 1 s; bytes are counted whatever they take."""
    result = run(UNIT, MESSAGE, between(latency="3 s", overhead="1 s"))
    assert parts(result) == {"communication": 8}
    assert (fact(result, "bytes"), fact(result, "messages")) == (1500, 2)


def test_a_header_goes_with_each_message() -> None:
    """100 B more each way."""
    result = run(UNIT, MESSAGE, between(latency="3 s"), {"network": {"header": "100 B"}})
    assert fact(result, "bytes") == 1700


def test_transmission_takes_size_over_bandwidth() -> None:
    """1000 B and 500 B at 100 B/s, after the latency."""
    result = run(UNIT, MESSAGE, between(latency="1 s", bandwidth="100 B/s"))
    assert named(result, "transmit") == pytest.approx(15)
    assert named(result, "transit") == pytest.approx(2)
    assert [round(span.start - 1000, 6) for span in leaves(result) if span.name == "transmit"] == [1, 12]


def test_concurrent_transfers_share_a_link() -> None:
    """Two of 1000 B, 5 s apart on 100 B/s: alone for 5 s, then half each; the second is alone for its last 5 s."""
    load = {"workload": {"arrivals": {"deterministic": "0.2 / s"}, "tasks": 2}}
    result = run(UNIT, load, {"agents": {"a": {"prompt": "1000 tokens"}}}, between(bandwidth="100 B/s"))
    assert [total(result, task) for task in range(2)] == pytest.approx([15, 15])


def test_each_direction_has_a_bandwidth_of_its_own() -> None:
    """Request and response of two tasks do not meet."""
    load = {"workload": {"arrivals": {"deterministic": "0.1 / s"}, "tasks": 2}}
    even = {"agents": {"a": {"prompt": "1000 tokens", "output": "1000 tokens"}}}
    result = run(UNIT, load, even, between(bandwidth="100 B/s"))
    assert [total(result, task) for task in range(2)] == pytest.approx([20, 20])


def test_a_link_never_carries_more_than_its_bandwidth() -> None:
    """Whenever transfers are under way, exactly the bandwidth is used: busy seconds times it are the bytes sent."""
    load = {"workload": {"arrivals": {"poisson": "0.2 / s"}, "tasks": 200}}
    sizes = {"agents": {"a": {"prompt": "100 tokens", "output": {"exponential": {"mean": "400 tokens"}}}}}
    result = run(UNIT, load, sizes, between(latency="1 s", bandwidth="100 B/s"), spans="none")
    links = [
        row for info, row in zip(result.resources, result.snapshots[-1].resources, strict=True) if info.kind == "link"
    ]
    assert sum(row[0] for row in links) * 100 == pytest.approx(result.fact("bytes").sum())
    assert [row[2] for row in links] == [200, 200]


def test_a_route_takes_the_shortest_way_link_by_link() -> None:
    """Over a and b it is 2 s, directly 5 s; a message is stored and forwarded, so it pays each bandwidth."""
    nodes: Data = {"here": {}, "a": {}, "b": {}, "there": {}}
    links = [
        {"between": ["here", "there"], "latency": "5 s"},
        {"between": ["here", "a"], "latency": "1 s", "bandwidth": "100 B/s"},
        {"between": ["a", "there"], "latency": "1 s", "bandwidth": "1 kB/s"},
        {"between": ["a", "b"], "latency": "0.1 s"},
    ]
    result = run(UNIT, MESSAGE, between(), {"network": {"nodes": nodes, "links": links}})
    assert named(result, "transit") == pytest.approx(4)
    assert named(result, "transmit") == pytest.approx((10 + 1) + (0.5 + 5))
    assert {info.name for info in result.resources if info.kind == "link"} == {
        "network.here->a", "network.a->there", "network.there->a", "network.a->here",
    }  # fmt: skip


def test_directed_links_are_one_way() -> None:
    """There by one link, back by another; without a way back the scenario is refused."""
    there, back = {"from": "here", "to": "there", "latency": "1 s"}, {"from": "there", "to": "here", "latency": "7 s"}
    result = run(MESSAGE, between(), {"network": {"links": [there, back]}})
    assert [span.end - span.start for span in leaves(result)] == [1, 7]
    with pytest.raises(ScenarioError, match="rout"):
        scene(MESSAGE, between(), {"network": {"links": [there]}})


def test_a_new_connection_takes_its_round_trips_first() -> None:
    """Two round trips of 3 s a way before each call, none for its answer, and none where connections last."""
    new = run(MESSAGE, between(latency="3 s"), {"runtime": {"connection": "new"}})
    assert (named(new, "connect"), named(new, "transit")) == (12, 6)
    assert fact(new, "messages") == 2 + 4
    assert named(run(MESSAGE, between(latency="3 s")), "connect") == 0
    three = run(MESSAGE, between(latency="3 s"), {"runtime": {"connection": "new"}, "network": {"handshakes": 3}})
    assert named(three, "connect") == 18


def test_components_of_one_node_talk_over_loopback() -> None:
    """Processes of one node pay the loopback latency each way; within one process nothing is sent."""
    same = {"models": {"llm": {"node": "here"}}}
    apart = run(MESSAGE, between(latency="3 s"), same)
    assert parts(apart) == pytest.approx({"communication": 2 * 0.75e-3})
    assert LOOPBACK == "0.75 ms"
    inside = run(MESSAGE, between(latency="3 s"), same, {"runtime": {"connection": "in-process"}})
    assert not parts(inside)
    assert fact(inside, "messages") == 0


def test_a_codec_encodes_decodes_and_expands() -> None:
    """Each message of n bytes takes 1 s + n / 1 kB/s to encode, n / 500 B/s to decode, and is a third larger on the wire."""
    law = {"encode": {"overhead": "1 s", "bandwidth": "1 kB/s"}, "decode": {"bandwidth": "500 B/s"}, "expansion": 1.5}
    result = run(UNIT, MESSAGE, between(latency="1 s"), {"serializers": {"own": law}, "runtime": {"codec": "own"}})
    assert (named(result, "encode"), named(result, "decode")) == pytest.approx((2 + 1.5, 3))
    assert fact(result, "bytes") == 1500 * 1.5


def test_the_latency_of_a_message_is_drawn_for_it() -> None:
    """Another task, call or direction has another latency; a slower model changes none."""
    chance = between(latency={"exponential": {"mean": "1 s"}})
    load = {"workload": {"arrivals": {"deterministic": "1 / h"}, "tasks": 3}}
    turns = steps("w", w={"agent": "a", "repeat": 2})
    quick, slow = (run(load, chance, {"models": {"llm": {"overhead": f"{s} s"}}}, turns) for s in (0, 60))
    drawn = [round(span.end - span.start, 9) for span in quick.spans if span.name == "transit"]
    assert len(set(drawn)) == 12
    assert sorted(drawn) == sorted(round(span.end - span.start, 9) for span in slow.spans if span.name == "transit")


def test_transfers_under_way_at_the_horizon_are_told() -> None:
    """A transfer of 10 s that began 4 s before the end is 4 s of communication."""
    load = {"workload": {"arrivals": {"deterministic": "0.2 / s"}, "tasks": None, "horizon": "9 s"}}
    result = run(UNIT, load, {"agents": {"a": {"prompt": "1000 tokens"}}}, between(bandwidth="100 B/s"))
    assert parts(result) == {"communication": pytest.approx(4)}
    assert row_of(result)[4] == 2
    assert {one.name for one in accounts(result)} == {"transmit"}
