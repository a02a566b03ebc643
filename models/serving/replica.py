"""One replica of an inference server: continuous batching, iteration by iteration, in few steps.

Each iteration makes one token for every sequence that decodes, goes on with the prefill under way, and takes in who waits, as
far as the limits on sequences and tokens and the KV blocks allow. When blocks run out, who came in last has to go and comes
back later. Between two events (somebody comes, ends, is taken in, or blocks run out) the batch does not change: then many
iterations are one leap, whose duration is one sum.

Who comes while an iteration is under way is looked at when it ends, at its very end included; who waits for blocks is looked
at again when some may have come free.

Leaves out: speculative decoding; pipelining; a batch split into micro-batches; the time at which a cancelled request
notices. With time of the host that depends on its load, a leap keeps the load it began with.
Checked: tests/test_replica.py, against a server that goes through every sequence in every iteration, to 1e-9.
Source: Yu et al., OSDI 2022 (iteration-level scheduling); Kwon et al., SOSP 2023 (paged KV, preemption); Agrawal et al.,
OSDI 2024 (chunked prefill); the order within an iteration is that of vLLM's scheduler (version 1).
"""

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Literal

from .batch import Batch
from .kv_cache import KvCache, Lease, Path
from .request import CARRY, INFER, LOAD, QUEUE, Request
from .step_time import StepTime
from .waiting import Policy, Waiting

__all__ = ["Limits", "Replica", "Tally", "Transfers", "drive"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds an iteration: `sequences` at once, `tokens` in it, and whether prompts are `chunked` to fit beside decodes.

    `block` is tokens per KV block. `host_step` and `host_token` are seconds of the host per iteration, and in it per sequence.
    """

    sequences: int = 256
    tokens: int = 8192
    block: int = 16
    chunked: bool = True
    policy: Policy = "fcfs"
    preemption: Literal["recompute", "swap"] = "recompute"
    host_step: float = 0.0
    host_token: float = 0.0


@dataclass(slots=True)
class Tally:
    """What a replica has done: counts, and seconds."""

    iterations: int = 0
    busy: float = 0.0  # seconds in which an iteration was under way
    sequence_seconds: float = 0.0  # summed over those in the batch
    prompts: int = 0
    asked: int = 0  # tokens of prompts
    hit: int = 0  # of these, found on the device
    fetched: int = 0  # of these, found in a lower tier
    requests_hit: int = 0  # prompts of which anything was found
    prefilled: int = 0  # tokens computed in prefills
    recomputed: int = 0  # of these, computed before
    generated: int = 0
    preemptions: int = 0


class Transfers:
    """Copies of KV between the device and a place of `bandwidth` bytes/s, one after the other, `latency` seconds each."""

    __slots__ = ("bandwidth", "free", "latency")

    def __init__(self, bandwidth: float, latency: float = 0.0) -> None:
        self.bandwidth = bandwidth
        self.latency = latency
        self.free = 0.0

    def end(self, now: float, size: float) -> float:
        """Return when a copy of `size` bytes that is asked for at `now` is there."""
        self.free = max(now, self.free) + self.latency + size / self.bandwidth
        return self.free


class Replica:
    """A replica. `next_time` is when `wake` must be called next, then `begin`; `submit` may bring it forward.

    `engine` gives further seconds of the host by sequences in an iteration, and `slowdown` what stretches all time of the
    host. `links` are the ways to the lower tiers of the KV cache, the first also that of swapping; `kv_bytes` are bytes a
    token.
    """

    __slots__ = (
        "batch", "blocked", "closing", "common", "engine", "extra", "factor", "kv", "kv_bytes", "leap", "limits", "links",
        "loading", "next_time", "over", "prefilled", "prefilling", "release", "reserved", "running", "slow", "slowdown", "start",
        "step", "tally", "voided", "waiting", "_hosts", "_sequence",
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
        self.step = step
        self.kv = kv
        self.limits = limits
        self.engine = engine
        self.slowdown = slowdown
        self.links = links
        self.kv_bytes = kv_bytes
        self.batch = Batch(limits.block)
        self.waiting = Waiting(limits.policy)
        self.running: dict[int, Request] = {}  # by sequence number, in the order they were taken in
        self.prefilling: list[Request] = []
        self.loading: list[Request] = []
        self.prefilled: list[Request] = []  # those whose KV is to be shared from the next boundary on
        self.over: list[Request] = []  # those that end at the next boundary
        self.voided: list[Request] = []  # those cancelled while they ran
        self.blocked = False  # who waits does so for blocks, and none came free
        self.closing = False  # between `wake` and `begin`
        self.common = kv.open((), 0.0, 0)  # blocks that sequences grew by while they decode
        self.reserved = 0  # of these, taken for the next iteration and not used yet
        self.release = math.inf  # when a pin ends that who waits may wait for
        self.start = 0.0  # of the leap
        self.leap = 0  # its iterations
        self.factor = self.slow = 1.0
        self.extra = 0.0
        self.next_time = math.inf
        self.tally = Tally()
        self._hosts: list[float] = []
        self._sequence = 0

    @property
    def outstanding(self) -> int:
        """Requests that wait or run."""
        return len(self.waiting) + len(self.running)

    # From outside

    def fits(self, request: Request) -> bool:
        """Whether the KV cache could ever hold the request."""
        return -(-(request.prompt + request.stop - 1) // self.limits.block) <= self.kv.blocks

    def match(self, path: Path, now: float) -> int:
        """Return how many leading blocks of a path are there."""
        if now >= self.start:
            self._share(now)
        return self.kv.match(path, now)

    def relieve(self, now: float) -> None:
        """Blocks have come free from outside: look again at who waits."""
        self.blocked = False
        if len(self.waiting) and not self.closing:
            self._cut(now)

    def submit(self, request: Request, now: float) -> None:
        """A request comes, and waits."""
        if not self.fits(request):
            raise ValueError(f"a request of {request.prompt} + {request.output} tokens must fit into the KV cache")
        self._sequence += 1
        request.sequence = self._sequence
        if self.limits.policy == "shortest-prefill":
            request.hit = self.match(request.path, now) * self.limits.block
        self.waiting.push(request)
        if self.closing:
            return
        if self.waiting.head is request:
            self.blocked = False
            if len(self.running) < self.limits.sequences:
                self._cut(now)
        elif not self.blocked and len(self.running) < self.limits.sequences:
            self._cut(now)

    def cancel(self, request: Request, now: float) -> None:
        """Nobody waits for the request any more: it leaves the line, or the batch at the end of the iteration."""
        request.cancelled = True
        if not request.running:
            self.waiting.forget()
        else:
            self.voided.append(request)
        self.blocked = False
        if not self.closing:
            self._cut(now)

    def wake(self, now: float) -> list[Request]:
        """An iteration ends at `now`: return the requests that end with it. `begin` must follow, at the same time."""
        self.closing = True
        over = self.over
        if self.leap:
            batch, leap = self.batch, self.leap
            self._grow(leap, now)
            self._count(leap, now - self.start, batch.count)
            over += batch.advance(leap)
            self.leap = 0
        if self.prefilled:
            self._share(now)
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
        if now >= self.release:
            self.blocked = False
        if self.loading:
            self._loaded(now)
        kept = self._secure_blocks(now)
        chunks = self._continue_prefills() if self.prefilling else []
        if len(self.waiting) and not self.blocked and (kept or not self.running):
            self._admit(chunks, now)
        batch = self.batch
        if chunks:
            self._iterate(chunks, now)
            if self.prefilling or self.over or (len(self.waiting) and not self._closed()):
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
        self.release = self.kv.next_release if self.blocked else math.inf
        if self.release < self.next_time:
            self._cut(self.release)

    # Inside: one iteration

    def _share(self, now: float) -> None:
        """Let others find the KV of prompts whose prefill has ended."""
        for request in self.prefilled:
            if request.lease is not None:
                self.kv.commit(request.lease, request.path, now)
        self.prefilled = []

    def _secure_blocks(self, now: float) -> bool:
        """Take what all who run need for one more iteration; return whether nobody had to go for it."""
        kv, batch = self.kv, self.batch
        if not batch.count and self.reserved:
            kv.close(self.common, now)
            self.common, self.reserved = kv.open((), now, 0), 0
        kept = True
        while True:
            need = max(0, batch.needed(1) - self.reserved)
            short = need + self._for_chunks() if self.prefilling else need
            if not short:
                return kept
            if short <= kv.room(now):
                kv.grow(self.common, need, now)
                self.reserved += need
                return kept
            self._preempt(self._victim(), now)
            kept = False

    def _grow(self, iterations: int, now: float) -> None:
        """Take the blocks that so many iterations of the batch need."""
        need = self.batch.needed(iterations)
        if need > self.reserved:
            self.kv.grow(self.common, need - self.reserved, now)
            self.reserved = 0
        else:
            self.reserved -= need

    def _for_chunks(self) -> int:
        """Return the blocks that the next chunks of the prefills under way need."""
        budget, need = self.limits.tokens - self.batch.count, 0
        for request in self.prefilling:
            chunk = min(request.length - request.computed, budget)
            budget -= chunk
            need += self._short(request, request.computed + chunk)
        return need

    def _short(self, request: Request, tokens: int) -> int:
        """Return the blocks that a request lacks to hold so many tokens."""
        assert request.lease is not None
        return max(0, -(-tokens // self.limits.block) - request.lease.shared - request.lease.private)

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

    def _chunk(self, request: Request, tokens: int) -> tuple[int, int]:
        """Note a chunk of a prefill; return (new, cached) tokens."""
        computed = request.computed
        request.computed = computed + tokens
        request.prefilled = tokens
        return tokens, computed

    def _admit(self, chunks: list[tuple[int, int]], now: float) -> None:
        """Take in those who wait, in order, as far as everything allows."""
        limits, waiting = self.limits, self.waiting
        batch = self.batch
        budget = limits.tokens - (batch.count if limits.chunked else 0) - sum(new for new, _ in chunks)
        while len(self.running) < limits.sequences:
            request = waiting.head
            if request is None or budget <= 0:
                return
            chunk = self._place(request, budget, bool(chunks), now)
            if chunk is None:
                return
            waiting.pop()
            if chunk:
                budget -= chunk
                chunks.append(self._chunk(request, chunk))

    def _place(self, request: Request, budget: int, beside: bool, now: float) -> int | None:
        """Give a request its first blocks; return the tokens of its chunk, 0 if it prefills none now, None if it must wait."""
        kv, block = self.kv, self.limits.block
        length = request.length
        if request.ready:
            lease = kv.open((), now, 0)
            if not kv.grow(lease, -(-request.ready // block), now):
                self.blocked = True
                return None
            self._take_in(request, lease, now)
            request.computed = request.ready
            self._wait_or_join(request, now)
            return 0
        most = (length - 1) // block
        lease = kv.open(content(request.path, most) if request.generated else request.path, now, most)
        hit = lease.hit * block
        fetched = sum(lease.loaded) * block
        chunk = 0 if fetched else min(length - hit, budget)
        if not self.limits.chunked and chunk < length - hit and beside:
            kv.close(lease, now)
            return None
        if not self.limits.chunked:
            chunk = 0 if fetched else length - hit
        need = -(-(hit + chunk) // block) - lease.shared
        if need > 0 and not kv.grow(lease, need, now):
            kv.close(lease, now)
            self.blocked = True
            return None
        self._take_in(request, lease, now)
        self._found(request, hit, fetched)
        if fetched:
            request.loaded = self._fetch(lease.loaded, now)
            self._wait_or_join(request, now)
            return 0
        self.prefilling.append(request)
        return chunk

    def _take_in(self, request: Request, lease: Lease, now: float) -> None:
        request.lease = lease
        request.running = True
        request.admitted = request.loaded = now
        request.carry_seconds = 0.0
        self.running[request.sequence] = request

    def _found(self, request: Request, hit: int, fetched: int) -> None:
        """Count what the cache had of a prompt."""
        request.computed = hit + fetched
        if not request.preemptions:
            tally = self.tally
            request.hit = hit + fetched
            tally.prompts += 1
            tally.asked += request.prompt
            tally.hit += hit
            tally.fetched += fetched
            tally.requests_hit += hit + fetched > 0

    def _fetch(self, loaded: tuple[int, ...], now: float) -> float:
        """Return when blocks from lower tiers are there."""
        size = self.limits.block * self.kv_bytes
        ends = [link.end(now, blocks * size) for link, blocks in zip(self.links, loaded, strict=True) if blocks]
        return max(ends)

    def _wait_or_join(self, request: Request, now: float) -> None:
        """A request whose KV comes by a transfer waits for its end; then it decodes, or goes on with its prefill."""
        if request.swapped:
            request.swapped = False
            request.loaded = self.links[0].end(now, request.ready * self.kv_bytes) if self.links else now
        if request.loaded > now:
            self.loading.append(request)
        else:
            self._go_on(request)

    def _go_on(self, request: Request) -> None:
        if request.ready:
            request.ready = 0
            self.batch.join(request)
        else:
            self.prefilling.append(request)

    def _loaded(self, now: float) -> None:
        """Those whose KV has come go on."""
        for request in self.loading:
            if request.loaded <= now:
                self._go_on(request)
        self.loading = [request for request in self.loading if request.loaded > now]

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
            again = min(request.carried, computed) - (computed - chunk)
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
            if request.generated >= request.stop:
                self.over.append(request)
            else:
                self.batch.join(request)
        self.prefilling = left

    def _leap(self, now: float) -> None:
        """Leap to the first end, or to where the blocks run out."""
        batch = self.batch
        room = self.kv.room(now) + self.reserved
        # Whoever could be taken in, but was not since somebody had to go, is looked at after one iteration.
        most = 1 if len(self.waiting) and not self._closed() else batch.left
        self.leap = leap = batch.affordable(most, room)
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
        batch = self.batch
        count, total, longest = batch.count, batch.total, batch.longest
        leap = self.step.count_until(
            count, total, longest, now - self.start, self.leap, factor=self.factor, extra=self.extra, slow=self.slow
        )
        if leap < self.leap:
            self.leap = leap
            seconds = self.step.run(count, total, longest, leap, self.slow)
            self.next_time = self.start + (self.factor * seconds + self.extra * leap)

    # Inside: who comes and goes

    def _closed(self) -> bool:
        """Whether nobody could be taken in, whoever waits."""
        return self.blocked or len(self.running) >= self.limits.sequences

    def _victim(self) -> Request:
        """Return who has to go: the last taken in, by priority the last of the lowest."""
        if self.limits.policy == "priority":
            return min(self.running.values(), key=lambda request: (request.priority, -request.sequence))
        return self.running[next(reversed(self.running))]

    def _preempt(self, request: Request, now: float) -> None:
        """Take a request out of the batch; it comes back before all who wait."""
        computed = self._take_out(request)
        decoding = request.generated > 0 and computed == request.length - 1
        request.phases += self.episode(request, now)
        request.preemptions += 1
        self.tally.preemptions += 1
        swap = self.limits.preemption == "swap" and decoding
        if swap:
            request.ready = computed
            request.swapped = True
        request.carried = max(request.carried, computed)
        self._release(request, now, computed, share=not swap)
        request.computed = 0
        self.waiting.push_back(request)

    def _take_out(self, request: Request) -> int:
        """Take a request out of whatever it does; return the tokens whose KV it has."""
        for group in (self.prefilling, self.loading):
            if request in group:
                group.remove(request)
                return request.computed
        self.batch.leave(request)
        return request.length - 1

    def _release(self, request: Request, now: float, tokens: int, share: bool = True) -> None:
        """Give back the blocks of a request; what it computed stays in the cache while there is room."""
        lease, block = request.lease, self.limits.block
        assert lease is not None
        grown = -(-tokens // block) - lease.shared - lease.private
        if grown > 0:  # it decoded, and its blocks were taken together with those of the others
            self.common.private -= grown
            lease.private += grown
        if share and request.path:
            self.kv.commit(lease, content(request.path, tokens // block), now)
        self.kv.close(lease, now)
        request.lease = None
        request.running = False
        del self.running[request.sequence]
        self.blocked = False

    def episode(self, request: Request, now: float) -> list[tuple[int, float]]:
        """Return the phases of a request that runs, since it came, or came back, up to `now`."""
        loaded = min(now, request.loaded)
        found = [(QUEUE, request.admitted)]
        if loaded > request.admitted:
            found.append((LOAD, loaded))
        if request.carry_seconds:
            found.append((CARRY, min(now, loaded + request.carry_seconds)))
        found.append((INFER, now))
        return found

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


def content(path: Path, blocks: int) -> Path:
    """Return the first `blocks` of what a sequence holds whose prompt is `path`; what goes on lengthens the last segment."""
    found: list[tuple[Hashable, int]] = []
    for key, size in path[:-1]:
        found.append((key, min(size, blocks)))
        blocks -= size
        if blocks <= 0:
            return tuple(found)
    found.append((path[-1][0], blocks))
    return tuple(found)


def drive(replica: Replica, requests: Iterable[Request]) -> None:
    """Run a replica alone over requests in order of `arrived`, until all have ended."""
    for request in requests:
        while replica.next_time < request.arrived:
            now = replica.next_time
            replica.wake(now)
            replica.begin(now)
        replica.submit(request, request.arrived)
    while replica.next_time < math.inf:
        now = replica.next_time
        replica.wake(now)
        replica.begin(now)
