"""The paged KV memory, against a cache that keeps every block on its own, and one case for each way to get it wrong.

The reference knows nothing of runs of blocks: its blocks stand in dictionaries, its orders of use are lists of single
blocks, and its time goes second by second. Programs use whole seconds, so sums of both agree exactly.
"""

import math
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.models.serving.kv_cache import KvCache, Lease, Path, Tier

SYSTEM = ("system", 12)


def ids(path: Path) -> list[Any]:
    """Return what identifies each block of a path: all segments before its own, its segment's key, its place there."""
    return [(path[:index], key, place) for index, (key, blocks) in enumerate(path) for place in range(blocks)]


def cut(path: Path, blocks: int) -> Path:
    """Return the first `blocks` blocks of a path."""
    result = []
    for key, length in path:
        if blocks > 0:
            result.append((key, min(length, blocks)))
        blocks -= length
    return tuple(result)


class Held:
    """A lease of the reference: its shared blocks, and how many private ones."""

    def __init__(self, shared: list[Any], hit: int, loaded: tuple[int, ...]) -> None:
        self.shared, self.private, self.hit, self.loaded = shared, 0, hit, loaded


class Blocks:
    """The reference: `refs` and `pins` per block of the device, `loose[tier]` the unheld blocks in order of use."""

    def __init__(self, blocks: float, ttl: float | None, tiers: list[int]) -> None:
        self.blocks, self.ttl, self.sizes = blocks, ttl, tiers
        self.refs: dict[Any, int] = {}
        self.pins: dict[Any, int] = {}
        self.loose: list[OrderedDict[Any, float]] = [OrderedDict() for _ in range(1 + len(tiers))]
        self.pinned_paths: dict[Path, tuple[float, list[Any]]] = {}
        self.private = self.now = self.evicted = self.expired = self.dropped = 0
        self.seconds = [0, 0, 0]

    @property
    def used(self) -> int:
        """Blocks that leases hold."""
        return sum(1 for count in self.refs.values() if count) + self.private

    @property
    def pinned(self) -> int:
        """Blocks that only pins hold."""
        return sum(1 for block, count in self.pins.items() if count and not self.refs[block])

    @property
    def cached(self) -> int:
        """Blocks that no lease holds."""
        return len(self.refs) - self.used + self.private

    @property
    def room(self) -> float:
        """Blocks that can be had."""
        return self.blocks - self.used - self.pinned

    def to(self, now: int) -> None:
        """Go on second by second: count, end pins, expire."""
        while self.now < now:
            self.seconds = [a + b for a, b in zip(self.seconds, (self.used, self.cached, self.pinned), strict=True)]
            self.now += 1
            for path in [path for path, (until, _) in self.pinned_paths.items() if until <= self.now]:
                self.unpin(path)
            for tier, order in enumerate(self.loose):
                for block in [block for block, used in order.items() if self.ttl and used + self.ttl <= self.now]:
                    del order[block]
                    self.expired += 1
                    if tier == 0:
                        del self.refs[block], self.pins[block]

    def tier(self, block: Any) -> int | None:
        """Return where a block is, if anywhere."""
        lower = [tier for tier, order in enumerate(self.loose) if tier and block in order]
        return 0 if block in self.refs else lower[0] if lower else None

    def found(self, path: Path) -> list[int]:
        """Return the tier of each leading block of the path that is anywhere."""
        result = []
        for block in ids(path):
            tier = self.tier(block)
            if tier is None:
                break
            result.append(tier)
        return result

    def hold(self, block: Any) -> None:
        """Count a reference to a block, on the device from now on."""
        for order in self.loose:
            order.pop(block, None)
        self.refs[block] = self.refs.get(block, 0) + 1
        self.pins.setdefault(block, 0)

    def let_go(self, blocks: list[Any]) -> None:
        """Make the unheld of these the most recently used, last first."""
        for block in reversed(blocks):
            if not self.refs[block] and not self.pins[block]:
                self.loose[0][block] = self.now

    def sink(self, block: Any, used: float, tier: int) -> None:
        """Put a block into a tier, and what that pushes out into the next."""
        if tier < len(self.loose):
            self.loose[tier][block] = used
            if len(self.loose[tier]) > self.sizes[tier - 1]:
                self.sink(*self.loose[tier].popitem(last=False), tier + 1)

    def make_room(self, blocks: int) -> None:
        """Evict one block after the other until so many are free."""
        while self.blocks - len(self.refs) - self.private < blocks:
            block, used = self.loose[0].popitem(last=False)
            del self.refs[block], self.pins[block]
            self.evicted += 1
            self.sink(block, used, 1)

    def open(self, path: Path, most: int) -> Held:
        """Hold what is there, and load what lies below as far as there is room."""
        tiers = self.found(path)[:most]
        blocks = ids(path)[: len(tiers)]
        hit = tiers.count(0)
        for block in blocks[:hit]:
            self.hold(block)
        count = int(min(len(tiers) - hit, self.room))
        claimed, loaded = blocks[hit : hit + count], tiers[hit : hit + count]
        for block, tier in zip(claimed, loaded, strict=True):
            del self.loose[tier][block]
        self.make_room(count)
        for block in claimed:
            self.hold(block)
        return Held(blocks[: hit + count], hit, tuple(loaded.count(tier + 1) for tier in range(len(self.sizes))))

    def grow(self, lease: Held, blocks: int) -> bool:
        """Give a lease private blocks, if they can be had."""
        if blocks > self.room:
            return False
        self.make_room(blocks)
        lease.private += blocks
        self.private += blocks
        return True

    def commit(self, lease: Held, path: Path) -> None:
        """Share the leading private blocks one by one."""
        for block in ids(path)[len(lease.shared) :]:
            lease.private -= 1
            self.private -= 1
            self.hold(block)
            lease.shared.append(block)

    def close(self, lease: Held) -> None:
        """Let go of all blocks."""
        self.private -= lease.private
        for block in lease.shared:
            self.refs[block] -= 1
        self.let_go(lease.shared)

    def tail(self, path: Path, keep: int, *, device: bool) -> list[Any]:
        """Return the loose blocks of the path beyond `keep`, last first, up to the first with something behind it."""
        tiers, blocks = self.found(path), ids(path)
        result: list[Any] = []
        for depth in range((tiers.count(0) if device else len(tiers)) - 1, keep - 1, -1):
            block = blocks[depth]
            behind = [other for other in self.everything(device) if other not in result and follows(other, block)]
            if self.refs.get(block) or self.pins.get(block) or behind:
                break
            result.append(block)
        return result

    def everything(self, device: bool) -> list[Any]:
        """Return all blocks on the device, or anywhere."""
        lower = [] if device else [block for order in self.loose[1:] for block in order]
        return [*self.refs, *lower]

    def drop(self, path: Path, keep: int) -> None:
        """Forget the tail of a path."""
        for block in self.tail(path, keep, device=False):
            for order in self.loose:
                order.pop(block, None)
            self.refs.pop(block, None)
            self.pins.pop(block, None)
            self.dropped += 1

    def demote(self, path: Path, keep: int) -> int:
        """Sink the tail of a path on the device."""
        blocks = self.tail(path, keep, device=True) if self.sizes else []
        for block in blocks:
            del self.refs[block], self.pins[block]
            self.sink(block, self.loose[0].pop(block), 1)
        return len(blocks)

    def pin(self, path: Path, until: float) -> None:
        """Hold the leading blocks on the device."""
        blocks = ids(path)[: self.found(path).count(0)] if until > self.now else []
        for block in blocks:
            self.pins[block] += 1
            self.loose[0].pop(block, None)
        self.unpin(path)
        if blocks:
            self.pinned_paths[path] = (until, blocks)

    def unpin(self, path: Path) -> None:
        """End the pin of a path."""
        _, blocks = self.pinned_paths.pop(path, (0.0, []))
        for block in blocks:
            self.pins[block] -= 1
        self.let_go(blocks)


def follows(other: Any, block: Any) -> bool:
    """Whether `other` comes right behind `block` in some sequence."""
    (before, key, place), (mine, name, at) = other, block
    if place:
        return bool((before, key, place - 1) == block)
    return bool(before == (*mine, (name, at + 1)))


KEYS = st.sampled_from("ab")
PATHS = st.lists(st.tuples(KEYS, st.integers(1, 5)), min_size=1, max_size=3).map(tuple)
OPS = st.tuples(
    st.sampled_from(["put"] * 3 + ["close"] * 3 + ["open", "grow", "commit", "drop", "pin", "unpin", "demote"]),
    st.sampled_from([0, 0, 1, 1, 2, 5]),  # seconds since the operation before
    PATHS,
    st.integers(0, 14),
    st.integers(0, 5),
)
SIZES = st.one_of(st.integers(2, 24), st.just(math.inf))
LOWER = st.lists(st.integers(0, 9), max_size=2)


class Both:
    """The cache and the reference, to which every operation is given alike."""

    def __init__(self, blocks: float, ttl: int | None, tiers: list[int]) -> None:
        self.kv = KvCache(blocks, ttl=ttl, tiers=[Tier(f"tier {size}", size) for size in tiers])
        self.plain = Blocks(blocks, ttl, tiers)
        self.leases: list[tuple[Lease, Held, Path]] = []
        self.pins: list[Path] = []

    def step(self, op: tuple[str, int, Path, int, int]) -> None:
        """Do one operation on both, and compare all that can be seen."""
        name, passed, path, number, other = op
        now = self.plain.now + passed
        self.plain.to(now)
        if name == "open":
            self.open(path, now, number + other)
        elif name in {"drop", "demote"}:
            got = getattr(self.kv, name)(path, other, now)
            assert got == getattr(self.plain, name)(path, other)
        elif name == "pin":
            self.kv.pin(path, now + number, now)
            self.plain.pin(path, now + number)
            self.pins.append(path)
        elif name == "unpin" and self.pins:
            path = self.pins[number % len(self.pins)]
            self.kv.unpin(path, now)
            self.plain.unpin(path)
        elif name == "put":
            self.open(path, now, number)
            self.fill(path, now)
        elif self.leases:
            self.use(name, path, now, number, other)
        self.compare(path, now)

    def open(self, path: Path, now: int, most: int) -> None:
        """Open a lease on both, which must find the same."""
        lease, held = self.kv.open(path, now, most), self.plain.open(path, most)
        assert (lease.hit, lease.loaded) == (held.hit, held.loaded)
        self.leases.append((lease, held, path))

    def fill(self, path: Path, now: int) -> None:
        """Let the lease opened last compute what it did not find, and commit all."""
        lease, held, _ = self.leases[-1]
        rest = len(ids(path)) - lease.shared
        got = self.kv.grow(lease, rest, now)
        assert got == self.plain.grow(held, rest)
        if got:
            self.kv.commit(lease, path, now)
            self.plain.commit(held, path)

    def use(self, name: str, path: Path, now: int, number: int, other: int) -> None:
        """Grow, commit or close one of the open leases; a commit goes on where the path of the lease ended."""
        index = other % len(self.leases)
        lease, held, known = self.leases[index]
        if name == "grow":
            assert self.kv.grow(lease, number, now) == self.plain.grow(held, number)
        elif name == "commit":
            content = cut(known + path, min(len(held.shared) + number, lease.shared + lease.private))
            self.kv.commit(lease, content, now)
            self.plain.commit(held, content)
            if lease.shared > len(ids(known)):
                self.leases[index] = (lease, held, content)
        else:
            self.kv.close(lease, now)
            self.plain.close(held)
            del self.leases[index]

    def compare(self, path: Path, now: int) -> None:
        """Compare all that can be seen, and the order of use."""
        kv, plain = self.kv, self.plain
        assert kv.room(now) == plain.room
        assert (kv.used, kv.cached, kv.pinned) == (plain.used, plain.cached, plain.pinned)
        assert (kv.evicted, kv.expired, kv.dropped) == (plain.evicted, plain.expired, plain.dropped)
        assert kv.held[1:] == [len(order) for order in plain.loose[1:]]
        tiers = plain.found(path)
        assert kv.matches(path, now) == tuple(tiers.count(tier) for tier in range(len(plain.loose)))
        assert tiers == sorted(tiers)
        assert kv.next_release == min((until for until, _ in plain.pinned_paths.values()), default=math.inf)
        kv.check([lease for lease, _, _ in self.leases])
        # Every block in its place: the tree, spelt out, is in the reference, and in the same order of use.
        spelt = [[block for node in order for block in reversed(spell(node))] for order in kv._orders]
        assert spelt == [[chain(block) for block in order] for order in plain.loose]


def chain(block: Any) -> list[Any]:
    """Return a block of the reference as the keys and places of all blocks from the start of its sequence."""
    before, key, place = block
    return [*((name, at) for name, length in before for at in range(length)), *((key, at) for at in range(place + 1))]


def spell(node: Any) -> list[Any]:
    """Return the blocks of a node of the tree, each as `chain` gives it."""
    runs = []
    while node.parent is not None:
        runs.append((node.key, node.length))
        node = node.parent
    blocks: list[Any] = []
    for key, length in reversed(runs):
        goes_on = not isinstance(key, str)
        name, start = (blocks[-1][0], blocks[-1][1] + 1) if goes_on else (key, 0)
        blocks += [(name, start + at) for at in range(length)]
    return [blocks[: len(blocks) - left] for left in range(runs[0][1] - 1, -1, -1)]


@settings(max_examples=400)
@given(SIZES, st.sampled_from([None, None, 1, 4, 9]), LOWER, st.lists(OPS, min_size=10, max_size=45))
def test_runs_of_blocks_behave_as_single_blocks(
    blocks: float, ttl: int | None, tiers: list[int], program: list[tuple[str, int, Path, int, int]]
) -> None:
    """After every operation of any program, hits, room, evictions and the order of use are those of single blocks."""
    both = Both(blocks, ttl, tiers)
    for op in program:
        both.step(op)
    totals = both.kv.totals(both.plain.now)
    assert [totals.used_seconds, totals.cached_seconds, totals.pinned_seconds] == both.plain.seconds


def put(kv: KvCache, path: Path, now: float) -> Lease:
    """Let one request find what it can of `path`, and fill the rest; it stays open."""
    blocks = len(ids(path))
    lease = kv.open(path, now, blocks)
    assert kv.grow(lease, blocks - lease.shared, now)
    kv.commit(lease, path, now)
    return lease


def cached(kv: KvCache, path: Path, now: float) -> None:
    """Leave `path` in the cache, held by nobody."""
    kv.close(put(kv, path, now), now)


def test_a_tail_is_evicted_before_its_head() -> None:
    """Two sequences share a prompt: room for five comes from the end of the older, and the prompt is the last to go."""
    kv = KvCache(32)
    cached(kv, (SYSTEM, ("old", 10)), 0.0)
    cached(kv, (SYSTEM, ("new", 10)), 1.0)
    lease = kv.open((), 2.0, 0)
    assert kv.grow(lease, 5, 2.0)
    assert kv.match((SYSTEM, ("old", 10)), 2.0) == 17
    assert kv.match((SYSTEM, ("new", 10)), 2.0) == 22
    assert kv.grow(lease, 18, 2.0)
    assert kv.match((SYSTEM, ("new", 10)), 2.0) == 9
    kv.check([lease])


def test_what_one_commits_another_extends() -> None:
    """A request goes on behind what a running one has committed; closed first, the running one still holds its own."""
    kv = KvCache(40)
    first = put(kv, (SYSTEM,), 0.0)
    longer = put(kv, (SYSTEM, ("a", 8)), 0.0)
    assert (longer.hit, kv.used) == (12, 20)
    kv.close(longer, 1.0)
    assert (kv.used, kv.cached) == (12, 8)
    kv.commit(first, (SYSTEM,), 1.0)
    kv.close(first, 2.0)
    assert kv.match((SYSTEM, ("a", 8)), 2.0) == 20
    kv.check([])


def test_two_that_computed_the_same_keep_one_copy() -> None:
    """Both miss, both fill twelve blocks; the second to commit gives its copy back, and shares the other."""
    kv = KvCache(40)
    leases = [kv.open((SYSTEM,), 0.0, 12) for _ in range(2)]
    assert all(kv.grow(lease, 12, 0.0) for lease in leases)
    assert kv.used == 24
    for lease in leases:
        kv.commit(lease, (SYSTEM,), 1.0)
    assert (kv.used, kv.free) == (12, 28)
    kv.close(leases[0], 1.0)
    assert (kv.used, kv.cached) == (12, 0)
    kv.check(leases)


def test_a_split_is_held_on_both_sides() -> None:
    """Sequences that part inside what two requests and a pin hold leave every block held until all have let go."""
    kv = KvCache(30)
    both = [put(kv, (("a", 12),), 0.0), put(kv, (("a", 12),), 0.0)]
    kv.pin((("a", 12),), 50.0, 0.0)
    short = put(kv, (("a", 5), ("b", 3)), 1.0)
    kv.check([*both, short])
    for lease in (*both, short):
        kv.close(lease, 2.0)
    assert (kv.used, kv.cached, kv.pinned) == (0, 15, 12)
    assert kv.room(3.0) == 18
    assert kv.room(50.0) == 30
    kv.check([])


def test_a_drop_leaves_what_others_need() -> None:
    """Of two branches, the dropped one goes down to the fork; once the other has gone, the rest can be dropped too."""
    kv = KvCache(60)
    a, b = (SYSTEM, ("task", 10), ("a", 5)), (SYSTEM, ("task", 10), ("b", 5))
    cached(kv, a, 0.0)
    cached(kv, b, 0.0)
    kv.drop(a, 12, 1.0)
    assert (kv.match(a, 1.0), kv.match(b, 1.0), kv.dropped) == (22, 27, 5)
    kv.drop(b, 12, 1.0)
    assert (kv.match(b, 1.0), kv.dropped, kv.cached) == (12, 20, 12)
    kv.check([])


def test_a_drop_spares_the_running_and_the_pinned() -> None:
    """Blocks that a lease or a pin holds survive their drop."""
    kv = KvCache(60)
    path = (SYSTEM, ("task", 10))
    lease = put(kv, path, 0.0)
    kv.drop(path, 0, 0.0)
    kv.close(lease, 0.0)
    kv.pin(path, 5.0, 0.0)
    kv.drop(path, 0, 1.0)
    assert kv.match(path, 1.0) == 22
    kv.unpin(path, 1.0)
    kv.drop(path, 0, 1.0)
    assert kv.match(path, 1.0) == 0


def test_a_pin_keeps_from_eviction_until_it_ends() -> None:
    """Pinned blocks are no room; a renewed pin ends at its new time, and then they are the most recently used."""
    kv = KvCache(20)
    kv.pin((SYSTEM,), 9.0, 0.0)
    assert kv.next_release == math.inf
    cached(kv, (SYSTEM,), 0.0)
    kv.pin((SYSTEM,), 4.0, 0.0)
    kv.pin((SYSTEM,), 7.0, 1.0)
    assert kv.next_release == 7.0
    assert kv.room(5.0) == 8
    assert not kv.grow(kv.open((), 5.0, 0), 9, 5.0)
    assert kv.room(7.0) == 20
    assert kv.next_release == math.inf
    assert kv.totals(10.0).pinned_seconds == 12 * 7.0


def test_what_is_not_used_in_time_expires() -> None:
    """A use renews the time to live of the blocks it uses, and of no others; what is held does not age."""
    kv = KvCache(100, ttl=10.0)
    cached(kv, (SYSTEM, ("a", 8)), 0.0)
    cached(kv, (SYSTEM,), 6.0)
    assert kv.match((SYSTEM, ("a", 8)), 9.0) == 20
    assert kv.match((SYSTEM, ("a", 8)), 10.0) == 12
    lease = kv.open((SYSTEM,), 15.0, 12)
    kv.close(lease, 40.0)
    assert kv.match((SYSTEM,), 49.0) == 12
    assert kv.match((SYSTEM,), 50.0) == 0
    totals = kv.totals(90.0)
    assert totals.cached_seconds == 8 * 10.0 + 12 * (15.0 + 10.0)
    assert totals.used_seconds == 12 * 25.0
    assert kv.expired == 20


def test_evicted_blocks_sink_and_come_back() -> None:
    """A sequence pushed out lies with its head on the device, then in the host's memory, then remote, and is loaded."""
    kv = KvCache(20, tiers=[Tier("host", 6), Tier("remote", 3)])
    path = (("a", 20),)
    cached(kv, path, 0.0)
    lease = kv.open((), 1.0, 0)
    assert kv.grow(lease, 10, 1.0)
    assert kv.matches(path, 1.0) == (10, 6, 3)
    kv.close(lease, 1.0)
    back = kv.open(path, 2.0, 18)
    assert (back.hit, back.loaded) == (10, (6, 2))
    assert kv.matches(path, 2.0) == (18, 0, 1)
    assert kv.found == [10, 6, 2]
    kv.check([back])


def test_loading_takes_no_more_than_there_is_room_for() -> None:
    """While others hold the device, only part of what lies below comes up, and what is evicted for it does not undo it."""
    kv = KvCache(20, tiers=[Tier("host", 10)])
    path = (("a", 10),)
    cached(kv, path, 0.0)
    assert kv.demote(path, 0, 0.0) == 10
    cached(kv, (("b", 6),), 1.0)
    busy = kv.open((), 2.0, 0)
    assert kv.grow(busy, 13, 2.0)
    lease = kv.open(path, 3.0, 10)
    assert (lease.hit, lease.loaded, lease.shared) == (0, (7,), 7)
    assert kv.matches(path, 3.0) == (7, 3)
    assert kv.matches((("b", 6),), 3.0) == (0, 6)
    kv.check([busy, lease])


def test_what_came_back_expires_after_what_follows_it() -> None:
    """Loaded, let go and evicted within one second, the head of a sequence still outlives its tail in the tier below."""
    kv = KvCache(8, ttl=4.0, tiers=[Tier("host", 20)])
    cached(kv, (("a", 8),), 0.0)
    for _ in range(2):
        lease = kv.open((("a", 2),), 0.0, 2)
        kv.close(lease, 0.0)
        assert kv.demote((("a", 8),), 0, 0.0) + kv.demote((("a", 2),), 0, 0.0) in {2, 8}
        kv.check([])
    assert kv.matches((("a", 8),), 3.0) == (0, 8)
    assert kv.matches((("a", 8),), 4.0) == (0, 0)
    assert kv.expired == 8


def test_a_copy_below_gives_way_to_a_new_one() -> None:
    """What a request computed, though it lay in the host's memory, is on the device once committed, and only there."""
    kv = KvCache(20, tiers=[Tier("host", 20)])
    cached(kv, (("a", 8),), 0.0)
    assert kv.demote((("a", 8),), 0, 0.0) == 8
    lease = kv.open((("a", 8),), 1.0, 0)
    assert kv.grow(lease, 8, 1.0)
    kv.commit(lease, (("a", 8),), 1.0)
    assert (kv.matches((("a", 8),), 1.0), kv.held[1], kv.used) == ((8, 0), 0, 8)
    kv.check([lease])


def test_demoting_keeps_the_beginning_on_the_device() -> None:
    """A swap moves a task's own blocks, not the prompt that it shares, and not what a running request holds."""
    kv = KvCache(100, tiers=[Tier("host", 50)])
    path = (SYSTEM, ("task", 20))
    lease = put(kv, path, 0.0)
    assert kv.demote(path, 12, 0.0) == 0
    kv.close(lease, 1.0)
    assert kv.demote(path, 12, 1.0) == 20
    assert kv.matches(path, 1.0) == (12, 20)
    assert (kv.evicted, kv.free) == (0, 88)
    assert KvCache(100).demote(path, 0, 0.0) == 0


def test_memory_without_end_never_evicts() -> None:
    """With infinite capacity there is always room, and a prompt of a million blocks is one run."""
    kv = KvCache(math.inf)
    cached(kv, (("a", 1_000_000),), 0.0)
    cached(kv, (("a", 999_999), ("b", 1)), 1.0)
    assert kv.match((("a", 1_000_000),), 2.0) == 1_000_000
    assert (kv.room(2.0), kv.evicted, kv.cached) == (math.inf, 0, 1_000_001)
    assert sum(1 for _ in kv._orders[0]) == 3


def test_without_a_prefix_cache_blocks_live_as_long_as_their_lease() -> None:
    """Nothing is found and nothing stays, but the lookups are counted."""
    kv = KvCache(50, prefix=False)
    for now in (0.0, 1.0):
        lease = put(kv, (SYSTEM,), now)
        assert (lease.hit, kv.used) == (0, 12)
        kv.close(lease, now)
    assert (kv.free, kv.lookups, kv.asked, kv.found) == (50, 2, 24, [0])


def test_a_growing_session_stays_one_run() -> None:
    """A hundred turns that each lengthen the task's segment leave two runs, not a hundred."""
    kv = KvCache(2000)
    for turn in range(1, 101):
        cached(kv, (SYSTEM, ("task", 7 * turn)), float(turn))
    assert kv.found[0] == kv.asked - kv.cached
    assert sum(1 for _ in kv._orders[0]) == 2


@pytest.mark.parametrize(
    ("path", "message"),
    [((SYSTEM, ("a", 9)), "cannot hold"), ((("other", 20),), "does not continue"), ((("system", 20),), "does not con")],
)
def test_a_commit_must_fit_its_lease(path: Path, message: str) -> None:
    """Content that is longer than the lease, or other than it shares, is refused."""
    kv = KvCache(50)
    lease = put(kv, (SYSTEM, ("a", 4)), 0.0)
    assert kv.grow(lease, 4, 0.0)
    with pytest.raises(ValueError, match=message):
        kv.commit(lease, path, 0.0)
    kv.check([lease])


def test_mistakes_of_the_caller_are_errors() -> None:
    """Time that runs backwards and a lease closed twice are refused."""
    kv = KvCache(50)
    lease = put(kv, (SYSTEM,), 5.0)
    with pytest.raises(ValueError, match="time must not decrease"):
        kv.match((SYSTEM,), 4.0)
    kv.close(lease, 5.0)
    with pytest.raises(ValueError, match="closed already"):
        kv.close(lease, 5.0)
