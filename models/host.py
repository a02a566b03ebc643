"""The CPU of a node as a finite resource: its cores, and how much slower work gets beside other processes.

A burst of work waits for a free core. While others run it is stretched: by the profile's law `co_run`, a fixed piece of work
beside `busy` processes over the same alone, and without one by max(1, processes / cores), which is what fair shares of the
cores leave. Others are the node's `busy` processes and the bursts under way when this one begins.

On a node with other cores than the law's machine, the law is asked at as many processes a core, the burst's own among them.
Leaves out: others that come and go during a burst; cores that share a cache or a clock, beyond what the law has measured of
its machine. Work under a limit of its own (an event loop, a tool's `concurrency`) is slowed down and slows down, but takes no place in the line for a
core: it is a thread that the operating system gives its share.
Checked: tests/test_host.py.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.fifo import FifoPool
from ..sim.engine.pool import Pool
from ..sim.profile.law import Timing
from ..sim.profile.profile import read
from .line import serve

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from .system import System

Script = Generator[None, Any, None]


class Host:
    """The cores of a node, those in use by others, and who waits for one."""

    def __init__(self, system: "System", name: str, cores: int, busy: int) -> None:
        self.cores = cores
        self.busy = busy
        self.name = f"nodes.{name}.cpu"
        self.pool: Pool | FifoPool = system.pool(self.name, cores, None)
        self.pools = [self.pool]  # and those of threads on this node that have a limit of their own
        self.queue_account = system.ledger.account("queueing", self.name)
        self.timing, measured = _co_run(system)
        self.share = 1.0 if measured is None else measured / cores  # processes a core count, not their number
        self.ratios: list[float] = []
        system.book_waits(self.pool, self.queue_account, self.queue_account)

    def ratio(self, others: int) -> float:
        """Return by how much a burst beside `others` other processes is slower than alone."""
        while len(self.ratios) <= others:
            count = len(self.ratios)
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
        return sum(
            pool.busy if isinstance(pool, Pool) else sum(1 for free in pool.free if free > now) for pool in self.pools
        )

    def slowdown(self, now: float) -> float:
        """Return by how much work that begins now is slower than on an idle node; it waits for no core."""
        return self.ratio(self.busy + self.running(now))

    @property
    def at_rest(self) -> float:
        """The slowdown by the `busy` processes alone."""
        return self.ratio(self.busy)

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
        if branch.time > branch.sim._now:
            branch.settle()  # who else runs is known when the clock is there
            yield
        others = self.running(branch.time)
        if pool is None:
            pool, others = self.pool, min(others, self.cores - 1)  # behind a full line it begins when another has ended
        wait = branch.wait
        wait.split = (accounts[1], 1.0, accounts[1])  # where a burst that is cut off is booked
        seconds *= self.ratio(self.busy + others)
        refused = yield from serve(branch, pool, seconds, accounts, size, min(ahead, seconds))
        wait.split = None
        return refused


def work(branch: "Branch", host: Host | None, seconds: float, account: int, size: float = 0.0) -> Script:
    """Do a burst of work on a host; where its cores are not counted (None), at once."""
    if host is None:
        branch.add(account, seconds, size)
    else:
        yield from host.run(branch, seconds, account, size)


def hosts(system: "System") -> dict[str, Host]:
    """Return the hosts of a system: one for each node that says how many cores it has."""
    nodes = system.scenario.network.nodes.items()
    return {name: Host(system, name, node.cores, node.busy) for name, node in nodes if node.cores is not None}


def _co_run(system: "System") -> tuple[Timing | None, int | None]:
    """Return the law of work beside busy processes, of the first profile that has one, and on how many cores it was measured."""
    for name in system.scenario.profile:
        profile = read(name)
        if profile.has("co_run"):
            cores = profile.environment.get("cores", "").split(" ")[0]  # such as "2 of 2"
            return profile.timing("co_run"), int(cores) if cores.isdigit() else None
    return None, None
