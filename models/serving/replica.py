"""One replica of an inference server: continuous batching, iteration by iteration, in few steps.

Each iteration makes one token for every sequence that decodes, goes on with the prefill under way, and takes in who waits, as
far as the limits on sequences and tokens and the KV blocks allow. When blocks run out, who came in last has to go and comes
back later. Between two events (somebody comes, ends, is taken in, or blocks run out) the batch does not change: then many
iterations are one leap, whose duration is one sum.

Marks in outputs are reached within a leap, at the time that the sum over fewer iterations tells; they change nothing else. Jobs of
encoders (`encoding`) have iterations of their own.

Who comes while an iteration is under way is looked at when it ends, at its very end included; who waits for blocks is looked
at again when some may have come free.

Leaves out: speculative decoding; pipelining; a batch split into micro-batches; the time at which a cancelled request
notices. With time of the host that depends on its load, a leap keeps the load it began with.
Checked: tests/test_replica.py, against a server that goes through every sequence in every iteration, to 1e-9.
Source: Yu et al., OSDI 2022 (iteration-level scheduling); Kwon et al., SOSP 2023 (paged KV, preemption); Agrawal et al.,
OSDI 2024 (chunked prefill); the order within an iteration is that of vLLM's scheduler (version 1).
"""

import math
from collections.abc import Callable, Iterable

from .encoding import Job, Jobs
from .kv_cache import KvCache, Path
from .places import Limits, Places, Transfers
from .request import Request
from .step_time import StepTime

__all__ = ["Limits", "Replica", "Transfers", "drive"]


class Replica(Places):
    """A replica. `next_time` is when `wake` must be called next, then `begin`; `submit` may bring it forward.

    `engine` gives further seconds of the host by sequences in an iteration, and `slowdown` what stretches all time of the
    host.
    """

    __slots__ = (
        "closing", "engine", "extra", "factor", "leap", "next_time", "over", "read", "release", "slow", "slowdown", "start", "step",
        "voided", "_hosts", "_sequence",
    )  # fmt: skip

    def __init__(
        self,
        step: StepTime,
        kv: KvCache,
        limits: Limits,
        engine: Callable[[int], float] | None = None,
        slowdown: Callable[[float], float] | None = None,
        links: tuple[Transfers, ...] = (),
        kv_bytes: float = 0.0,
    ) -> None:
        super().__init__(kv, limits, links, kv_bytes)
        self.step = step
        self.engine = engine
        self.slowdown = slowdown
        self.over: list[Request] = []  # those that end at the next boundary
        self.read: list[Request] = []  # those that have read, by the next boundary, what was encoded before
        self.voided: list[Request] = []  # those cancelled while they ran
        self.closing = False  # between `wake` and `begin`
        self.release = math.inf  # when a pin ends that who waits may wait for
        self.start = 0.0  # of the leap
        self.leap = 0  # its iterations
        self.factor = self.slow = 1.0
        self.extra = 0.0
        self.next_time = math.inf
        self._hosts: list[float] = []
        self._sequence = 0

    @property
    def outstanding(self) -> int:
        """Requests, and jobs of encoders, that wait or run."""
        if self.jobs is None:
            return len(self.waiting) + len(self.running)
        return len(self.waiting) + len(self.running) + len(self.jobs)

    @property
    def next_mark(self) -> float:
        """When the next mark of a request is reached, as far as the leap goes; infinity if none is."""
        batch = self.batch
        count = batch.until_mark()
        if count <= 0:
            return self.start
        if count > self.leap:
            return math.inf
        seconds = self.step.run(batch.count, batch.total, batch.longest, int(count), self.slow)
        return self.start + (self.factor * seconds + self.extra * count)

    # From outside

    def match(self, path: Path, now: float) -> int:
        """Return how many leading blocks of a path are there."""
        if now >= self.start:
            self._share(now)
            self._reserve(self.begun(now), now)
        return self.kv.match(path, now)

    def taken(self, iterations: int, now: float) -> tuple[float, float]:
        """Return the block-seconds that so many iterations of the leap have used beyond what the cache counts, and uncached.

        Blocks are taken one by one on the way, and count for half of it in the mean; those that were not free had been cached.
        """
        need, half = max(0, self.batch.needed(iterations) - self.reserved), 0.5 * (now - self.start)
        return half * need, half * max(0, need - self.kv.free)

    def relieve(self, now: float) -> None:
        """Blocks have come free from outside: look again at who waits."""
        self.blocked = False
        if not self.closing and (len(self.waiting) or (self.jobs is not None and self.jobs.waiting)):
            self._cut(now)

    def submit(self, request: Request, now: float) -> None:
        """A request comes, and waits."""
        if not self.fits(request):
            raise ValueError(f"a request of {request.prompt} + {request.output} tokens must fit into the KV cache")
        self._sequence += 1
        request.sequence = self._sequence
        if self.limits.policy == "shortest-prefill" and not request.ready:
            request.hit = self.match(request.path, now) * self.limits.block
        self.waiting.push(request)
        jobs = self.jobs
        if jobs is not None:
            jobs.claim(request)
        if self.closing:
            return
        if self.waiting.head is request and (jobs is None or not jobs.waiting):
            self.blocked = False
            if len(self.running) < self.limits.sequences:
                self._cut(now)
        elif not self.blocked and len(self.running) < self.limits.sequences:
            self._cut(now)

    def cancel(self, request: Request, now: float) -> None:
        """Nobody waits for the request any more: it leaves the line, or the batch at the end of the iteration."""
        request.cancelled = True
        if request.reads and self.jobs is not None:
            self.jobs.disclaim(request)
        if not request.running:
            self.waiting.forget()
        else:
            self.voided.append(request)
        self.blocked = False
        if not self.closing:
            self._cut(now)

    def encode(self, job: Job, now: float) -> None:
        """A job of an encoder comes: it has an iteration of its own, as soon as one can begin and there is room for its blocks."""
        if job.blocks > self.kv.blocks:
            raise ValueError(f"a job of {job.blocks} blocks must fit into the KV cache")
        if self.jobs is None:
            self.jobs = Jobs()
        self.jobs.waiting.append(job)
        if self.jobs.waiting[0] is job:
            self.blocked = False
        if not self.closing:
            self._cut(now)

    def drop(self, job: Job, now: float) -> None:
        """Nobody waits for a job any more: it leaves the line, or goes on to its end in vain."""
        assert self.jobs is not None
        self.jobs.drop(job)
        self.relieve(now)

    def forget(self, task: int, now: float) -> None:
        """A task is over: what was encoded for it is not held any more."""
        if self.jobs is not None and self.jobs.forget(task, self.kv, now):
            self.relieve(now)

    def reach(self, now: float) -> None:
        """Tell those whose marks are reached by `now`; before `wake`, where that is due at the same time."""
        while self.next_mark <= now:
            self.batch.reach(now)

    def wake(self, now: float) -> list[Request]:
        """An iteration ends at `now`: return the requests that end with it. `begin` must follow, at the same time."""
        self.closing = True
        over = self.over
        if self.prefilled:
            self._share(now)  # first, so that blocks that are there twice come free before others are evicted
        if self.leap:
            batch, leap = self.batch, self.leap
            used, cached = self.taken(leap, now)
            self.kv.used_seconds += used
            self.kv.cached_seconds -= cached
            self._grow(leap, now)
            self._count(leap, now - self.start, batch.count)
            over += batch.advance(leap)
            self.leap = 0
        if self.jobs is not None:
            self._end_jobs(self.jobs, now)
        self.over = []
        if len(over) > 1:
            over.sort(key=_order)
        for request in over:
            request.ended = now
            request.phases += self.episode(request, now)
            self._release(request, now, request.length - 1)
        for request in self.voided:
            if request.running:
                self._release(request, now, self._take_out(request))
        if self.voided:
            over = [request for request in over if not request.cancelled]
            self.voided = []
        return over

    def begin(self, now: float) -> None:
        """Start the next iteration, and leap over those that follow it without a change."""
        self.closing = False
        self.leap = 0
        self.slow = 1.0 if self.slowdown is None else self.slowdown(now)
        self.start = now
        self.blocked = self.blocked and now < self.release
        if self.loading:
            self._loaded(now)
        kept = self._secure_blocks(now)
        if self.jobs is not None and self._encode(self.jobs, kept, now):
            return
        chunks = self._continue_prefills() if self.prefilling else []
        if len(self.waiting) and not self.blocked and (kept or not self.running):
            self._admit(chunks, now)
        batch = self.batch
        if chunks:
            self._iterate(chunks, now)
            if self.prefilling or self.over or self.read or (len(self.waiting) and not self._closed()):
                self.next_time = self.start
                return
        if batch.count:
            self._leap(now)
        elif self.over or self.prefilled:
            self.next_time = self.start
        else:
            self.next_time = math.inf
        if self.loading:
            self._cut(min(request.loaded for request in self.loading))
        self.release = math.inf
        if self.blocked:
            self.release = self.kv.next_release
            self._cut(self.release)

    # Inside: one iteration

    def _continue_prefills(self) -> list[tuple[int, int]]:
        """Go on with prompts that did not fit into one iteration; return the chunks, each of (new, cached) tokens."""
        chunks = []
        budget = self.limits.tokens - self.batch.count
        for request in self.prefilling:
            chunk = min(request.length - request.computed, budget)
            if chunk > 0:
                budget -= chunk
                assert request.lease is not None
                self.kv.grow(request.lease, self._short(request, request.computed + chunk), self.start)
                chunks.append(self._chunk(request, chunk))
        return chunks

    def _admit(self, chunks: list[tuple[int, int]], now: float) -> None:
        """Take in those who wait, in order, as far as everything allows."""
        limits, waiting, batch = self.limits, self.waiting, self.batch
        self._reserve(1, now)
        budget = limits.tokens - (batch.count if limits.chunked else 0) - sum(new for new, _ in chunks)
        while len(self.running) < limits.sequences:
            request = waiting.head
            if request is None or budget <= 0:
                return
            chunk = self._place(request, budget, bool(chunks), now)
            if chunk is None:
                if self.running or self.jobs is None or not self.jobs.yield_one(self.kv, now):
                    return
                self.blocked = False
                continue
            waiting.pop()
            if chunk:
                budget -= chunk
                chunks.append(self._chunk(request, chunk))

    def _iterate(self, chunks: list[tuple[int, int]], now: float) -> None:
        """Go through the one iteration that has `chunks`; its effects are those at its end, `self.start`."""
        batch, limits, tally = self.batch, self.limits, self.tally
        decodes = batch.count if limits.chunked else 0
        present = batch.count + len(self.prefilling)
        factors = batch.factors if decodes else 0.0
        for request in self.prefilling:
            factors += request.factor
        sequences = decodes + len(chunks)
        if decodes:
            self._grow(1, now)
            seconds = self.step.iteration(chunks, decodes, batch.total, batch.longest, self.slow)
        else:
            seconds = self.step.iteration(chunks, 0, 0.0, 0.0, self.slow)
        seconds = seconds * factors / (decodes + len(self.prefilling)) + self._host(sequences)
        self.start = end = now + seconds
        self._count(1 if decodes else 0, seconds, present)
        tally.iterations += 0 if decodes else 1
        if decodes:
            self.over += batch.advance(1)
        self._end_chunks(seconds, end)

    def _end_chunks(self, seconds: float, end: float) -> None:
        """The chunks of an iteration are computed: book them, and let those that are through make their first token."""
        left = []
        tally = self.tally
        for request in self.prefilling:
            chunk, computed = request.prefilled, request.computed
            request.prefilled = 0
            front = request.front
            again = min(front + request.carried, computed) - max(front, computed - chunk)
            if again > 0:
                request.carry_seconds += seconds * again / chunk
                request.recomputed += again
                tally.recomputed += again
            tally.prefilled += chunk
            if computed < request.length:
                left.append(request)
                continue
            request.generated += 1
            tally.generated += 1
            if request.generated == 1:
                request.first_token = end
            self.prefilled.append(request)
            if request.reads:
                self.read.append(request)
            if request.generated >= request.stop:
                self.over.append(request)
            else:
                self.batch.join(request)
        self.prefilling = left

    def _leap(self, now: float) -> None:
        """Leap to the first end, or to where the blocks run out."""
        batch = self.batch
        # Whoever could be taken in, but was not since somebody had to go, is looked at after one iteration.
        most = 1 if len(self.waiting) and not self._closed() else batch.left
        self.leap = leap = batch.affordable(most, self.kv.room(now) + self.reserved)
        if not leap:  # the blocks do not last for one
            self.next_time = self.start
            return
        self.factor = batch.factors / batch.count
        self.extra = self._host(batch.count)
        seconds = self.step.run(batch.count, batch.total, batch.longest, leap, self.slow)
        self.next_time = self.start + (self.factor * seconds + self.extra * leap)

    def _cut(self, now: float) -> None:
        """Let the next boundary be the first at or after `now`."""
        if now >= self.next_time:
            return
        if not self.leap:
            self.next_time = max(now, self.start)
            return
        if now <= self.start:
            self.leap = 0
            self.next_time = self.start
            return
        leap = self.begun(now)
        if leap < self.leap:
            batch = self.batch
            self.leap = leap
            seconds = self.step.run(batch.count, batch.total, batch.longest, leap, self.slow)
            self.next_time = self.start + (self.factor * seconds + self.extra * leap)

    def begun(self, now: float) -> int:
        """Return the iterations of the leap that have begun before `now`."""
        batch = self.batch
        if not self.leap or now <= self.start:
            return 0
        return self.step.count_until(
            batch.count, batch.total, batch.longest, now - self.start, self.leap, factor=self.factor, extra=self.extra,
            slow=self.slow,
        )  # fmt: skip

    # Inside: jobs of encoders

    def _encode(self, jobs: Jobs, kept: bool, now: float) -> bool:
        """Give the next iteration to the first job in line, if there is one and room for its blocks; return whether it has it."""
        if not jobs.waiting or self.blocked or not (kept or not self.running):
            return False
        need = max(0, self.batch.needed(1) - self.reserved) + self._for_chunks() + jobs.waiting[0].blocks
        while need > self.kv.room(now):
            if self.running or not jobs.yield_one(self.kv, now):
                self.blocked = True
                return False
        job = jobs.start(self.kv, now)
        self.blocked = False
        self.start = self.next_time = now + job.seconds
        self.release = math.inf
        self.tally.iterations += 1
        self._count(0, job.seconds, self.batch.count + len(self.prefilling))
        return True

    def _end_jobs(self, jobs: Jobs, now: float) -> None:
        """The job under way ends, if there is one; what prompts have read is given back."""
        if jobs.running is not None:
            jobs.finish(self.kv, now)
        if self.read:
            if jobs.free(self.read, self.kv, now):
                self.blocked = False
            self.read = []

    # Inside: who comes and goes

    def _closed(self) -> bool:
        """Whether nobody could be taken in, whoever waits."""
        return self.blocked or len(self.running) >= self.limits.sequences

    # Inside: costs

    def _host(self, sequences: int) -> float:
        """Return the seconds of the host for an iteration of so many sequences."""
        hosts = self._hosts
        while len(hosts) <= sequences:
            number = len(hosts)
            engine = 0.0 if self.engine is None else self.engine(number)
            hosts.append(self.limits.host_step + self.limits.host_token * number + engine)
        return hosts[sequences] * self.slow

    def _count(self, decodes: int, seconds: float, present: int) -> None:
        tally = self.tally
        tally.iterations += decodes
        tally.generated += decodes * self.batch.count
        tally.busy += seconds
        tally.sequence_seconds += seconds * present


def _order(request: Request) -> int:
    return request.sequence


def drive(replica: Replica, requests: Iterable[Request], jobs: Iterable[Job] = ()) -> None:
    """Run a replica alone over requests, and jobs, in order of `arrived`, until all have ended."""
    there: list[Request | Job] = [*requests, *jobs]
    for one in sorted(there, key=lambda one: one.arrived):
        _advance(replica, one.arrived)
        if isinstance(one, Job):
            replica.encode(one, one.arrived)
        else:
            replica.submit(one, one.arrived)
    _advance(replica, math.inf)


def _advance(replica: Replica, until: float) -> None:
    while (now := min(replica.next_time, replica.next_mark)) < until:
        replica.reach(now)
        if now == replica.next_time:
            replica.wake(now)
            replica.begin(now)
