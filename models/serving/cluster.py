"""The replicas of a served model, behind a router: one resource of the simulation, used like a pool.

A call comes, is routed, runs on a replica, and its branch goes on when the last token is there. Replicas wake at the ends of
their leaps, after everything else of that instant, so that calls which come together are taken in together.

Replicas that start and leave by themselves cost no events: what has become of them is worked out when somebody asks.

Leaves out: what goes wrong in a replica (`outage`); a call that waits at one replica and moves to another that has started since.
Checked: tests/test_cluster.py; tests/test_served.py.
Source of the split into prefill and decode: Zhong et al., DistServe, OSDI 2024; Patel et al., Splitwise, ISCA 2024.
"""

import math
from collections.abc import Callable, Sequence
from heapq import heappush
from typing import Any

from ...sim.engine.branch import Wait
from ...sim.engine.simulation import Call, Simulation
from .encoding import Encodings, Job, Jobs
from .kv_cache import Totals
from .places import Transfers
from .replica import Replica
from .request import LOAD, QUEUE, Request
from .retention import Retention
from .routing import Router
from .spec import Autoscale, Disaggregated

__all__ = ["Cluster"]

BOUNDARY = 5  # after the arrivals of an instant


class Driver:
    """Wakes one replica when it wants to be woken."""

    __slots__ = ("armed", "cluster", "event", "idle_since", "listens", "number", "replica", "then")

    def __init__(
        self, cluster: "Cluster", replica: Replica, then: Callable[[Request, "Driver", float], None], number: int
    ) -> None:
        self.cluster = cluster
        self.number = number  # of its place
        self.replica = replica
        self.then = then  # what to do with a request that has ended
        self.armed = math.inf
        self.event: Call | None = None
        self.idle_since = 0.0
        self.listens = cluster.listens

    def arm(self) -> None:
        """See to it that the replica is woken in time; too early does no harm."""
        when = self.replica.next_time
        if self.listens:
            when = min(when, self.replica.next_mark)
        if when < self.armed:
            if self.event is not None:
                self.event.cancel()
            sim = self.cluster.sim
            self.event = event = Call(self._fire)
            self.armed = when
            heappush(sim._queue, (when, BOUNDARY, next(sim._eid), event))  # type: ignore[misc]

    def renew(self, replica: Replica, now: float) -> None:
        """Another replica takes the place of this one, which serves nobody any more."""
        if self.event is not None:
            self.event.cancel()
        self.event, self.armed, self.idle_since = None, math.inf, now
        self.replica = replica

    def _fire(self, _event: Any) -> None:
        replica, now = self.replica, self.cluster.sim._now
        self.event = None
        self.armed = -math.inf  # what comes in meanwhile need not see to it
        if self.listens:
            replica.reach(now)
        if now >= replica.next_time:
            for request in replica.wake(now):
                self.then(request, self, now)
            if replica.jobs is not None:
                self.cluster.encoded(replica.jobs)
            replica.begin(now)
            if replica.blocked and not replica.running and self.cluster.retention.concede(replica, now):
                replica.relieve(now)
            if not replica.outstanding and self.idle_since == math.inf:
                self.idle_since = now
        self.armed = math.inf
        self.arm()


class Cluster:
    """Replicas made by `make`, `count` of them to begin with, that serve as one.

    With `split`, `make` gives those that prefill, and as many others that decode. At most `queue_limit` calls wait. `accounts` are
    where an unfinished call is booked: waiting, transfers of KV, prefill of carried tokens, and all else.
    """

    def __init__(
        self,
        sim: Simulation,
        name: str,
        make: Callable[[], Replica],
        count: int,
        router: Router,
        retention: Retention,
        accounts: Sequence[int],
        queue_limit: int | None = None,
    ) -> None:
        self.sim = sim
        self.name = name
        self.make = make
        self.router = router
        self.retention = retention
        self.accounts = tuple(accounts)
        self.queue_limit = queue_limit
        self.least = count
        self.autoscale: Autoscale | None = None
        self.starting: list[float] = []  # when those that were started serve
        self.started = -math.inf  # when the last of them did
        self.gone: list[tuple[Replica, Totals]] = []  # with what their memory has held
        self.drivers: list[Driver] = []
        self.decoders: list[Driver] = []
        self.away: list[Driver] = []  # of both, those that are down
        self.stranded: list[Request] = []  # prompts that are computed while nobody decodes
        self.handover: Transfers | None = None
        self.encodings: Encodings | None = None  # where encoders share the devices
        self.listens = False  # whether anybody hears of output before its end
        self.limits: list[Any] = []  # rate limits, which a pool has
        self.arrivals = self.completions = self.rejections = self.present = 0
        self.waited = 0.0
        self.first_tokens = 0.0  # summed seconds to them
        self.later_tokens = 0  # and of those after the first
        self.later_seconds = 0.0
        self._present_offset = 0.0
        self._replica_offset = 0.0
        self._arriving = (self._arrive,)
        for _ in range(count):
            self._add(sim._now)

    @property
    def replicas(self) -> list[Replica]:
        """The replicas that take calls."""
        return [driver.replica for driver in self.drivers]

    @property
    def every(self) -> list[Replica]:
        """All replicas, also those that decode only, and those that are gone."""
        return [driver.replica for driver in (*self.drivers, *self.decoders)] + [replica for replica, _ in self.gone]

    def split(self, spec: Disaggregated, kv_bytes: float, decode: Callable[[], Replica]) -> None:
        """Let the replicas there are prefill only; others, made by `decode`, go on with what they have begun."""
        for driver in self.drivers:
            driver.then = self._prefilled
        self.handover = Transfers(spec.bandwidth, spec.latency)
        self.kv_bytes = kv_bytes
        for number in range(spec.decode):
            self.decoders.append(Driver(self, decode(), self._ended, len(self.drivers) + number))
            self._replica_offset -= self.sim._now

    # Calls

    def use(self, wait: Wait, at: float, request: Request) -> bool:
        """A call arrives at time `at`. Return that the script must yield; the branch goes on at the last token.

        Afterwards `wait.place` is the request, which tells what became of the call, or `wait.rejected`.
        """
        wait.place = request
        if at > self.sim._now:
            wait.callbacks = self._arriving
            heappush(self.sim._queue, (at, 1, next(self.sim._eid), wait))  # type: ignore[misc]
        else:
            self._arrive(wait)
        return True

    def _arrive(self, wait: Wait) -> None:
        now = self.sim._now
        request: Request = wait.place
        request.owner = wait
        request.arrived = wait.arrived = now
        if self.autoscale is not None:
            self._settle(self.autoscale, now)
        home = self.retention.came(request.session, now) if self.retention.tracks else None
        route = self.route if self.encodings is None else self.encodings.follow
        driver = route(request, home, now)
        if self.refuses(driver.replica, request):
            self.rejections += 1
            wait.rejected = True
            wait.started = wait.ended = now
            wait.callbacks = (wait.resume,)
            self.sim.schedule_at(now, wait)
            return
        self.arrivals += 1
        self.present += 1
        self._present_offset -= now
        wait.holder = self
        request.home = driver
        if self.handover is not None:
            request.stop = 1
        driver.idle_since = math.inf
        driver.replica.submit(request, now)
        driver.arm()
        if self.autoscale is not None:
            self._scale_up(self.autoscale, now)

    def listen(self) -> None:
        """From now on there may be marks: replicas are woken for them too."""
        self.listens = True
        for driver in (*self.drivers, *self.decoders):
            driver.listens = True

    def encoded(self, jobs: Jobs) -> None:
        """Jobs of a replica are over: their branches go on."""
        over, jobs.over = jobs.over, []
        for job in over:
            assert self.encodings is not None
            self.encodings.done(job)

    def route(self, request: Request | Job, home: Replica | None, now: float) -> Driver:
        """Return where a call, or a job, goes; `home` served its session before."""
        drivers = self.drivers
        if self.away:
            drivers = [driver for driver in drivers if driver not in self.away] or drivers
        if len(drivers) == 1:
            return drivers[0]
        chosen = self.router.choose([driver.replica for driver in drivers], request, home, now)
        return next(driver for driver in drivers if driver.replica is chosen)

    def refuses(self, replica: Replica, request: Request) -> bool:
        """Whether a call can never run there, or too many wait."""
        if not replica.fits(request):
            return True
        if self.queue_limit is None or len(replica.waiting) < _places(replica):
            return False
        replicas = self.replicas
        return sum(max(0, len(one.waiting) - _places(one)) for one in replicas) >= self.queue_limit

    def _prefilled(self, request: Request, driver: Driver, now: float) -> None:
        """A prompt is computed: hand its KV over to a replica that decodes."""
        if request.output <= 1:
            self._ended(request, driver, now)
            return
        self.retention.ended(request.session, request, driver.replica, now)
        assert self.handover is not None
        if request.marked < len(request.marks) and request.marks[request.marked] == request.generated:
            request.reach(now)
        there = self.handover.end(now, request.prompt * self.kv_bytes)
        request.phases += ((LOAD, there),)
        request.home = None
        request.stop = request.output
        request.ready = request.prompt
        request.path = ()
        self.sim.schedule_at(there, Call(lambda _event: self._decode(request)))

    def _decode(self, request: Request) -> None:
        if request.cancelled:
            return
        up = [driver for driver in self.decoders if driver not in self.away] if self.away else self.decoders
        if not up:
            self.stranded.append(request)
            return
        driver = min(up, key=lambda driver: driver.replica.outstanding)
        request.home = driver
        driver.replica.submit(request, self.sim._now)
        driver.arm()

    def _ended(self, request: Request, driver: Driver, now: float) -> None:
        """The last token of a call is there: its branch goes on."""
        wait: Wait = request.owner
        self.completions += 1
        self.present -= 1
        self._present_offset += now
        self.waited += _waited(request)
        self.first_tokens += request.first_token - request.arrived
        if request.generated > 1:
            self.later_tokens += request.generated - 1
            self.later_seconds += now - request.first_token
        if request.path and self.retention.tracks:
            self.retention.ended(request.session, request, driver.replica, now)
        wait.holder = None
        wait.started = request.admitted
        wait.ended = now
        wait.resume(wait)

    def forget(self, task: int) -> None:
        """A task is over: nothing is held for it any more."""
        now = self.sim._now
        if self.encodings is not None:
            self.encodings.forget(task)
        for replica in self.retention.over(task, now):
            replica.relieve(now)
            for driver in self.drivers:
                if driver.replica is replica:
                    driver.arm()

    def cancel(self, wait: Wait) -> None:
        """Nobody waits for a call any more."""
        request: Request = wait.place
        wait.holder = request.owner = request.told = None
        now = self.sim._now
        self.present -= 1
        self._present_offset += now
        if request.home is None:  # its KV is on its way
            request.cancelled = True
        else:
            request.home.replica.cancel(request, now)
            request.home.arm()

    def open_parts(self, wait: Wait, now: float) -> list[tuple[int, float, float]]:
        """Return (account, start, end) of a call that is still under way at `now`."""
        request: Request = wait.place
        phases = request.phases
        if request.running:
            phases += request.home.replica.episode(request, now)
        else:
            phases += ((QUEUE, now),)
        found, start = [], request.arrived
        for kind, until in phases:
            end = max(start, min(until, now))
            found.append((self.accounts[kind], start, end))
            start = end
        return found

    # Replicas come and go

    @property
    def waiting(self) -> int:
        """How many calls wait that will not be taken in at the next boundary."""
        return sum(max(0, len(one.waiting) - _places(one)) for one in self.replicas)

    def settle(self) -> None:
        """Work out which replicas there are now."""
        if self.autoscale is not None:
            self._settle(self.autoscale, self.sim._now)

    def resume(self) -> None:
        """A replica is back: what waits for one that decodes goes on, if it is such a one."""
        stranded, self.stranded = self.stranded, []
        for request in stranded:
            self._decode(request)

    def _add(self, now: float) -> None:
        taken = {driver.number for driver in self.drivers}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        driver = Driver(self, self.make(), self._ended, number)
        driver.idle_since = now
        self.drivers.append(driver)
        self._replica_offset -= now

    def _scale_up(self, spec: Autoscale, now: float) -> None:
        """Start one more replica if too many wait."""
        there = len(self.drivers) + len(self.starting)
        waiting = sum(len(driver.replica.waiting) for driver in self.drivers)
        if there < spec.most and waiting > spec.waiting * there:
            self.starting.append(now + spec.cold_start)

    def _settle(self, spec: Autoscale, now: float) -> None:
        """Work out which replicas have started, and which have left, up to `now`; the earliest first."""
        while True:
            starts = self.starting[0] if self.starting else math.inf
            idle = [driver for driver in self.drivers if driver.idle_since < math.inf]
            first = min(idle, key=lambda driver: driver.idle_since, default=None)
            leaves = math.inf
            if first is not None and len(self.drivers) > self.least:
                leaves = max(first.idle_since + spec.idle, self.started)
            if min(starts, leaves) > now:
                return
            if starts <= leaves:
                self.started = self.starting.pop(0)
                self._add(self.started)
            else:
                assert first is not None
                self.drivers.remove(first)
                memory = first.replica.kv
                self.gone.append((first.replica, memory.totals(max(leaves, memory.clock))))
                self._replica_offset += leaves

    # Statistics

    METERS = (
        ("ttft_mean", 6, 3), ("tpot_mean", 7, 8), ("batch_mean", 9, 10), ("device_busy_share", 10, 11), ("replicas", 11, None),
        ("prefix_hit_share", 12, 13), ("lower_tier_hit_share", 14, 13), ("requests_hit_share", 15, 16),
        ("prefill_amplification", 17, 18), ("preemptions_per_call", 19, 3), ("evicted_blocks_per_call", 20, 3),
        ("kv_used_share", 21, 23), ("kv_cached_share", 22, 23), ("iterations", 24, None),
    )  # fmt: skip
    """Ratios of two totals, or of one to the time: hits are weighted by tokens, but those of `requests_hit_share` by requests."""

    def _under_way(self, now: float) -> list[tuple[Replica, float]]:
        """Return the replicas at work, with seconds to add: a leap is counted when it ends, an iteration with prompts when it begins."""
        there = [driver.replica for driver in (*self.drivers, *self.decoders)]
        return [(replica, now - replica.start) for replica in there if replica.leap or replica.start > now]

    def flow(self, now: float) -> tuple[float, float, int]:
        """Return the first three of `totals`; nothing moves, not the clock of a memory either."""
        sequences = sum(replica.tally.sequence_seconds for replica in self.every) + sum(
            passed * (replica.batch.count if passed > 0 else len(replica.running) - len(replica.loading))
            for replica, passed in self._under_way(now)
        )
        return sequences, self.present * now + self._present_offset, self.arrivals

    def totals(self, now: float) -> tuple[float, ...]:
        """Return what a pool does, sequence-seconds for server-seconds, and then what `METERS` are made of; up to `now`."""
        if self.autoscale is not None:
            self._settle(self.autoscale, now)
        there = [driver.replica for driver in (*self.drivers, *self.decoders)]
        tallies = [replica.tally for replica in self.every]
        done = self._under_way(now)
        busy = sum(tally.busy for tally in tallies) + sum(passed for _, passed in done)
        sequences, present, arrivals = self.flow(now)
        memory = [replica.kv.totals(max(now, replica.kv.clock)) for replica in there]
        memory += [totals for _, totals in self.gone]
        taken = [replica.taken(replica.begun(now), now) for replica in there if replica.leap and now > replica.start]
        blocks = there[0].kv.blocks
        replica_seconds = len(there) * now + self._replica_offset
        room = blocks * replica_seconds if math.isfinite(blocks) else 0.0
        prefilled = sum(tally.prefilled for tally in tallies)
        return (
            sequences, present, arrivals, self.completions, self.rejections, self.waited,
            self.first_tokens, self.later_seconds, self.later_tokens, sequences, busy, replica_seconds,
            sum(tally.hit for tally in tallies), sum(tally.asked for tally in tallies), sum(tally.fetched for tally in tallies),
            sum(tally.requests_hit for tally in tallies), sum(tally.prompts for tally in tallies),
            prefilled, prefilled - sum(tally.recomputed for tally in tallies),
            sum(tally.preemptions for tally in tallies), sum(replica.kv.evicted for replica in self.every),
            sum(one.used_seconds for one in memory) + sum(used for used, _ in taken),
            sum(one.cached_seconds for one in memory) - sum(uncached for _, uncached in taken), room,
            sum(tally.iterations for tally in tallies),
        )  # fmt: skip


def _places(replica: Replica) -> int:
    """Return how many of those who wait will be taken in at the next boundary, as far as one can tell before it."""
    return 0 if replica.blocked else replica.limits.sequences - len(replica.running)


def _waited(request: Request) -> float:
    """Return the seconds a call has waited without service."""
    waited, start = 0.0, request.arrived
    for kind, end in request.phases:
        if kind == QUEUE:
            waited += end - start
        start = end
    return waited
