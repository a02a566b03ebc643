"""The CPU of a node as a finite resource: its cores, and how much slower work gets beside other processes.

With `scheduling: queue` a burst of work waits for a free core, and keeps the pace at which it begins. With `share` nothing waits:
every burst runs at once, and is slowed down anew whenever another begins or ends, as if cores were shared in parts. With a `slice` they
are shared by turns, as an operating system does: a burst waits for its first turn, and goes to the end of the line when one is over.

While others run a burst is stretched: by the node's `co_run`, else by the profile's law `co_run`, a fixed piece of work
beside `busy` processes over the same alone, and without one by max(1, processes / cores), which is what fair shares of the
cores leave. Others are the node's `busy` processes and the bursts under way (with `queue`, when this one begins).

On a node with other cores than the law's machine, the law is asked at as many processes a core, the burst's own among them.
Leaves out: with `queue`, others that come and go during a burst; cores that share a cache or a clock, beyond what the law has
measured of its machine. With `queue`, work under a limit of its own (an event loop, a tool's `concurrency`) is slowed down and
slows down, but takes no place in the line for a core: it is a thread that the operating system gives its share.
Checked: tests/test_host.py, tests/test_shared_cpu.py, tests/test_slicing.py.
"""

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from ..sim.engine.branch import Wait
from ..sim.engine.fifo import FifoPool
from ..sim.engine.pool import Pool
from ..sim.engine.sharing import Sharing, Speed
from ..sim.engine.slicing import Slicing
from ..sim.engine.spec import Count, Factor, PositiveCount, PositiveDuration, Spec, SpecProblem
from ..sim.profile.law import Timing
from ..sim.profile.profile import read
from .line import booked, held, nobody, serve

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from .system import System

Script = Generator[None, Any, None]


class SpeedSpec(Spec):
    """How fast cores run as time goes: at each of `factors` for `every` so long, and then again from the first."""

    every: PositiveDuration
    factors: tuple[Factor, ...]

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.factors:
            raise SpecProblem("factors", "must hold one factor at least")
        return self


class Node(Spec):
    """A place where components run.

    `cores` makes its CPU finite: dispatching, building prompts, encoding, decoding, and models and tools that say so, need a core.
    `busy` processes of others run there all the time, and slow that work down. Left out, CPU is never short.
    `scheduling` is `queue`, where such work waits for a free core, or `share`, where all of it runs at once, slower the more there is;
    with a `slice`, work has a core for at most so long while other work waits, as threads that an operating system schedules do. `co_run` lists how many times slower work is beside 0, 1, 2 ... other
    processes, in place of the profile's law; beyond its end it grows as processes do. `speed` lets cores run faster and slower as
    time goes, and messages between processes of the node be handed over as fast; with `queue` work keeps the speed at which it began.
    """

    cores: PositiveCount | None = None
    busy: Count = 0
    scheduling: Literal["queue", "share"] = "queue"
    slice: PositiveDuration | None = None
    co_run: tuple[Factor, ...] | None = None
    speed: SpeedSpec | None = None

    @model_validator(mode="after")
    def _cores(self) -> Self:
        if self.busy and self.cores is None:
            raise SpecProblem("busy", "needs `cores`: without a number of cores nothing is slowed down")
        for name in ("scheduling", "slice", "co_run", "speed"):
            if self.cores is None and getattr(self, name) not in (None, "queue"):
                raise SpecProblem(name, "needs `cores`: without a number of cores CPU is never short")
        return self

    @model_validator(mode="after")
    def _by_turns(self) -> Self:
        if self.slice is not None and self.cores is not None:
            if self.scheduling != "share":
                raise SpecProblem("slice", "goes with `scheduling: share`; who waits for a free core keeps it")
            if self.busy:
                raise SpecProblem(
                    "busy", "must be left out where cores are shared by turns: let a tool be what keeps them busy"
                )
        return self

    @model_validator(mode="after")
    def _never_faster(self) -> Self:
        if self.co_run is not None and (not self.co_run or min(self.co_run) < 1):
            got = f"got {min(self.co_run):g}" if self.co_run else "got none"
            raise SpecProblem("co_run", f"must list factors >= 1, how many times slower; {got}")
        return self


class Host:
    """The cores of a node, those in use by others, and who waits for one."""

    def __init__(self, system: "System", name: str, cores: int, node: Node) -> None:
        self.cores = cores
        self.busy = node.busy
        self.name = f"nodes.{name}.cpu"
        self.speed = None if node.speed is None else Speed(node.speed.every, node.speed.factors)
        self.co_run = node.co_run
        self.timing, measured = _co_run(system) if self.co_run is None else (None, None)
        self.share = 1.0 if measured is None else measured / cores  # processes a core count, not their number
        self.ratios: list[float] = []
        self.queue_account = system.ledger.account("queueing", self.name)
        self.pool: Pool | FifoPool | Sharing | Slicing
        self.shared: Sharing | Slicing | None = None
        if node.scheduling == "share":
            beside = lambda bursts: self.ratio(self.busy + bursts - 1)  # noqa: E731
            if node.slice is None:
                self.shared = Sharing(system.sim, self.name, slowdown=beside, speed=self.speed, servers=cores)
            else:
                self.shared = Slicing(system.sim, self.name, cores, node.slice, beside, self.speed)
                self.shared.queue_account = self.queue_account
            self.pool = self.shared
            self.shared.service_account = self.queue_account
            system.counts(self.shared, "pool", cores)
        else:
            self.pool = system.pool(self.name, cores, None)
            system.book_waits(self.pool, self.queue_account, self.queue_account)
        self.pools = [self.pool]  # and those of threads on this node that have a limit of their own

    def ratio(self, others: int) -> float:
        """Return by how much a burst beside `others` other processes is slower than alone."""
        while len(self.ratios) <= others:
            count = len(self.ratios)
            if self.co_run is not None:
                last = len(self.co_run)
                self.ratios.append(self.co_run[count] if count < last else self.co_run[-1] * (count + 1) / last)
                continue
            fair = max(1.0, (count + 1) / self.cores)
            self.ratios.append(fair if self.timing is None else max(1.0, self._beside(count) / self._beside(0)))
        return self.ratios[others]

    def _beside(self, others: int) -> float:
        assert self.timing is not None
        return self.timing.seconds({"busy": max(0.0, (others + 1) * self.share - 1)})

    def flags(self) -> list[str]:
        """Return where the law of slowdown was asked for more than was measured."""
        return [] if self.timing is None else self.timing.flags()

    def running(self, now: float) -> int:
        """Return how many bursts are under way."""
        if self.shared is not None:
            return self.shared.present
        return sum(
            sum(1 for free in pool.free if free > now) if isinstance(pool, FifoPool) else pool.busy
            for pool in self.pools
            if not isinstance(pool, Sharing | Slicing)
        )

    def share_of(self, seconds: float, follows: float, now: float) -> float:
        """Return the work (s at speed 1) of a burst that begins now, of which only the share `follows` runs as fast as the cores do."""
        if self.speed is None or follows == 1:
            return seconds
        return seconds * (follows + (1 - follows) * self.speed.at(now))

    def slowdown(self, now: float, own: int = 0) -> float:
        """Return by how much work that begins now is slower than on an idle node at speed 1, beside all that runs but its `own`."""
        ratio = self.ratio(self.busy + self.running(now) - own)
        return ratio if self.speed is None else ratio / self.speed.at(now)

    @property
    def at_rest(self) -> float:
        """The slowdown by the `busy` processes alone, at the mean speed."""
        ratio = self.ratio(self.busy)
        return ratio if self.speed is None else ratio / self.speed.mean

    def join(self, pool: Any) -> Any:
        """Return the pool under whose limit work is done on this node, which slows others down; None: the cores are the limit."""
        if pool is None or (pool.capacity is None and not pool.limits):
            return None
        if pool not in self.pools:
            self.pools.append(pool)
        return pool

    def run(
        self, branch: "Branch", seconds: float, account: int, size: float = 0.0, ahead: float = 0.0
    ) -> Generator[None, Any, bool]:
        """Run a burst of `seconds` on a core; see `line.serve`."""
        return (yield from self.run_in(branch, None, seconds, (self.queue_account, account), size, ahead))

    def run_in(
        self,
        branch: "Branch",
        pool: Any,
        seconds: float,
        accounts: tuple[int, int],
        size: float = 0.0,
        ahead: float = 0.0,
    ) -> Generator[None, Any, bool]:
        """Run a burst under the limit of a pool of its own on this node; None: of the cores."""
        if not seconds and pool is None:
            return False
        split = (accounts[1], 1.0, accounts[1])  # where a burst that is cut off is booked
        if self.shared is not None or self.speed is not None:
            branch.wait.split = split
            yield from self.occupy(branch, pool, max(0.0, seconds - ahead))
            branch.wait.split = None
            return booked(branch, accounts, branch.wait.ended, size)
        if branch.time > branch.sim._now:
            branch.settle()  # who else runs is known when the clock is there
            yield
        others = self.running(branch.time)
        if pool is None:
            pool, others = self.pool, min(others, self.cores - 1)  # behind a full line it begins when another has ended
        wait = branch.wait
        wait.split = split
        seconds *= self.ratio(self.busy + others)
        refused = yield from serve(branch, pool, seconds, accounts, size, min(ahead, seconds))
        wait.split = None
        return refused

    def occupy(self, branch: "Branch", pool: Pool | None, seconds: float) -> Script:
        """Do a burst under the limit of a pool (None: of the cores). `branch.wait` then tells the times, or that it was refused."""
        if pool is None and self.shared is not None:
            self.shared.use(branch.wait, branch.time, seconds)
            yield
        else:
            place = pool or self.pool
            assert isinstance(place, Pool), "a pool that answers on arrival cannot be held"
            yield from held(branch, place, partial(self.begin, branch.wait, place, seconds))

    def waste(self, pool: Pool | None, at: float, seconds: float) -> None:
        """Do a burst that nobody waits for."""
        wait = Wait(nobody)
        if pool is None:
            self.pool.use(wait, at, seconds)
        else:
            wait.begins = partial(self.begin, wait, pool, seconds)
            pool.take(wait, at)

    def begin(self, wait: "Wait", place: Pool, seconds: float) -> None:
        """Begin a burst now that holds a place of a pool, which comes free at its end."""
        if self.shared is not None:
            self.shared.keep(wait, seconds, place)
        else:
            place.keep(wait, seconds * self.slowdown(place.sim._now, 1))


def work(branch: "Branch", host: Host | None, seconds: float, account: int, size: float = 0.0) -> Script:
    """Do a burst of work on a host; where its cores are not counted (None), at once."""
    if host is None:
        branch.add(account, seconds, size)
    else:
        yield from host.run(branch, seconds, account, size)


def hosts(system: "System") -> dict[str, Host]:
    """Return the hosts of a system: one for each node that says how many cores it has."""
    nodes = system.scenario.network.nodes.items()
    return {name: Host(system, name, node.cores, node) for name, node in nodes if node.cores is not None}


def _co_run(system: "System") -> tuple[Timing | None, int | None]:
    """Return the law of work beside busy processes, of the first profile that has one, and on how many cores it was measured."""
    for name in system.scenario.profile:
        profile = read(name)
        if profile.has("co_run"):
            cores = profile.environment.get("cores", "").split(" ")[0]  # such as "2 of 2"
            return profile.timing("co_run"), int(cores) if cores.isdigit() else None
    return None, None
