"""A server that goes through every iteration and every sequence, one by one: what the leaping replica is held to.

The order within an iteration is the same, and so are the ties: who comes at the very end of an iteration is looked at then; who
waits for blocks is looked at again when some may have come free, or when somebody comes to stand before.
"""

import math
from collections.abc import Callable, Sequence

from coordsim.models.serving.encoding import Job
from coordsim.models.serving.kv_cache import KvCache, Lease
from coordsim.models.serving.places import Limits, content
from coordsim.models.serving.request import Request
from coordsim.models.serving.step_time import StepTime

KEYS: dict[str, Callable[[Request], float]] = {
    "fcfs": lambda request: 0.0,
    "shortest-prefill": lambda request: float(request.prompt - request.hit),
    "priority": lambda request: -request.priority,
    "least-attained": lambda request: request.attained,
}


def held(request: Request) -> Lease:
    """Return the blocks of a request that runs."""
    assert request.lease is not None
    return request.lease


class Stepper:
    """One replica, plainly."""

    def __init__(self, step: StepTime, kv: KvCache, limits: Limits) -> None:
        self.step, self.kv, self.limits = step, kv, limits
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.blocked = False
        self.coming: list[Request | Job] = []
        self.jobs: list[Job] = []  # that wait
        self.held: list[Job] = []  # of which the memory has what they made
        self.iterations = 0
        self.preemptions = 0

    def run(self, requests: Sequence[Request], jobs: Sequence[Job] = ()) -> None:
        """Serve all requests and jobs, which are in order of `arrived`."""
        coming: list[Request | Job] = [*requests, *jobs]
        self.coming = coming
        coming.sort(key=lambda one: one.arrived)
        for number, request in enumerate(requests):
            request.sequence = number
        now = 0.0
        while coming or self.waiting or self.running or self.jobs:
            if not self.waiting and not self.running and not self.jobs:
                now = max(now, coming[0].arrived)
            self._arrivals(now)
            now = self._iterate(now)

    def _arrivals(self, until: float) -> None:
        """Let those come who do until then: what a policy looks at is what there is when they come."""
        while self.coming and self.coming[0].arrived <= until:
            one = self.coming.pop(0)
            if isinstance(one, Job):
                self.blocked = self.blocked and bool(self.jobs)
                self.jobs.append(one)
            else:
                self._arrive(one, one.arrived)

    def _arrive(self, request: Request, now: float) -> None:
        if self.limits.policy == "shortest-prefill":
            request.hit = self.kv.match(request.path, now) * self.limits.block
        self.waiting.append(request)
        for job in self.held:
            if job.task == request.session[0] and job.reader is None:
                job.reader = request
        # Those preempted come first, the last preempted before the others.
        self.waiting.sort(key=lambda one: (0, 0.0, -one.finish) if one.finish else (1, self._key(one), one.sequence))
        if self.waiting[0] is request and not self.jobs:
            self.blocked = False

    def _key(self, request: Request) -> float:
        return KEYS[self.limits.policy](request)

    def _short(self, request: Request, tokens: int) -> int:
        lease = held(request)
        return max(0, -(-tokens // self.limits.block) - lease.shared - lease.private)

    def _iterate(self, now: float) -> float:
        """Go through one iteration that begins at `now`; return when it ends."""
        kept = self._secure(now) or not self.running
        if kept and self.jobs and not self.blocked and self._has_room(self.jobs[0], now):
            return self._encode(self.jobs.pop(0), now)
        decoding, prefilling, chunks, short, budget = self._plan()
        for request in self.running:
            assert self.kv.grow(held(request), short[request.sequence], now)
        if kept:
            self._admit(prefilling, chunks, budget, now)
        if not self.running:
            return math.inf
        return self._end(now, decoding, prefilling, chunks)

    def _secure(self, now: float) -> bool:
        """See that all who run can go on for an iteration; return whether nobody had to go for it."""
        kept = True
        while sum(self._plan()[3].values()) > self.kv.room(now):
            if len(self.running) == 1 and self._yield(now):
                continue
            kept = False
            self._preempt(self._victim(), now)
        return kept

    def _has_room(self, job: Job, now: float) -> bool:
        """Whether there are blocks for a job, beside those that the next iteration needs."""
        while sum(self._plan()[3].values()) + job.blocks > self.kv.room(now):
            if not self._make_way(now):
                self.blocked = True
                return False
        return True

    def _admit(self, prefilling: list[Request], chunks: dict[int, int], budget: int, now: float) -> None:
        """Take in who waits, in order, as far as everything allows."""
        limits, kv, block = self.limits, self.kv, self.limits.block
        while self.waiting and not self.blocked:
            if len(self.running) >= limits.sequences or budget <= 0:
                break
            request = self.waiting[0]
            path = content(request.path, (request.length - 1) // block) if request.generated else request.path
            lease = kv.open(path, now, (request.length - 1) // block)
            hit = lease.hit * block
            chunk = min(request.length - hit, budget)
            if not kv.grow(lease, max(0, -(-(hit + chunk) // block) - lease.shared), now):
                kv.close(lease, now)
                if self._make_way(now):
                    continue
                self.blocked = True
                break
            self.waiting.pop(0)
            request.lease, request.computed, request.admitted = lease, hit, now
            if not request.preemptions:
                request.hit = hit
            budget -= chunk
            chunks[request.sequence] = chunk
            prefilling.append(request)
            self.running.append(request)

    def _plan(self) -> tuple[list[Request], list[Request], dict[int, int], dict[int, int], int]:
        """Return who decodes, who prefills, the tokens of each, the blocks that each lacks for them, and the tokens left."""
        decoding = [r for r in self.running if r.running]  # the others prefill
        prefilling = [r for r in self.running if r not in decoding]
        budget = self.limits.tokens - len(decoding)
        chunks = dict.fromkeys((r.sequence for r in decoding), 1)
        for request in prefilling:
            chunks[request.sequence] = min(request.length - request.computed, budget)
            budget -= chunks[request.sequence]
        short = {r.sequence: self._short(r, r.computed + chunks[r.sequence]) for r in self.running}
        return decoding, prefilling, chunks, short, budget

    def _encode(self, job: Job, now: float) -> float:
        """Run a job, and nothing else; return when it ends."""
        job.lease = self.kv.open((), now, 0)
        assert self.kv.grow(job.lease, job.blocks, now)
        job.started = now
        self.blocked = False
        self.iterations += 1
        self._arrivals(now + job.seconds)
        job.ended = now + job.seconds
        self.held.append(job)
        return job.ended

    def _free(self, job: Job, now: float) -> None:
        assert job.lease is not None
        self.kv.close(job.lease, now)
        job.lease = None
        self.held.remove(job)

    def _yield(self, now: float) -> bool:
        """Let go of what has been held longest, if anything is."""
        if self.held:
            self._free(self.held[0], now)
            self.blocked = False
            return True
        return False

    def _make_way(self, now: float) -> bool:
        """Let go of what has been held longest where nobody runs."""
        return not self.running and self._yield(now)

    def _end(self, now: float, decoding: list[Request], prefilling: list[Request], chunks: dict[int, int]) -> float:
        limits, kv = self.limits, self.kv
        parts = [(chunks[r.sequence], r.computed) for r in prefilling]
        total, longest = sum(r.length for r in decoding), max((r.length for r in decoding), default=0)
        factor = sum(r.factor for r in self.running) / len(self.running)
        sequences = len(decoding) + len(prefilling)
        host = limits.host_step + limits.host_token * sequences
        end = now + factor * self.step.iteration(parts, len(decoding), total, longest) + host
        self.iterations += 1
        self._arrivals(end)
        for request in prefilling:
            before, request.computed = request.computed, request.computed + chunks[request.sequence]
            request.recomputed += max(0, min(request.carried, request.computed) - before)
            if request.computed == request.length:
                kv.commit(held(request), request.path, end)
                request.first_token = end if not request.generated else request.first_token
                request.generated += 1
                request.running = True
                self._tell(request, end)
                for job in [job for job in self.held if job.reader is request]:
                    self._free(job, end)
                    self.blocked = False
        for request in decoding:
            request.computed += 1
            request.generated += 1
            self._tell(request, end)
        for request in sorted((r for r in self.running if r.generated >= r.stop), key=lambda r: r.sequence):
            request.ended = end
            self._release(request, end)
        return end

    def _tell(self, request: Request, now: float) -> None:
        if request.generated in request.marks and request.told is not None:
            request.told(request.generated, now)

    def _release(self, request: Request, now: float) -> None:
        self.running.remove(request)
        if request.path:
            self.kv.commit(held(request), content(request.path, request.computed // self.limits.block), now)
        self.kv.close(held(request), now)
        request.lease = None
        request.running = False
        self.blocked = False

    def _victim(self) -> Request:
        if self.limits.policy == "priority":
            return min(self.running, key=lambda request: (request.priority, -request.sequence))
        return self.running[-1]

    def _preempt(self, request: Request, now: float) -> None:
        request.preemptions += 1
        request.carried = max(request.carried, request.computed)
        self._release(request, now)
        request.computed = 0
        self.preemptions += 1
        request.finish = self.preemptions  # orders those preempted
        self.waiting.insert(0, request)
