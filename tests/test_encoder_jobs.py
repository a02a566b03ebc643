"""Encoder jobs on the device of a model server: whose time they take, what memory they hold, and for how long."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.models.failure import TaskFailed
from coordsim.models.model_call import ModelCall
from coordsim.models.serving.ahead import AheadReplica
from coordsim.models.serving.encoding import Job
from coordsim.models.serving.kv_cache import KvCache
from coordsim.models.serving.places import Limits
from coordsim.models.serving.replica import Replica, drive
from coordsim.models.serving.request import Request
from coordsim.models.system import System
from coordsim.sim.engine.branch import Branch
from coordsim.sim.engine.simulation import Call

from .linear_steps import LinearSteps
from .scene import Data, scene
from .stepper import Stepper
from .test_replica import STEP, TOLERANCE, made, servers, workloads

SECOND = LinearSteps(fixed=1.0, token=0.0, attend=0.0)  # each iteration takes a second


def jobs_of(workload: Sequence[dict[str, object]], blocks: float, seed: int) -> list[Job]:
    """Return jobs of some tasks, some time before their calls come or while others run."""
    rng = np.random.default_rng(seed)
    most = int(min(blocks, 250.0))
    found = []
    for number, row in enumerate(workload):
        for _ in range(int(rng.integers(0, 3))):
            arrived = max(0.0, float(row["arrived"]) - float(rng.exponential(0.05)))  # type: ignore[arg-type]
            size = int(rng.integers(0, most + 1)) if rng.random() < 0.3 else int(rng.integers(0, 20))
            found.append(Job(number, float(rng.choice([0.0, 0.004, 0.03])), size, arrived))
    return sorted(found, key=lambda job: job.arrived)


def of_tasks(workload: list[dict[str, object]]) -> list[Request]:
    """Return fresh requests, each of a task of its own."""
    requests = made(workload)
    for number, request in enumerate(requests):
        request.session = (number, 0, 0)
    return requests


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(workloads(), servers(), st.integers(0, 2**32 - 1))
def test_leaping_beside_jobs_is_stepping(
    workload: list[dict[str, object]], server: tuple[Limits, float, bool], seed: int
) -> None:
    """Jobs and requests begin and end when the plain server says, and hold the same blocks."""
    limits, blocks, prefix = server
    ours, theirs = of_tasks(workload), of_tasks(workload)
    our_jobs, their_jobs = jobs_of(workload, blocks, seed), jobs_of(workload, blocks, seed)
    leaping = Replica(STEP, KvCache(blocks, prefix=prefix), limits)
    drive(leaping, ours, our_jobs)
    stepping = Stepper(STEP, KvCache(blocks, prefix=prefix), limits)
    stepping.run(theirs, their_jobs)
    for one, other in zip(ours, theirs, strict=True):
        for name in ("admitted", "first_token", "ended"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=TOLERANCE, abs=1e-12), name
        for name in ("hit", "preemptions", "recomputed", "generated"):
            assert getattr(one, name) == getattr(other, name), name
    for job, its in zip(our_jobs, their_jobs, strict=True):
        assert (job.started, job.ended) == pytest.approx((its.started, its.ended), rel=TOLERANCE, abs=1e-12)
        assert (job.lease is None) == (its.lease is None)
    assert leaping.tally.iterations == stepping.iterations
    held = [job for job in our_jobs if job.lease is not None]
    leaping.kv.check([leaping.common, *(job.lease for job in held if job.lease is not None)])
    assert leaping.kv.used == sum(job.blocks for job in held) == stepping.kv.used


def acts(
    replica: Replica, requests: list[Request], jobs: list[Job], rng: np.random.Generator
) -> list[tuple[float, Callable[[float], None]]]:
    """Return what is done when, in order: all come, some are given up after a while, and one task after another is over."""
    found: list[tuple[float, Callable[[float], None]]] = []

    def give_up(one: Request | Job, how: Callable[[Any, float], None], now: float) -> None:
        if math.isnan(one.ended):
            how(one, now)

    for job in jobs:
        found.append((job.arrived, partial(replica.encode, job)))
        if rng.random() < 0.3:
            found.append((job.arrived + rng.exponential(0.05), partial(give_up, job, replica.drop)))
    for one in requests:
        found.append((one.arrived, partial(replica.submit, one)))
        if rng.random() < 0.3:
            found.append((one.arrived + rng.exponential(0.1), partial(give_up, one, replica.cancel)))
        if rng.random() < 0.3:
            found.append((one.arrived + rng.exponential(0.2), partial(replica.forget, one.session[0])))
    return [*sorted(found, key=lambda act: act[0]), (math.inf, lambda now: None)]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(workloads(), servers(), st.booleans(), st.integers(0, 2**32 - 1))
def test_no_block_is_lost_when_tasks_end_or_are_cancelled(
    workload: list[dict[str, object]], server: tuple[Limits, float, bool], ahead: bool, seed: int
) -> None:
    """Jobs dropped in line or under way, calls cancelled, and tasks forgotten: in the end no block is in use."""
    limits, blocks, prefix = server
    requests, jobs = of_tasks(workload), jobs_of(workload, blocks, seed)
    replica = (AheadReplica if ahead else Replica)(STEP, KvCache(blocks, prefix=prefix), limits)
    for when, what in acts(replica, requests, jobs, np.random.default_rng(seed)):
        while (now := replica.next_time) < when:
            replica.wake(now)
            replica.begin(now)
        what(when)
    for request in requests:
        assert request.cancelled or request.generated == request.output
    assert all(job.cancelled or not math.isnan(job.ended) for job in jobs)
    assert not replica.outstanding
    for number in range(len(requests)):
        replica.forget(number, replica.kv.clock)
    replica.kv.check()
    assert replica.kv.used == 0


def test_a_job_stretches_everybody_by_its_time() -> None:
    """One that comes in the middle of an iteration begins at its end: all who decode, or go on with a prefill, end later by it."""
    for arrived, jobs in ((4.5, 1), (4.5, 3)):
        alone, beside = ([Request(16, 20), Request(100, 10, arrived=0.5)] for _ in range(2))
        limits = Limits(tokens=40)
        drive(Replica(SECOND, KvCache(math.inf), limits), alone)
        encoded = [Job(7, 0.25, 3, arrived) for _ in range(jobs)]
        replica = Replica(SECOND, KvCache(math.inf), limits)
        drive(replica, beside, encoded)
        assert [job.started for job in encoded] == [5.0 + 0.25 * number for number in range(jobs)]
        assert [two.ended - one.ended for one, two in zip(alone, beside, strict=True)] == [0.25 * jobs] * 2
        assert beside[0].tpot == alone[0].tpot + 0.25 * jobs / 19
        assert replica.tally.busy == 20 + 0.25 * jobs


def test_jobs_go_before_prompts_in_order_of_arrival() -> None:
    """A call that came first but was not taken in yet waits for both jobs."""
    request, jobs = Request(16, 2, arrived=0.5), [Job(1, 2.0, 1, 0.6), Job(2, 3.0, 1, 0.7)]
    drive(Replica(SECOND, KvCache(math.inf), Limits()), [Request(16, 1), request], jobs)
    assert [(job.started, job.ended) for job in jobs] == [(1.0, 3.0), (3.0, 6.0)]
    assert (request.admitted, request.ended) == (6.0, 8.0)


def test_what_was_encoded_lies_there_until_its_call_is_prefilled() -> None:
    """The blocks of a task are free when its own call has its first token, not another's; a second job waits for them."""
    replica = Replica(SECOND, KvCache(10.0), Limits(block=16))
    own, other = Request(32, 20, arrived=6.0), Request(32, 20, arrived=3.0)
    own.session, other.session = (1, 0, 0), (2, 0, 0)
    jobs = [Job(1, 1.0, 6), Job(3, 1.0, 3, arrived=4.0)]
    drive(replica, [other, own], jobs)
    assert jobs[0].ended == 1.0
    assert (other.admitted, other.first_token) == (3.0, 4.0)
    # 10 blocks: 6 of the first job, 2 of the other call, and by 6 s its growth: the second job finds too few, and nobody overtakes it.
    assert jobs[1].started == other.ended
    assert own.first_token == pytest.approx(other.ended + 1.0 + 1.0)
    assert jobs[0].lease is None
    assert jobs[1].lease is not None
    assert replica.kv.used == 3


def test_cached_blocks_yield_to_a_job_and_running_requests_do_not() -> None:
    """A cache full of a call that is over makes room; a call that runs is not preempted for a job."""
    replica = Replica(SECOND, KvCache(10.0), Limits(block=16))
    first = Request(144, 1, path=(("a", 9),))
    running = Request(64, 6, arrived=10.0, path=(("b", 4),))
    jobs = [Job(1, 1.0, 9, arrived=5.0), Job(1, 1.0, 1, arrived=8.0), Job(2, 1.0, 6, arrived=11.5)]
    drive(replica, [first, running], jobs)
    assert replica.kv.evicted >= 9
    assert jobs[0].started == 5.0
    assert running.preemptions == 0
    assert jobs[2].started == running.ended


def test_where_nobody_could_run_what_was_made_first_yields() -> None:
    """Two inputs of tasks that do not call yet fill the memory: a call that fits alone is taken in, and has the older one's blocks."""
    replica = Replica(SECOND, KvCache(10.0), Limits(block=16))
    jobs = [Job(1, 1.0, 5), Job(2, 1.0, 5)]
    call = Request(64, 4, arrived=5.0)
    call.session = (3, 0, 0)
    drive(replica, [call], jobs)
    assert (call.admitted, call.ended) == (5.0, 9.0)
    assert [job.lease is None for job in jobs] == [True, False]


def test_a_task_may_be_over_before_its_job_is_seen() -> None:
    """With a scheduler that works ahead, a job that came in an iteration is given up, or its task is over, in the same one."""
    replica = AheadReplica(SECOND, KvCache(10.0), Limits(block=16))
    replica.submit(Request(16, 5), 0.0)
    replica.wake(0.0)
    replica.begin(0.0)
    jobs = [Job(task, 1.0, 3) for task in (1, 2)]
    for job in jobs:
        replica.encode(job, 0.5)
    replica.drop(jobs[0], 0.6)
    replica.forget(2, 0.7)
    while (now := replica.next_time) < math.inf:
        replica.wake(now)
        replica.begin(now)
    assert [job.ended for job in jobs] == [pytest.approx(math.nan, nan_ok=True), 3.0]
    assert replica.kv.used == 0


def test_a_job_that_never_fits_is_refused() -> None:
    """More blocks than there are."""
    with pytest.raises(ValueError, match="fit"):
        Replica(SECOND, KvCache(10.0), Limits()).encode(Job(0, 1.0, 11), 0.0)


# Within a system

ENCODER: Data = {"enc": {"latency": "1 s", "model": "llm"}}
SERVED: Data = {
    "profile": "h100-sxm",
    "encoders": ENCODER,
    "agents": {"a": {"prompt": "160 tokens", "output": "32 tokens"}},
    "models": {"llm": {"shape": "llama-3.2-1b", "memory": {"kv": "64 MB"}}},
}
STATION: Data = {
    "encoders": ENCODER,
    "agents": {"a": {"output": "10 tokens"}},
    "models": {"llm": {"decode": "1 s / token", "concurrency": 1}},
}
Act = tuple[str, float]  # "wait" and seconds, "encode" and bytes (1 s each), "call", or "end"


class World:
    """Tasks that encode, call and wait as they are told."""

    def __init__(self, world: Data) -> None:
        scenario = scene(world)
        self.system = System(scenario, 1, 0, "none")
        self.server = self.system.servers["llm"]
        agent = scenario.agents["a"]
        home = self.system.home(agent.node, self.server)
        self.call: ModelCall = self.system.call("agents.a", home, self.server, agent.prompt, agent.output)
        self.branches: list[Branch] = []
        self.failures: list[str] = []
        self.times: list[list[float]] = []  # when each task had done each act

    def start(self, *acts: Act) -> Branch:
        """Let one more task arrive now."""
        number, now = len(self.branches), self.system.sim.now
        task = self.system.ledger.open(number, 0, now)
        task.trunk = branch = Branch(task, 0, now, self.system.context(number))
        self.branches.append(branch)
        self.times.append([])
        branch.start(self._script(branch, acts, self.times[-1]))
        return branch

    def _script(self, branch: Branch, acts: Sequence[Act], times: list[float]) -> Any:
        try:
            for act, size in acts:
                if act == "encode":
                    yield from self.server.encode(branch, 1.0, size)
                elif act == "call":
                    yield from self.call.perform(branch)
                elif act == "wait":
                    branch.time += size
                    branch.settle()
                    yield
                else:
                    self.server.forget(branch.index)
                times.append(branch.time)
        except TaskFailed as failed:
            self.failures.append(str(failed))
        yield

    def later(self, when: float, what: Callable[[], Any]) -> None:
        """Do something at a time."""
        self.system.sim.schedule_at(when, Call(lambda _event: what()))

    def parts(self, number: int) -> dict[tuple[str, str, str], float]:
        """Return the seconds of a task by category, component and name."""
        accounts = self.system.ledger.accounts
        return {
            (a.category, a.component, a.name): s
            for a, s in zip(accounts, self.branches[number].parts, strict=True)
            if s
        }


def test_encoding_is_inference_of_its_own_name_and_its_memory_goes_with_the_call() -> None:
    """1 s a job and the wait for the other's are booked; each block is free when its task has called, or is over."""
    world = World(SERVED)
    world.start(("encode", 20e6), ("wait", 3.0), ("call", 0))
    world.start(("encode", 20e6), ("wait", 20.0), ("end", 0))
    kv = world.server.pool.replicas[0].kv
    used = []
    for when in (0.5, 1.5, 2.5, 10.0, 30.0):
        world.later(when, lambda: used.append(kv.used))
    world.system.sim.run()
    each = math.ceil(20e6 / (world.server.kv_bytes * 16))
    assert used == [each, 2 * each, 2 * each, each, 0]
    assert world.parts(0)["inference", "llm", "encode"] == 1.0
    assert world.parts(1) == {("queueing", "models.llm", "queueing"): 1.0, ("inference", "llm", "encode"): 1.0}
    assert not world.failures


def test_the_call_goes_where_its_input_was_encoded() -> None:
    """Round robin would send it elsewhere; with nothing encoded for it, it does."""
    world = World({**SERVED, "models": {"llm": {**SERVED["models"]["llm"], "replicas": 3}}})
    world.start(("encode", 20e6), ("encode", 5e6), ("call", 0), ("call", 0))
    world.system.sim.run()
    tallies = [replica.tally for replica in world.server.pool.replicas]
    assert [tally.prompts for tally in tallies] == [1, 1, 0]
    assert [replica.kv.used for replica in world.server.pool.replicas] == [0, 0, 0]
    assert tallies[0].busy > 2.0 > tallies[1].busy


def test_an_input_larger_than_the_memory_fails_its_task() -> None:
    """It is told at once, and under one reason."""
    world = World(SERVED)
    world.start(("encode", 1e9), ("call", 0))
    world.system.sim.run()
    assert world.failures == ["models.llm: what was encoded is larger than the memory for KV"]
    assert world.server.pool.replicas[0].kv.used == 0


@pytest.mark.parametrize("when", [0.5, 1.5])
def test_who_is_cancelled_gives_the_memory_back(when: float) -> None:
    """In line (behind another's job) or under way: what it had until then is booked, and nothing is held in the end."""
    world = World(SERVED)
    world.start(("encode", 20e6), ("wait", 5.0), ("end", 0))
    branch = world.start(("encode", 20e6), ("call", 0))
    world.later(when, branch.cancel)
    world.system.sim.run()
    assert world.parts(1).get(("inference", "llm", "encode"), 0.0) == max(0.0, when - 1.0)
    assert world.parts(1)["queueing", "models.llm", "queueing"] == min(when, 1.0)
    assert world.server.pool.replicas[0].kv.used == 0
    assert world.times[1] == []


def test_a_task_that_is_over_holds_nothing_even_if_a_job_of_it_runs_on() -> None:
    """Forgotten while its job runs or waits, its blocks are free when the job is over."""
    world = World(SERVED)
    world.start(("encode", 20e6))
    world.start(("encode", 20e6))
    for task in (0, 1):
        world.later(0.5, partial(world.server.forget, task))
    world.system.sim.run()
    assert world.times == [[1.0], [2.0]]
    assert world.server.pool.replicas[0].kv.used == 0


def test_at_a_station_a_job_takes_a_slot() -> None:
    """The second task's job waits for the first's call to end: 10 s; all is booked."""
    world = World(STATION)
    world.start(("call", 0), ("encode", 1e6))
    world.start(("encode", 1e6))
    world.system.sim.run()
    assert world.times == [[10.0, 12.0], [11.0]]
    assert world.parts(1) == {("queueing", "models.llm", "queueing"): 10.0, ("inference", "llm", "encode"): 1.0}
    assert world.parts(0)["queueing", "models.llm", "queueing"] == 1.0
