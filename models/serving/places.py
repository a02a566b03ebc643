"""The places in a replica's batch: who runs, what KV each of them holds, and how they come and go.

A request is taken in when the first blocks for it can be had; others that end, or have to go, give theirs back. Blocks that
sequences grow by while they decode are taken for all together, and sorted out when one of them leaves.

Leaves out: when any of this happens; the replica decides. Copying KV out to the host, which runs beside iterations and takes
no time here; copying it back does.
Checked: tests/test_replica.py.
Source: Kwon et al., SOSP 2023 (paged KV memory, preemption by recomputing or swapping).
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

from .batch import Batch
from .encoding import Jobs
from .kv_cache import KvCache, Lease, Path
from .request import CARRY, INFER, LOAD, QUEUE, Request
from .waiting import Policy, Waiting

__all__ = ["Limits", "Places", "Tally", "Transfers", "content"]


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


class Places:
    """Those who wait, and those who run on one replica.

    `links` are the ways to the lower tiers of the KV cache, the first also that of swapping; `kv_bytes` are bytes a token.
    """

    __slots__ = (
        "batch", "blocked", "common", "jobs", "kv", "kv_bytes", "limits", "links", "loading", "prefilled", "prefilling", "reserved",
        "running", "tally", "waiting",
    )  # fmt: skip

    def __init__(self, kv: KvCache, limits: Limits, links: tuple[Transfers, ...], kv_bytes: float) -> None:
        self.kv = kv
        self.limits = limits
        self.links = links
        self.kv_bytes = kv_bytes
        self.batch = Batch(limits.block)
        self.waiting = Waiting(limits.policy)
        self.running: dict[int, Request] = {}  # by sequence number, in the order they were taken in
        self.prefilling: list[Request] = []
        self.loading: list[Request] = []  # those whose KV is on its way
        self.prefilled: list[Request] = []  # those whose KV is to be shared from the next boundary on
        self.blocked = False  # who waits does so for blocks, and none came free
        self.jobs: Jobs | None = None  # of encoders, once there are any
        self.common = kv.open((), 0.0, 0)  # blocks that sequences grew by while they decode
        self.reserved = 0  # of these, taken for the next iteration and not used yet
        self.tally = Tally()

    def fits(self, request: Request) -> bool:
        """Whether the KV cache could ever hold the request."""
        return -(-(request.prompt + request.stop - 1) // self.limits.block) <= self.kv.blocks

    # Blocks

    def _secure_blocks(self, now: float) -> bool:
        """See that all who run can go on for one more iteration; return whether nobody had to go for it."""
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
                return kept
            if len(self.running) == 1 and self.jobs is not None and self.jobs.yield_one(kv, now):
                self.blocked = False
                continue  # else it would go, only to come back into the same room
            self._preempt(self._victim(), now)
            kept = False

    def _reserve(self, iterations: int, now: float) -> None:
        """Take what so many iterations of the batch need, before they are over."""
        need = self.batch.needed(iterations) - self.reserved
        if need > 0:
            self.kv.grow(self.common, need, now)
            self.reserved += need

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

    # In

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

    def _chunk(self, request: Request, tokens: int) -> tuple[int, int]:
        """Note a chunk of a prefill; return (new, cached) tokens."""
        computed = request.computed
        request.computed = computed + tokens
        request.prefilled = tokens
        return tokens, computed

    # Out

    def _share(self, now: float) -> None:
        """Let others find the KV of prompts whose prefill has ended."""
        for request in self.prefilled:
            if request.lease is not None:
                self.kv.commit(request.lease, request.path, now)
        self.prefilled = []

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
        if computed > request.front:
            request.carried = max(request.front + request.carried, computed)
            request.front = 0
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

    def episode(self, request: Request, now: float) -> tuple[tuple[int, float], ...]:
        """Return the phases of a request that runs, since it came, or came back, up to `now`."""
        admitted, loaded, carry = request.admitted, min(now, request.loaded), request.carry_seconds
        if loaded == admitted and not carry:
            return (QUEUE, admitted), (INFER, now)
        fetched = ((LOAD, loaded),) if loaded > admitted else ()
        again = ((CARRY, min(now, loaded + carry)),) if carry else ()
        return (QUEUE, admitted), *fetched, *again, (INFER, now)


def content(path: Path, blocks: int) -> Path:
    """Return the first `blocks` of what a sequence holds whose prompt is `path`; what goes on lengthens the last segment."""
    if not path:
        return ()
    found: list[tuple[Hashable, int]] = []
    for key, size in path[:-1]:
        found.append((key, min(size, blocks)))
        blocks -= size
        if blocks <= 0:
            return tuple(found)
    found.append((path[-1][0], blocks))
    return tuple(found)
