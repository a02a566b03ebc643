"""Faults on links: losses and retransmissions against closed forms, partitions and slow links to the second."""

import math

import numpy as np
import pytest

from coordsim.models.link_faults import LONGEST, LinkCondition
from coordsim.models.simulate import Load
from coordsim.models.system import System
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.incidents import DEGRADED, FAILED, HARMLESS, OPEN, RECOVERED
from coordsim.sim.engine.ledger import DONE

from .scene import Data, fact, merged, parts, run, scene, statuses, total
from .test_network import MESSAGE, UNIT, between

RTO = 0.2


def fault(on: str = "network.here->there", **what: object) -> Data:
    """Return one fault of a link."""
    return {"faults": {"f": {"on": on, **what}}}


def outcomes(result: Result, name: str = "f") -> dict[int, int]:
    """Return how many strikes of a cause came to what."""
    number = next(number for number, cause in enumerate(result.incidents.causes) if cause.name == name)
    return {outcome: count for outcome, count in enumerate(result.incidents.counts[number]) if count}


def sends(rto: float = RTO, most: float = LONGEST, count: int = 40) -> list[float]:
    """Return when a message that is always lost is sent, from the first time on."""
    found = [0.0]
    for number in range(count):
        found.append(found[-1] + min(rto * 2**number, most))
    return found


def after(seconds: float, rto: float = RTO) -> float:
    """Return the first retransmission at or after so many seconds."""
    return next(when for when in sends(rto) if when >= seconds)


@pytest.mark.parametrize(("share", "rto"), [(0.1, 0.2), (0.4, 0.2), (0.6, 1.0)])
def test_the_mean_delay_of_losses(share: float, rto: float) -> None:
    """A message that is lost k times has waited for the sum of k timeouts, each twice the last but none above the limit."""
    tasks = 4000
    load: Data = {"workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": tasks}}
    load["network"] = {"retransmit": f"{rto} s"}
    result = run(between(latency="1 ms"), fault(lost=share), load, spans="none")
    waits = np.array(sends(rto, count=200))
    chances = (1 - share) * share ** np.arange(len(waits))
    mean = float(waits @ chances)
    spread = math.sqrt(float(waits**2 @ chances) - mean**2)
    seen = np.array([parts(result, task).get("recovery", 0.0) for task in range(tasks)])
    assert abs(seen.mean() - mean) < 4 * spread / math.sqrt(tasks)
    assert set(np.round(seen, 6)) <= set(np.round(waits, 6))
    losses = outcomes(result)[RECOVERED]
    expected = share / (1 - share)
    assert abs(losses / tasks - expected) < 4 * math.sqrt(share) / (1 - share) / math.sqrt(tasks)
    assert outcomes(result) == {RECOVERED: losses}
    assert statuses(result) == [DONE] * tasks


def test_uncapped_doubling_has_the_closed_form() -> None:
    """Without the limit the mean is rto * p / (1 - 2 p); with it, less, and hardly so for rare losses."""
    share = 0.1
    mean = sum((1 - share) * share**k * wait for k, wait in enumerate(sends(count=100)))
    assert mean == pytest.approx(RTO * share / (1 - 2 * share), rel=1e-6)


def test_timeouts_double_up_to_the_limit() -> None:
    """All is lost for 500 s more: the wait is the first of the doubling times behind that, the last of them 120 s apart."""
    result = run(between(latency="1 s"), fault(lost=1, at="990 s", **{"for": "510 s"}))
    assert parts(result)["recovery"] == pytest.approx(after(500.0))
    assert after(500.0) < 500 + LONGEST
    assert outcomes(result) == {RECOVERED: sends().index(after(500.0))}


@pytest.mark.parametrize("mode", ["refuse", "hang", "wait", "drain"])
def test_a_partition_holds_a_message_until_the_first_retransmission_behind_it(mode: str) -> None:
    """Sent at 1000 s into a partition until 1009 s: .2, .6, 1.4, 3, 6.2 are lost, 12.6 is not."""
    result = run(between(latency="3 s"), fault(down=mode, at="999 s", **{"for": "10 s"}))
    assert parts(result) == {"communication": pytest.approx(6), "recovery": pytest.approx(12.6)}
    assert result.incidents.down == {"network.here->there": pytest.approx(10)}
    assert outcomes(result) == {RECOVERED: 1}


def test_a_message_on_the_link_is_lost_with_it() -> None:
    """Sent at 1000 s over 3 s, cut at 1001 s for 1 s: the retransmission at 3 s is the first behind the outage."""
    result = run(between(latency="3 s"), fault(down="refuse", at="1001 s", **{"for": "1 s"}))
    assert parts(result) == {"communication": pytest.approx(6), "recovery": pytest.approx(3)}


def test_a_transfer_on_the_link_is_lost_with_it() -> None:
    """1000 B at 100 B/s, cut after 4 s for 1 s, are sent again whole at 6.2 s; who shared the link is alone meanwhile."""
    down = fault(down="wait", at="1004 s", **{"for": "1 s"})
    result = run(UNIT, MESSAGE, between(bandwidth="100 B/s"), down)
    assert parts(result) == {"communication": pytest.approx(15), "recovery": pytest.approx(6.2)}
    assert fact(result, "bytes") == 2500


def test_both_directions() -> None:
    """A partition of both directions holds the answer, too: it is sent at 1007 s, and again at 1007 + 3 s."""
    slow = {"models": {"llm": {"overhead": "4 s"}}}
    result = run(
        between(latency="3 s"), slow, fault("network.here<->there", down="wait", at="1006 s", **{"for": "3 s"})
    )
    assert parts(result) == {
        "communication": pytest.approx(6), "inference": pytest.approx(4), "recovery": pytest.approx(3)
    }  # fmt: skip
    assert set(result.incidents.down) == {"network.here->there", "network.there->here"}


@pytest.mark.parametrize("shared", [True, False])
def test_a_slow_link_is_slow_in_latency_and_transfer(shared: bool) -> None:
    """1 s + 10 s there become three times that; the way back stays as it was."""
    link = between(latency="1 s", bandwidth="100 B/s", shared=shared)
    result = run(UNIT, MESSAGE, link, fault(slow=3))
    assert parts(result) == {"communication": pytest.approx(3 * 11 + 6)}
    assert outcomes(result) == {DEGRADED: 1}


def test_a_link_is_slow_while_it_lasts() -> None:
    """The second task comes after it."""
    load = {"workload": {"arrivals": {"deterministic": "0.001 / s"}, "tasks": 2}}
    result = run(between(latency="1 s"), load, fault(slow=5, at="500 s", **{"for": "1000 s"}))
    assert [total(result, task) for task in range(2)] == pytest.approx([6, 2])


def test_a_duplicate_takes_bytes_and_bandwidth() -> None:
    """The copy shares the link with the message, whose 10 s are 20 s; nobody is harmed."""
    result = run(UNIT, MESSAGE, between(bandwidth="100 B/s"), fault(duplicated=1))
    assert parts(result) == {"communication": pytest.approx(25)}
    assert fact(result, "bytes") == 2500
    assert outcomes(result) == {HARMLESS: 1}


def test_a_timeout_ends_the_wait_for_a_partition() -> None:
    """Two attempts of 5 s each, both lost to the partition: the task fails by it, after 10 s of recovery."""
    patient = {"models": {"llm": {"handling": {"timeout": "5 s", "retry": 2}}}}
    result = run(between(latency="1 s"), patient, fault(down="wait", at="999 s", **{"for": "1 h"}))
    assert parts(result) == {"recovery": pytest.approx(10)}
    assert outcomes(result) == {FAILED: 2}
    assert [harm.cause for harm in result.incidents.harms] == [0]
    assert result.failures == {"models.llm: timeout": 1}


def test_what_is_always_lost_waits_for_a_timeout() -> None:
    """No retransmission can help, and none is simulated: the attempt ends with its timeout."""
    patient = {"models": {"llm": {"handling": {"timeout": "1000 h"}}}}
    result = run(between(latency="1 s"), patient, fault(lost=1))
    assert parts(result) == {"recovery": pytest.approx(3.6e6)}
    assert outcomes(result) == {FAILED: 1}


def test_a_fault_that_never_strikes_changes_nothing() -> None:
    """No loss, no duplicate: byte for byte the same."""
    load = {"workload": {"arrivals": {"poisson": "1 / s"}, "tasks": 50}}
    world = merged(between(latency={"exponential": {"mean": "1 s"}}, bandwidth="1 kB/s"), merged(UNIT, MESSAGE))
    assert np.array_equal(run(world, load).rows, run(world, load, fault(lost=0)).rows)


def test_a_fault_elsewhere_changes_no_draw() -> None:
    """Latencies of the way there are the same whether the way back loses messages or not."""
    load = {"workload": {"arrivals": {"deterministic": "0.01 / s"}, "tasks": 50}}
    world = between(latency={"exponential": {"mean": "1 s"}})
    plain, lossy = run(world, load), run(world, load, fault("network.there->here", lost=0.3))
    for task in range(50):
        assert parts(plain, task)["communication"] == pytest.approx(parts(lossy, task)["communication"])


def test_losses_are_those_of_the_message() -> None:
    """Whatever the model takes: who is lost, and how often, is drawn for the call."""
    load = {"workload": {"arrivals": {"deterministic": "0.5 / s"}, "tasks": 200}}
    world = between(latency="1 s")
    both = [
        run(
            world, load, fault("network.here<->there", lost=0.3), {"models": {"llm": {"overhead": taken}}}, spans="none"
        )
        for taken in ("0 s", "7 s")
    ]
    waits = [[round(parts(one, task).get("recovery", 0.0), 6) for task in range(200)] for one in both]
    assert waits[0] == waits[1]
    assert outcomes(both[0]) == outcomes(both[1])


def test_nothing_is_left_behind() -> None:
    """Random partitions, losses and cancelled attempts: each strike has one outcome, and nobody stands at a link in the end."""
    data = {
        "workload": {"arrivals": {"poisson": "2 / s"}, "tasks": 400},
        "models": {"llm": {"concurrency": 4, "overhead": {"exponential": {"mean": "1 s"}}, "handling": {
            "timeout": "6 s", "retry": 3, "hedge": {"after": "3 s"},
        }}},
        "faults": {
            "cut": {"on": "network.here<->there", "down": "wait", "mtbf": "30 s", "mttr": "3 s"},
            "lossy": {"on": "network.there->here", "lost": 0.2},
            "twice": {"on": "network.here->there", "duplicated": 0.2},
            "slow": {"on": "network.here->there", "slow": 2, "mtbf": "20 s", "mttr": "5 s"},
        },
    }  # fmt: skip
    system = System(scene(UNIT, MESSAGE, between(latency="0.1 s", bandwidth="10 kB/s"), data), 3, 0, "none")
    Load(system).run()
    incidents = system.incidents
    assert all(counts[OPEN] == 0 for counts in incidents.counts)
    assert all(sum(incidents.counts[number]) for number in range(4))
    for condition in system.plan.conditions.values():
        assert not condition.present
        assert not condition.outside
    links = [one for one in system.plan.conditions.values() if isinstance(one, LinkCondition)]
    assert len(links) == 2
    assert all(link is None or not link.present for link in system._links.values())
    assert system.servers["llm"].pool.busy == 0
