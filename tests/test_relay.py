"""Pieces handed between branches of a task, against the max-plus recursion; critical paths, overlapped work, early ends."""

from collections.abc import Callable, Generator, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.sim.analysis.spans import RawTask, materialize
from coordsim.sim.engine.branch import Branch, Join
from coordsim.sim.engine.critical import cover, critical_stretches
from coordsim.sim.engine.errors import ConservationError
from coordsim.sim.engine.fifo import FifoPool
from coordsim.sim.engine.ledger import STRUCTURE, Ledger, Span, Task
from coordsim.sim.engine.pool import Pool
from coordsim.sim.engine.relay import Relay, Stages
from coordsim.sim.engine.simulation import Call, Simulation

STAGES = 4  # at most
Walk = Callable[[Branch], Iterable[None]]
Works = list[list[float]]  # of each stage, of each piece: seconds


class World:
    """A ledger with an account and a pool for each stage, one for their queues, and one for waiting."""

    def __init__(self, spans: str = "all", fifo: bool = False) -> None:
        self.sim = Simulation()
        self.ledger = Ledger(self.sim, (), spans, clips=True)
        self.work = [self.ledger.account("tool", f"s{number}") for number in range(STAGES)]
        self.queues = [self.ledger.account("queueing", f"s{number}") for number in range(STAGES)]
        self.sync = self.ledger.account("synchronization", "parent")
        self.group = self.ledger.account(STRUCTURE, "stage", "step")
        self.pools = [(FifoPool if fifo else Pool)(self.sim, f"s{number}", 1) for number in range(STAGES)]
        for pool, queue, work in zip(self.pools, self.queues, self.work, strict=True):
            if isinstance(pool, Pool):
                pool.queue_account, pool.service_account = queue, work
        self.lanes = 0  # given out
        self.log: dict[
            int, list[list[tuple[float, np.ndarray]]]
        ] = {}  # of each task, stage and piece: end and own parts

    def task(self, walk: Walk, at: float = 0.0) -> None:
        """Start a task at time `at`."""

        def begin(_event: object) -> None:
            task = self.ledger.open(self.ledger.arrived, 0, at)
            task.trunk = Branch(task, 0, at, None)
            task.trunk.start(self._trunk(task.trunk, walk))

        self.sim.schedule_at(at, Call(begin))

    def _trunk(self, branch: Branch, walk: Walk) -> Generator[None, Any, None]:
        outer, began = branch.open_span(), branch.time
        yield from walk(branch)
        branch.close_span(outer, self.group, began)
        branch.settle()
        yield
        self.ledger.close(branch)
        yield

    def run(self, horizon: float | None = None) -> list[list[float]]:
        """Run to the end, or to the horizon; return the rows. Whatever was run, its critical spans tell its parts."""
        self.sim.run(horizon)
        self.ledger.finish(horizon)
        rows = [[float(value) for value in row] for row in self.ledger.rows()]
        for task in self.ledger.kept:
            self.check(task, next(row for row in rows if row[0] == task.index))
        return rows

    def check(self, task: Task, row: list[float]) -> None:
        """The critical spans of a task abut from its arrival to its end, and sum to its parts."""
        path = [span for span in self.leaves(task) if span.critical]
        sums = [
            sum(
                span.end - span.start
                for span in path
                if (span.component, span.category) == (one.component, one.category)
            )
            for one in self.ledger.accounts
        ]
        np.testing.assert_allclose(sums, row[6:], atol=1e-9)
        edges = [row[2], *(edge for span in path for edge in (span.start, span.end)), row[3]]
        np.testing.assert_allclose(edges[::2], edges[1::2], atol=1e-12)
        assert row[5] >= -1e-9
        assert min(task.overlapped or [0.0]) >= -1e-9

    def leaves(self, task: Task) -> list[Span]:
        """Return the spans of a task that hold time."""
        return [s for s in materialize(RawTask.of(task), self.ledger.chart) if s.category != STRUCTURE]

    def do(self, branch: Branch, stage: int, seconds: float, pooled: bool) -> Generator[None, Any, None]:
        """Let a branch work for `seconds`, as a customer of the stage's pool if `pooled`; keep what it had."""
        before = np.array(branch.parts)
        if pooled:
            pool, wait = self.pools[stage], branch.wait
            if pool.use(wait, branch.time, seconds):
                yield
            branch.book(self.queues[stage], wait.arrived, wait.started)
            branch.book(self.work[stage], wait.started, wait.ended)
        else:
            branch.add(self.work[stage], seconds)
        log = self.log.setdefault(branch.index, [[] for _ in range(STAGES)])
        log[stage].append((branch.time, np.array(branch.parts) - before))

    def stage(
        self, branch: Branch, number: int, works: list[float], source: Relay | None, sink: Relay | None, pooled: bool
    ) -> Generator[None, Any, None]:
        """One stage of a pipeline: take a piece, work on it, hand it on."""
        outer, began = branch.open_span(), branch.time
        for seconds in works:
            if source is not None:
                yield from source.receive(branch)
                assert source.piece is not None
            yield from self.do(branch, number, seconds, pooled)
            if sink is not None:
                sink.put(branch, seconds)
        if sink is not None:
            sink.end(branch)
        branch.close_span(outer, self.group, began)

    def child(self, branch: Branch, join: Join, walk: Iterable[None]) -> Generator[None, Any, None]:
        """Walk, and arrive at the join."""
        yield from walk
        join.arrive(branch)
        yield

    def fork(self, branch: Branch, join: Join, *walks: Walk) -> list[Branch]:
        """Fork a branch for each of `walks`."""
        children = [branch.fork(self.lanes + number, None) for number in range(1, len(walks) + 1)]
        self.lanes += len(walks)
        for child, walk in zip(children, walks, strict=True):
            join.add(child, self.child(child, join, walk(child)))
        return children

    def stages(self, works: Works, relays: list[Relay], pooled: bool) -> list[Walk]:
        """Return the scripts of a pipeline; the last stage puts into the last relay if there is one for it."""

        def walk(number: int) -> Walk:
            source = relays[number - 1] if number else None
            sink = relays[number] if number < len(relays) else None
            return lambda branch: self.stage(branch, number, works[number], source, sink, pooled)

        return [walk(number) for number in range(len(works))]

    def producer(self, number: int, works: list[float], relay: Relay) -> Walk:
        """Return the script of a first stage."""
        return lambda branch: self.stage(branch, number, works, None, relay, False)

    def works(self, number: int, seconds: float) -> Walk:
        """Return a script that works in a stage's account."""
        return lambda branch: self.do(branch, number, seconds, False)

    def pipeline(self, works: Works, pooled: bool = False) -> Walk:
        """Return a script that runs a pipeline and waits for all of its stages."""

        def walk(branch: Branch) -> Iterable[None]:
            join = Join(branch, len(works))
            self.fork(branch, join, *self.stages(works, [Relay() for _ in works[1:]], pooled))
            yield

        return walk


def recursion(own: list[list[np.ndarray]], begin: float) -> tuple[list[list[float]], np.ndarray]:
    """Return the end of each stage's work on each piece, and the parts on the path to the last.

    `own[s][k]` are the seconds per account that stage s spends on piece k.
    """
    size = len(own[0][0])
    ends = [[begin] * len(own[0]) for _ in own]
    paths = [[np.zeros(size)] * len(own[0]) for _ in own]
    for s, stage in enumerate(own):
        for k, parts in enumerate(stage):
            ready, path = (ends[s][k - 1], paths[s][k - 1]) if k else (begin, np.zeros(size))
            if s and ends[s - 1][k] > ready:
                ready, path = ends[s - 1][k], paths[s - 1][k]
            ends[s][k] = ready + float(parts.sum())
            paths[s][k] = path + parts
    return ends, paths[-1][-1]


@st.composite
def pipelines(draw: st.DrawFn) -> Works:
    """Draw stages and pieces; whole seconds make pieces that come when their consumer is ready, on the dot."""
    pieces = draw(st.integers(1, 7))
    seconds = st.integers(1, 4).map(float) | st.floats(0.001, 5.0)
    work = st.lists(seconds, min_size=pieces, max_size=pieces)
    return draw(st.lists(work, min_size=1, max_size=STAGES))


@settings(max_examples=80, deadline=None)
@given(pipelines())
def test_a_pipeline_obeys_the_max_plus_recursion(works: Works) -> None:
    """Each piece ends as in numpy, each account has its seconds of the critical path, the rest of the work is overlapped."""
    world = World()
    world.task(world.pipeline(works), at=3.0)
    (row,) = world.run()
    own = [[np.eye(2 * STAGES + 1)[s] * seconds for seconds in stage] for s, stage in enumerate(works)]
    ends, path = recursion(own, 3.0)
    found = [[end for end, _ in stage] for stage in world.log[0][: len(works)]]
    np.testing.assert_allclose(found, ends, rtol=1e-12)
    np.testing.assert_allclose(row[6:], path, atol=1e-9)
    assert row[3] == pytest.approx(ends[-1][-1], rel=1e-12)
    assert row[5] == pytest.approx(np.sum(works) - (row[3] - 3.0), abs=1e-9)
    overlapped = world.ledger.kept[0].overlapped or [0.0] * len(path)
    np.testing.assert_allclose(overlapped, np.sum(own, axis=(0, 1)) - path, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(pipelines(), min_size=1, max_size=4), st.booleans(), st.floats(0.1, 3.0))
def test_the_recursion_holds_where_stages_contend(load: list[Works], fifo: bool, gap: float) -> None:
    """Several tasks share one server per stage: with the waits that each piece had, the recursion gives ends and path."""
    world = World(fifo=fifo)
    for number, works in enumerate(load):
        world.task(world.pipeline(works, pooled=True), at=number * gap)
    rows = world.run()
    for number, (works, row) in enumerate(zip(load, rows, strict=True)):
        log = world.log[number][: len(works)]
        ends, path = recursion([[parts for _, parts in stage] for stage in log], number * gap)
        np.testing.assert_allclose([[end for end, _ in stage] for stage in log], ends, rtol=1e-9)
        np.testing.assert_allclose(row[6:], path, atol=1e-9)
        assert row[5] + row[3] - row[2] == pytest.approx(sum(p.sum() for stage in log for _, p in stage), abs=1e-9)
    bare = World("none", fifo)
    for number, works in enumerate(load):
        bare.task(bare.pipeline(works, pooled=True), at=number * gap)
    assert bare.run() == rows


@settings(max_examples=80, deadline=None)
@given(st.lists(pipelines(), min_size=1, max_size=3), st.booleans(), st.booleans(), st.floats(0.01, 1.1))
def test_a_pipeline_is_cut_off_at_the_horizon(load: list[Works], pooled: bool, fused: bool, share: float) -> None:
    """Wherever the run ends, the parts of a task sum to its time until then, and its critical spans tell them."""
    horizon = share * max(sum(map(max, zip(*works, strict=True))) for works in load)
    world = World()
    for number, works in enumerate(load):
        walk = fusion(world, works, (len(works[0]) + 1) // 2, pooled) if fused else world.pipeline(works, pooled)
        world.task(walk, at=0.3 * number)
    for row in world.run(horizon):
        assert row[3] <= horizon
        assert sum(row[6:]) == pytest.approx(row[3] - row[2], abs=1e-9)
        assert row[3] == horizon or row[4] == 0


def fusion(
    world: World, works: Works, needed: int, pooled: bool = False, cancels: bool = True, last: float = 0.0
) -> Walk:
    """Return a script whose trunk takes `needed` pieces of a pipeline itself, and stops it there.

    Before the pipeline it works for 2 s, on each piece for 0.25 s, and for `last` seconds once it needs no more.
    """

    def walk(branch: Branch) -> Iterable[None]:
        branch.add(world.sync, 2.0)
        stages = Stages(branch, cancels)
        relays = [Relay() for _ in works]
        world.fork(branch, stages, *world.stages(works, relays, pooled))
        for _ in range(needed):
            yield from stages.receive(relays[-1])
            branch.add(world.sync, 0.25)
        branch.add(world.sync, last)
        yield from stages.close()

    return walk


@settings(max_examples=60, deadline=None)
@given(pipelines(), st.data(), st.floats(0.0, 5.0))
def test_what_was_done_until_a_pipeline_is_stopped_is_overlapped(
    works: Works, data: st.DataObject, last: float
) -> None:
    """The parent stops at a piece: stages that ran ahead or were at work count up to then, and not a second twice."""
    needed = data.draw(st.integers(1, len(works[0])))
    world = World()
    world.task(fusion(world, works, needed, last=last))
    (row,) = world.run()
    own = [[np.eye(2 * STAGES + 1)[s] * seconds for seconds in stage] for s, stage in enumerate(works)]
    ends, _ = recursion(own, 2.0)
    parent, _ = recursion([*(stage[:needed] for stage in own), [np.full(1, 0.25)] * needed], 2.0)
    stop = parent[-1][-1] + last
    assert row[3] == pytest.approx(stop, rel=1e-12)
    until = [
        sum(max(0.0, min(e, stop) - e + w) for e, w in zip(*both, strict=True))
        for both in zip(ends, works, strict=True)
    ]
    total = np.zeros(2 * STAGES + 1)
    total[: len(works)] = until
    total[-1] = 2.0 + 0.25 * needed + last
    np.testing.assert_allclose(np.array(row[6:]) + (world.ledger.kept[0].overlapped or 0.0), total, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(pipelines(), min_size=1, max_size=4), st.booleans(), st.floats(0.1, 3.0))
def test_pipelines_that_are_stopped_leave_their_servers_free(load: list[Works], cancels: bool, gap: float) -> None:
    """Tasks that share servers and stop halfway: the law holds for each, and at the end nobody is in service or in line."""
    tables = []
    for spans in ("all", "none"):
        world = World(spans)
        for number, works in enumerate(load):
            world.task(fusion(world, works, (len(works[0]) + 1) // 2, True, cancels), at=number * gap)
        tables.append(world.run())
        assert all((pool.busy, pool.waiting) == (0, 0) for pool in world.pools if isinstance(pool, Pool))
        assert not world.ledger.lingering
    assert tables[0] == tables[1]


def test_a_pipeline_may_run_on() -> None:
    """Nobody cancels it: all of its work counts, though the task is over after the first piece."""
    world = World()
    world.task(fusion(world, [[1.0, 1.0, 1.0], [3.0, 3.0, 3.0]], 1, cancels=False))
    (row,) = world.run()
    assert (row[3], row[5]) == (2.0 + 1 + 3 + 0.25, 12.0 - 4.0)
    assert world.sim.now == 2.0 + 1 + 9


def test_a_piece_of_a_cancelled_stage_never_comes() -> None:
    """A stage ran ahead of the clock and put its pieces; once it is cancelled, those that lie ahead are dropped."""
    world = World()
    came = []

    def walk(branch: Branch) -> Iterable[None]:
        relay = Relay(2, world.sync)
        stages = Stages(branch)
        early, _ = world.fork(
            branch,
            stages,
            world.producer(0, [1.0, 5.0], relay),
            world.producer(1, [2.0, 6.0], relay),
        )
        yield from stages.receive(relay)
        yield from stages.receive(relay)
        early.cancel()
        relay.forget(early)
        while (yield from stages.receive(relay)) is not None:
            came.append(branch.time)
        yield from stages.close()

    world.task(walk)
    (row,) = world.run()
    assert came == [8.0]
    assert (row[3], row[5]) == (8.0, 2.0)


def iterate(walk: Iterable[None]) -> Generator[None, Any, None]:
    """Return a walk as a whole script."""
    yield from walk
    yield


def take_all(relay: Relay, log: list[tuple[float, Any]], busy: float = 0.0) -> Walk:
    """Return a script that logs what it takes, being busy for a while first."""

    def walk(branch: Branch) -> Iterable[None]:
        branch.time += busy
        while True:
            ready = branch.time
            if relay.take(branch):
                yield
            if relay.piece is None:
                log.append((branch.time, relay.failure))
                return
            log.append((max(ready, relay.piece.time), relay.piece.payload))
            branch.time = ready

    return walk


@pytest.mark.parametrize("busy", [0.0, 2.5, 20.0])
def test_pieces_of_several_producers_come_in_order_of_time(busy: float) -> None:
    """However far the producers run ahead of the clock, and the consumer; those of one instant in the order of the puts."""
    world = World("none")
    relay = Relay(3)
    log: list[tuple[float, Any]] = []
    branches = [Branch(world.ledger.open(number, 0, 0.0), 0, 0.0, None) for number in range(4)]
    plans: list[list[float]] = [[1, 4, 9], [2, 4], [0.5, 4, 7]]
    for name, producer, times in zip("abc", branches[:3], plans, strict=True):
        producer.start(x for x in [None, None])
        for time in times:
            producer.time = time
            relay.put(producer, f"{name}{time}")
        relay.end(producer, "broke" if name == "b" else None)
    branches[3].start(iterate(take_all(relay, log, busy)(branches[3])))
    world.sim.run()
    assert [payload for _, payload in log] == ["c0.5", "a1", "b2", "a4", "b4", "c4", "c7", "a9", "broke"]
    assert [time for time, _ in log] == [max(busy, time) for time in (0.5, 1, 2, 4, 4, 4, 7, 9, 9)]


@pytest.mark.parametrize(
    ("busy", "until", "seen"),
    [
        (0.0, 3.0, (3.0, "piece")),  # comes at the very deadline
        (0.0, 2.9, (2.9, None)),
        (2.0, 2.0, (2.0, None)),  # only looks
        (5.0, 2.0, (5.0, None)),  # was busy when the deadline passed, and the piece is later than that
        (5.0, 4.0, (5.0, "piece")),  # lay ready before the deadline
    ],
)
@pytest.mark.parametrize("settles", [False, True])
def test_a_deadline_is_exact(busy: float, until: float, seen: tuple[float, Any], settles: bool) -> None:
    """A piece that comes at 3 s is taken if the deadline is no earlier, whether or not the consumer ran ahead of the clock.

    A wait that was in vain is booked as synchronization, and the piece comes with the next take.
    """
    world = World()
    relay = Relay(1, world.sync)
    log = []

    def consumer(branch: Branch) -> Iterable[None]:
        branch.add(world.work[1], busy)
        if settles:
            branch.settle()
            yield
        piece = yield from relay.receive(branch, until)
        log.append((branch.time, piece and "piece"))
        assert relay.timed_out is (piece is None)
        if piece is None:
            assert (yield from relay.receive(branch)) is not None
        assert (yield from relay.receive(branch)) is None
        assert not relay.timed_out

    def walk(branch: Branch) -> Iterable[None]:
        join = Join(branch, 2)
        world.fork(branch, join, consumer, world.producer(0, [3.0], relay))
        yield

    world.task(walk)
    (row,) = world.run()
    assert log == [seen]
    assert row[3] == max(3.0, busy)
    assert sum(row[5:]) == 3.0 + busy + (max(0.0, until - busy) if seen[1] is None else 0.0)


def test_a_fusion_may_follow_a_piece_later_than_it_came() -> None:
    """Pieces come at 1 s and 4 s and a timer fires at 6 s: the path is that of the second, then waiting."""
    world = World()

    def walk(branch: Branch) -> Iterable[None]:
        branch.add(world.work[3], 1.0)
        stages, relay = Stages(branch), Relay(3, world.sync)
        works = ([0.5, 20.0], [3.0, 20.0], [9.0])
        world.fork(
            branch,
            stages,
            *(world.producer(number, work, relay) for number, work in enumerate(works)),
        )
        pieces = []
        while True:
            if relay.take(branch, 6.0):
                yield
            if relay.timed_out:
                break
            assert relay.piece is not None
            pieces.append(relay.piece)
        assert [piece.time for piece in pieces] == [1.5, 4.0]
        stages.follow(pieces[-1])
        branch.book(world.sync, branch.time, 6.0)
        yield from stages.close()
        branch.add(world.work[3], 1.0)

    world.task(walk)
    (row,) = world.run()
    assert (row[3], row[6:10], row[-1]) == (7.0, [0.0, 3.0, 0.0, 2.0], 2.0)
    assert row[5] == (0.5 + 4.5) + 2.0 + 5.0


def test_a_piece_in_the_middle_of_a_span_cuts_it() -> None:
    """A call of 10 s hands over its first token at 4 s: up to there it is critical, and the bytes of its span are shared."""
    world = World()

    def walk(branch: Branch) -> Iterable[None]:
        join, relay = Join(branch, 2), Relay()

        def talks(child: Branch) -> Iterable[None]:
            parts = child.parts[:]
            parts[world.work[0]] = 4.0
            relay.put(child, "token", 4.0, parts)
            child.add(world.work[0], 10.0, 100.0)
            relay.end(child)
            yield from ()

        def speaks(child: Branch) -> Iterable[None]:
            yield from relay.receive(child)
            yield from world.do(child, 1, 7.0, False)

        world.fork(branch, join, talks, speaks)
        yield

    world.task(walk)
    (row,) = world.run()
    assert (row[3], row[5], row[6:8]) == (11.0, 6.0, [4.0, 7.0])
    assert [(s.component, s.start, s.end, s.size, s.critical) for s in world.leaves(world.ledger.kept[0])] == [
        ("s0", 0.0, 4.0, 40.0, True),
        ("s1", 4.0, 11.0, 0.0, True),
        ("s0", 4.0, 10.0, 60.0, False),
    ]


def test_pipelines_nest() -> None:
    """A stage of a pipeline fuses a pipeline of its own, and forks inside it: paths, spans and overlapped work stay exact."""
    world = World()

    def inner(branch: Branch, source: Relay) -> Iterable[None]:
        for _ in range(2):
            yield from source.receive(branch)
            stages, relay = Stages(branch), Relay()
            world.fork(branch, stages, world.producer(1, [2.0, 9.0], relay))
            yield from world.do(branch, 2, 0.5, False)
            yield from stages.receive(relay)
            join = Join(branch, 2)
            world.fork(branch, join, world.works(3, 1.0), world.works(3, 0.5))
            yield
            yield from stages.close()

    def walk(branch: Branch) -> Iterable[None]:
        join, relay = Join(branch, 2), Relay()
        world.fork(
            branch,
            join,
            world.producer(0, [1.0, 6.0], relay),
            lambda child: inner(child, relay),
        )
        yield

    world.task(walk)
    (row,) = world.run()
    assert (row[3], row[6:10]) == (10.0, [7.0, 2.0, 0.0, 1.0])  # the first round lies beside the second piece
    assert world.ledger.kept[0].overlapped is not None
    assert world.ledger.kept[0].overlapped[:4] == [0.0, 3.0 + 1.0, 1.0, 2.0]


def test_cancelling_a_parent_takes_its_stages_with_it() -> None:
    """A branch that fuses a pipeline loses a race: what it and its stages did until then is overlapped, once."""
    world = World()

    def walk(branch: Branch) -> Iterable[None]:
        join = Join(branch, 1, cancels=True)
        world.fork(
            branch,
            join,
            world.works(3, 5.0),
            fusion(world, [[1.0] * 9, [0.75] * 9], 9),
        )
        yield

    world.task(walk)
    (row,) = world.run()
    assert (row[3], row[9]) == (5.0, 5.0)
    # From 2 s on: 3 s of the first stage, two pieces of the second, and the fusing of both.
    assert row[5] == 2.0 + 3.0 + 2 * 0.75 + 2 * 0.25


@pytest.mark.parametrize("account", [True, False])
def test_a_task_cut_off_while_all_wait_books_the_wait(account: bool) -> None:
    """A producer that died without a word is waited for: nobody is at work when the run ends, so that is synchronization."""
    world = World()

    def walk(branch: Branch) -> Iterable[None]:
        stages, relay = Stages(branch), Relay(1, world.sync if account else -1)

        def camera(child: Branch) -> Iterable[None]:
            child.add(world.work[0], 1.0)
            relay.put(child, "frame")
            yield from ()

        world.fork(branch, stages, camera)
        yield from stages.receive(relay)
        branch.add(world.work[1], 0.25)
        if relay.take(branch, 9.0):
            yield

    world.task(walk)
    if account:
        (row,) = world.run(5.0)
        assert (row[3], row[6:8], row[-1]) == (5.0, [1.0, 0.25], 3.75)
    else:
        with pytest.raises(ConservationError, match="task 0 waits at the end of the run for a piece"):
            world.run(5.0)


def test_a_parent_that_is_at_work_when_the_run_ends_is_on_the_path_itself() -> None:
    """Its stages are at work as well, but it is no longer waiting for them."""
    world = World()
    world.task(fusion(world, [[1.0] * 9], 1, last=9.0))
    (row,) = world.run(5.0)
    assert (row[3], row[6], row[-1]) == (5.0, 1.0, 2.0 + 2.0)


def test_wrong_use_of_a_relay_is_told() -> None:
    """Two consumers, a piece in the past, a deadline without an account for it."""
    world = World("none")
    relay = Relay()
    one, other = (Branch(world.ledger.open(number, 0, 0.0), 0, 0.0, None) for number in range(2))
    for branch in (one, other):
        branch.start(x for x in [None, None])
    assert relay.take(one)
    with pytest.raises(RuntimeError, match="one consumer"):
        relay.take(other)
    with pytest.raises(ValueError, match="account for waiting"):
        next(relay.receive(one, 5.0))
    world.sim.run(3.0)
    with pytest.raises(ValueError, match=r"handed over at 0\.0: it is 3\.0"):
        relay.put(other, "late")


def test_the_walk_back_goes_along_the_last_edges() -> None:
    """By their order first, and leaving out those that are later than where the walk has come to."""
    edges = [(0, 1, 0.0), (0, 2, 0.0), (1, 2, 3.0), (2, 1, 4.0), (1, 2, 3.5), (2, 0, 6.0)]
    assert critical_stretches(edges) == {
        0: [(-np.inf, 0.0), (6.0, np.inf)],
        1: [(0.0, 3.5)],
        2: [(3.5, 6.0)],
    }
    assert cover([(0.0, 1.0), (2.0, 3.0), (3.0, 3.0), (4.0, 9.0)], 0.5, 4.0) == [(0.5, 1.0), (2.0, 3.0)]
