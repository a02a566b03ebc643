"""Encoder jobs on the device of a model server: an image or a sound is encoded where its tokens will be prefilled.

A job is an iteration of its own, for which everything else of the batch waits. Jobs stand in line before all prompts, in the order
in which they came: the first is looked at when a prompt would be, and begins if there is room for its blocks; no prompt overtakes it.
The blocks are of the memory that keys and values have, and are held until the task's next call at the same server has been
prefilled, or the task is over. To get its own, a job pushes out what is only cached, and nobody who runs. Where nobody could be
taken in otherwise, or the only one who runs lacks blocks, what has been held longest goes to the memory of the host.

Leaves out: several inputs in one job; the copy to the host and back. Which call reads is told by the task, not by its branch. Jobs
count in what the device does and holds, not among the calls.
Checked: tests/test_encoder_jobs.py.
Source: the encoder cache of vLLM (version 1) holds what an encoder made until the prompt that reads it is computed; there it has a
budget of its own.
"""

import math
from collections import deque
from collections.abc import Sequence
from heapq import heappush
from typing import TYPE_CHECKING, Any

from ...sim.engine.branch import Wait
from .kv_cache import KvCache, Lease
from .request import Request

if TYPE_CHECKING:
    from .cluster import Cluster, Driver
    from .replica import Replica

__all__ = ["Encodings", "Job", "Jobs"]


class Job:
    """One job of a task: `seconds` on the device, and then `blocks` of memory, given back once the task's next call has read them.

    Without `keeps` they are given back at its end. Afterwards: `started` and `ended` (s).
    """

    __slots__ = (
        "arrived",
        "blocks",
        "cancelled",
        "ended",
        "home",
        "keeps",
        "lease",
        "owner",
        "reader",
        "seconds",
        "started",
        "task",
    )

    path = ()  # content that a router could look for: none

    def __init__(self, task: int, seconds: float, blocks: int, arrived: float = 0.0, keeps: bool = True) -> None:
        self.task = task
        self.seconds = seconds
        self.blocks = blocks
        self.arrived = arrived
        self.keeps = keeps
        self.started = self.ended = math.nan
        self.lease: Lease | None = None
        self.reader: Request | None = None  # the call that reads what it made
        self.cancelled = False
        self.home: Any = None  # where it runs
        self.owner: Any = None  # whoever waits for it


class Jobs:
    """The jobs of one replica: those that wait, the one that runs, those whose blocks are held, and those that are over."""

    __slots__ = ("held", "over", "running", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Job] = deque()
        self.running: Job | None = None
        self.held: list[Job] = []  # in the order in which they ended
        self.over: list[Job] = []  # since the last boundary

    def __len__(self) -> int:
        """How many wait or run."""
        return len(self.waiting) + (self.running is not None)

    def start(self, kv: KvCache, now: float) -> Job:
        """Let the first in line run; there must be room for its blocks."""
        self.running = job = self.waiting.popleft()
        job.lease = kv.open((), now, 0)
        kv.grow(job.lease, job.blocks, now)
        job.started = now
        return job

    def finish(self, kv: KvCache, now: float) -> None:
        """The one that runs is over: its blocks are held, unless nobody wants them any more."""
        job = self.running
        assert job is not None
        self.running = None
        job.ended = now
        self.held.append(job)
        if job.cancelled or not job.keeps:
            self._free(job, kv, now)
        if not job.cancelled:
            self.over.append(job)

    def claim(self, request: Request) -> None:
        """A call comes, and will read what was made for its task."""
        for job in self.held:
            if job.task == request.session[0] and job.reader is None:
                job.reader = request
                request.reads = True

    def disclaim(self, request: Request) -> None:
        """A call was cancelled: the task's next will read."""
        request.reads = False
        for job in self.held:
            if job.reader is request:
                job.reader = None

    def free(self, readers: Sequence[Request], kv: KvCache, now: float) -> bool:
        """Give back the blocks that these calls have read; return whether there are any left of them."""
        for request in readers:
            request.reads = False
        found = [job for job in self.held if job.reader in readers]
        for job in found:
            self._free(job, kv, now)
        return bool(found)

    def yield_one(self, kv: KvCache, now: float) -> bool:
        """Give back the blocks that have been held longest; return whether there were any."""
        if self.held:
            self._free(self.held[0], kv, now)
            return True
        return False

    def forget(self, task: int, kv: KvCache, now: float) -> bool:
        """A task is over: nothing is held for it, nor will be; return whether blocks came free."""
        found = [job for job in self.held if job.task == task]
        for job in found:
            self._free(job, kv, now)
        for job in (*self.waiting, *([] if self.running is None else [self.running])):
            job.keeps = job.keeps and job.task != task
        return bool(found)

    def drop(self, job: Job) -> None:
        """Nobody waits for a job any more: it leaves the line; one that runs goes on to its end."""
        job.cancelled = True
        if job in self.waiting:
            self.waiting.remove(job)

    def _free(self, job: Job, kv: KvCache, now: float) -> None:
        assert job.lease is not None
        kv.close(job.lease, now)
        job.lease = None
        self.held.remove(job)


class Encodings:
    """The encoder jobs of a cluster, used like a pool. `accounts` are where waiting and encoding are booked."""

    def __init__(self, cluster: "Cluster", accounts: Sequence[int]) -> None:
        self.cluster = cluster
        self.accounts = tuple(accounts)
        self.homes: dict[int, Driver] = {}  # by task: the replica that holds what its next call will read
        self._arriving = (self._arrive,)

    def use(self, wait: Wait, at: float, job: Job) -> bool:
        """A job arrives at time `at`. Return that the script must yield; the branch goes on when it is over.

        Afterwards `wait.arrived`, `wait.started` and `wait.ended` tell the times, or `wait.rejected` that it can never have room.
        """
        wait.place = job
        sim = self.cluster.sim
        if at > sim._now:
            wait.callbacks = self._arriving
            heappush(sim._queue, (at, 1, next(sim._eid), wait))  # type: ignore[misc]
        else:
            self._arrive(wait)
        return True

    def _arrive(self, wait: Wait) -> None:
        cluster, job = self.cluster, wait.place
        now = cluster.sim._now
        job.owner = wait
        job.arrived = wait.arrived = now
        driver = self.homes.get(job.task)
        if driver is None or driver not in cluster.drivers or driver in cluster.away:
            driver = cluster.route(job, cluster.retention.home(job.task), now)
        if job.blocks > driver.replica.kv.blocks:
            wait.rejected = True
            wait.started = wait.ended = now
            wait.callbacks = (wait.resume,)
            cluster.sim.schedule_at(now, wait)
            return
        wait.holder = self
        job.home = driver
        if job.keeps:
            self.homes[job.task] = driver
        driver.idle_since = math.inf
        driver.replica.encode(job, now)
        driver.arm()

    def follow(self, request: Request, home: "Replica | None", now: float) -> "Driver":
        """Return where a call goes: to what was encoded for its task before, else as the router says; `home` served its session."""
        cluster, task = self.cluster, request.session[0]
        driver = self.homes.get(task)
        if driver is None or driver not in cluster.drivers or driver in cluster.away:
            driver = cluster.route(request, home, now)
        if not cluster.refuses(driver.replica, request):
            self.homes.pop(task, None)
        return driver

    def lose(self, driver: "Driver") -> None:
        """A replica is down: nobody is sent there for what it has encoded."""
        self.homes = {task: home for task, home in self.homes.items() if home is not driver}

    def done(self, job: Job) -> None:
        """A job is over: its branch goes on."""
        wait: Wait = job.owner
        wait.place = wait.holder = None
        wait.started, wait.ended = job.started, job.ended
        wait.resume(wait)

    def cancel(self, wait: Wait) -> None:
        """Nobody waits for a job any more."""
        job: Job = wait.place
        wait.place = wait.holder = None
        now = self.cluster.sim._now
        job.home.replica.drop(job, now)
        job.home.arm()

    def open_parts(self, wait: Wait, now: float) -> list[tuple[int, float, float]]:
        """Return (account, start, end) of a job that is still under way at `now`."""
        job: Job = wait.place
        started = now if math.isnan(job.started) else job.started
        return [(self.accounts[0], job.arrived, started), (self.accounts[1], started, now)]

    def forget(self, task: int) -> None:
        """A task is over."""
        self.homes.pop(task, None)
        now = self.cluster.sim._now
        for driver in self.cluster.drivers:
            driver.replica.forget(task, now)
            driver.arm()
