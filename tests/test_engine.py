"""The event loop against SimPy's own, and branches of a task: local time, forks, joins and cancellation."""

import random
from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest
import simpy

from coordsim.sim.engine.branch import Branch, Join, Wait
from coordsim.sim.engine.ledger import Ledger, Task, entries
from coordsim.sim.engine.pool import Pool
from coordsim.sim.engine.sharing import Sharing
from coordsim.sim.engine.simulation import Call, Simulation

Walk = Callable[[Branch], Iterable[None]]
Log = list[tuple[float, str]]


def shop(env: simpy.Environment, log: Log) -> None:
    """Put processes into an environment that use much of SimPy: resources, conditions, interrupts and failures."""
    chance = random.Random(7)
    counter = simpy.PriorityResource(env, 2)
    belt = simpy.Store(env, 3)

    def customer(number: int) -> Generator[Any, Any, None]:
        yield env.timeout(chance.expovariate(1))
        with counter.request(priority=number % 3) as turn:
            found = yield turn | env.timeout(2.0)
            log.append((env.now, f"{number} {'served' if turn in found else 'gone'}"))
            if turn in found:
                yield env.timeout(chance.expovariate(0.5))
                yield belt.put(number)

    def packer() -> Generator[Any, Any, None]:
        while True:
            try:
                number = yield belt.get()
                log.append((env.now, f"packed {number}"))
                yield env.timeout(0.5)
            except simpy.Interrupt as why:
                log.append((env.now, f"stopped for {why.cause}"))

    def thief(victim: simpy.Process) -> Generator[Any, Any, None]:
        yield env.timeout(9.0)
        victim.interrupt("a thief")
        broken = env.event().fail(ValueError("glass"))
        try:
            yield broken
        except ValueError as error:
            log.append((env.now, str(error)))

    packing = env.process(packer())
    env.process(thief(packing))
    for number in range(40):
        env.process(customer(number))


def test_simpy_runs_unchanged() -> None:
    """Processes, resources, stores, conditions, interrupts and failed events give the same log as on SimPy's own loop."""
    ours, theirs = Simulation(), simpy.Environment()
    here: Log = []
    there: Log = []
    shop(ours, here)
    shop(theirs, there)
    ours.run(until=60.0)
    theirs.run(until=60.0)
    assert len(here) > 40
    assert {text.split()[0] for _, text in here} >= {"packed", "stopped", "glass"}
    assert here == there
    assert ours.now == 60.0


def test_a_failure_that_nobody_handles_ends_the_run() -> None:
    """An event that fails without a process to take it raises its error, as in SimPy."""
    sim = Simulation()
    sim.event().fail(KeyError("lost"))
    with pytest.raises(KeyError, match="lost"):
        sim.run()


def test_a_run_ends_after_the_events_of_its_last_instant() -> None:
    """What is scheduled for the very end still happens; what comes later waits for the next run."""
    sim = Simulation()
    log: Log = []
    for when in (1.0, 2.0, 2.0, 3.0):
        sim.schedule_at(when, Call(lambda _event: log.append((sim.now, "call"))))
    sim.run(until=2.0)
    assert (len(log), sim.now) == (3, 2.0)
    sim.run()
    assert log[-1] == (3.0, "call")
    with pytest.raises(ValueError, match="until >= now"):
        sim.run(until=1.0)


def test_a_cancelled_call_does_nothing() -> None:
    """Its event passes without effect."""
    sim = Simulation()
    log: Log = []
    call = Call(lambda _event: log.append((sim.now, "call")))
    sim.schedule_at(1.0, call)
    call.cancel()
    sim.run()
    assert not log
    assert sim.now == 1.0


def test_scheduled_events_are_counted_without_changing_ties() -> None:
    """Reading the count takes no number from the sequence that breaks ties."""
    sim = Simulation()
    counts = [sim.scheduled]
    for _ in range(3):
        sim.schedule_at(1.0, Call(lambda _event: None))
        counts += [sim.scheduled, sim.scheduled]
    assert counts == [0, 1, 1, 2, 2, 3, 3]


class World:
    """A ledger with two accounts, a pool and a link, and a task whose trunk runs a script."""

    def __init__(self, spans: str = "all", servers: int = 1) -> None:
        self.sim = Simulation()
        self.ledger = Ledger(self.sim, ("calls",), spans)
        self.work = self.ledger.account("tool", "t", "tool.execute")
        self.wait = self.ledger.account("queueing", "t")
        self.pool = Pool(self.sim, "t", servers)
        self.pool.queue_account, self.pool.service_account = self.wait, self.work
        self.link = Sharing(self.sim, "link", 100.0)
        self.link.service_account = self.ledger.account("communication", "link")

    def task(self, walk: Callable[[Branch], Iterable[None]]) -> Task:
        """Start a task now."""
        task = self.ledger.open(self.ledger.arrived, 0, self.sim.now)
        task.trunk = Branch(task, 0, self.sim.now, None)
        task.trunk.start(self._trunk(task.trunk, walk))
        return task

    def _trunk(self, branch: Branch, walk: Walk) -> Generator[None, Any, None]:
        yield from walk(branch)
        branch.settle()
        yield
        self.ledger.close(branch)
        yield

    def run(self) -> list[list[float]]:
        """Run to the end; return the rows."""
        self.sim.run()
        self.ledger.finish(None)
        return [[float(value) for value in row] for row in self.ledger.rows()]

    def delays(self, *seconds: float) -> Walk:
        """Return a script of delays."""

        def walk(branch: Branch) -> Iterable[None]:
            for one in seconds:
                branch.add(self.work, one)
            yield from ()

        return walk

    def uses(self, *seconds: float) -> Walk:
        """Return a script of uses of the pool."""

        def walk(branch: Branch) -> Iterable[None]:
            for one in seconds:
                wait = branch.wait
                if self.pool.use(wait, branch.time, one):
                    yield
                branch.book(self.wait, wait.arrived, wait.started)
                branch.book(self.work, wait.started, wait.ended)

        return walk

    def sends(self, size: float) -> Walk:
        """Return a script that sends bytes."""

        def walk(branch: Branch) -> Iterable[None]:
            self.link.use(branch.wait, branch.time, size)
            yield
            branch.book(self.link.service_account, branch.wait.arrived, self.sim.now)

        return walk

    def fork(self, needed: int, cancels: bool, *walks: Walk) -> Walk:
        """Return a script that forks and waits for the join."""

        def walk(branch: Branch) -> Iterable[None]:
            join = Join(branch, needed, cancels)
            for number, one in enumerate(walks, start=1):
                child = branch.fork(10 * branch.lane + number, None)
                join.add(child, self._child(child, one, join))
            yield
            self.join = join

        return walk

    def _child(self, branch: Branch, walk: Walk, join: Join) -> Generator[None, Any, None]:
        yield from walk(branch)
        join.arrive(branch)
        yield


END, OVERLAPPED, WORK, WAITING = 3, 5, 7, 8


def test_consecutive_delays_cost_one_event() -> None:
    """A hundred delays only move local time: the task costs its end alone."""
    world = World()
    world.task(world.delays(*[0.1] * 100))
    (row,) = world.run()
    assert row[END] == pytest.approx(10.0)
    assert world.sim.scheduled == 1


def test_a_join_waits_for_the_last() -> None:
    """The parent goes on when the slowest branch ends; what the others did is overlapped."""
    world = World()
    world.task(world.fork(3, False, world.delays(1.0), world.delays(5.0), world.delays(2.0)))
    (row,) = world.run()
    assert (row[END], row[WORK], row[OVERLAPPED]) == (5.0, 5.0, 3.0)
    assert [branch.time for branch in world.join.arrived] == [1.0, 2.0, 5.0]


def test_a_quorum_goes_on_with_the_kth() -> None:
    """Two of three: the second arrival releases; the third runs on, and its work counts though the task is over."""
    world = World()
    world.task(world.fork(2, False, world.delays(1.0), world.uses(5.0, 4.0), world.delays(2.0)))
    (row,) = world.run()
    assert (row[END], row[WORK], row[OVERLAPPED]) == (2.0, 2.0, 1.0 + 9.0)


def test_a_cancelled_branch_gives_back_its_server_and_its_bandwidth() -> None:
    """What was in service, in line, or on the wire makes room at once, and counts up to then."""
    world = World()
    world.task(world.fork(1, True, world.delays(2.0), world.uses(50.0), world.uses(50.0), world.sends(1e6)))
    later = []

    def another(_event: object) -> None:
        later.append(world.task(world.uses(1.0)))
        later.append(world.task(world.sends(100.0)))

    world.sim.schedule_at(2.5, Call(another))
    rows = world.run()
    assert rows[0][OVERLAPPED] == pytest.approx(3 * 2.0)
    assert [row[END] for row in rows] == [2.0, 3.5, 3.5]
    assert world.pool.busy == 0
    assert world.link.present == 0


def test_a_branch_that_is_cancelled_before_it_arrives_never_does() -> None:
    """Its arrival lies in the event queue, and comes to nothing."""
    world = World()

    def sleeps(branch: Branch) -> Iterable[None]:
        yield from world.delays(10.0)(branch)
        yield from world.uses(1.0)(branch)

    world.task(world.fork(1, True, world.delays(1.0), sleeps))
    (row,) = world.run()
    assert row[OVERLAPPED] == pytest.approx(1.0)
    assert world.pool.arrivals == 0


def test_cancelling_reaches_the_branches_of_a_branch() -> None:
    """A cancelled branch that waits for branches of its own takes them with it, those that had arrived included."""
    world = World(servers=5)
    inner = world.fork(3, False, world.uses(100.0), world.delays(1.0), world.fork(1, True, world.uses(70.0)))
    world.task(world.fork(1, True, world.delays(3.0), inner))
    (row,) = world.run()
    assert world.sim.now == 100.0  # the abandoned ends still lie in the queue
    assert world.pool.busy == 0
    assert row[END] == 3.0
    assert row[OVERLAPPED] == pytest.approx(3.0 + 1.0 + 3.0)


def test_what_a_cancelled_branch_did_ahead_of_the_clock_never_was() -> None:
    """Neither its parts nor its spans reach behind the moment of the cancellation."""
    world = World()

    def walk(branch: Branch) -> Iterable[None]:
        yield from world.uses(0.5)(branch)
        yield from world.delays(0.25, 10.0, 10.0)(branch)
        branch.settle()
        yield

    world.task(world.fork(1, True, world.delays(2.0), walk))
    (row,) = world.run()
    assert row[OVERLAPPED] == pytest.approx(2.0)
    kept = world.ledger.kept[0]
    assert kept.spans is not None
    assert max(end for _, _, _, _, end, *_ in entries(kept.spans)) == 2.0


def test_a_server_that_is_held_is_given_back() -> None:
    """Both a branch that is cancelled and one that fails free what they hold."""
    world = World()

    def holds(branch: Branch) -> Iterable[None]:
        world.pool.take(branch.wait, branch.time)
        yield
        branch.held = [world.pool]
        branch.add(world.work, 50.0)
        branch.settle()
        yield

    world.task(world.fork(1, True, world.delays(2.0), holds))
    world.run()
    assert world.pool.busy == 0

    other = World()
    task = other.task(other.delays(3.0))
    other.pool.take(Wait(lambda _event: None), 0.0)
    task.trunk.held = [other.pool]
    task.trunk.let_go()
    assert other.pool.busy == 1  # until its local time
    other.run()
    assert other.pool.busy == 0


def test_lost_work_moves_to_recovery() -> None:
    """The parts since a moment go to another account, and its spans are marked."""
    world = World()
    recovery = world.ledger.account("recovery", "t")

    def walk(branch: Branch) -> Iterable[None]:
        branch.add(world.work, 1.0)
        before, first = branch.parts[:], 1
        branch.add(world.work, 2.0)
        branch.add(world.wait, 4.0)
        branch.lose(before, first, recovery)
        branch.add(world.work, 8.0)
        yield from ()

    task = world.task(walk)
    (row,) = world.run()
    assert (row[WORK], row[WAITING], row[-1]) == (9.0, 0.0, 6.0)
    assert task.lost == [(0, 1, 3, recovery)]
