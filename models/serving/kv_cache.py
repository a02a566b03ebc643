"""The KV memory of one replica of a language model's server: paged, with a prefix cache by content.

Blocks are private to a request while it fills them, and shared by content once committed. What nobody refers to stays
cached until its room is needed (least recently used first, a sequence's tail before its head, block by block), until it
has not been used for `ttl` seconds, or is dropped. Evicted blocks sink to the next lower tier (host, remote), if there is
one, and come back when a request asks for them. A call costs the nodes of its path, whatever their number of blocks.

Leaves out: partly filled blocks (the caller rounds down); the time of a transfer between tiers (the caller adds it, for
the blocks that `Lease.loaded` and `demote` give); copies left behind in a lower tier by what came back from it.
Checked: tests/test_kv_cache.py, against a cache that keeps every block on its own; tests/test_prefix_traces.py, on traces.
Source: Kwon et al., SOSP 2023 (paged KV memory); the automatic prefix caching of vLLM (blocks freed in reverse order).
"""

import math
import sys
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

from .prefix_tree import MORE, Lease, Node, Path, Pin, Recency, Tier, Totals, behind, let_go, split, tally, verify, walk

__all__ = ["KvCache", "Lease", "Path", "Tier", "Totals"]


class KvCache:
    """The blocks of a device's KV memory, `blocks` in number (may be infinite), and those in the tiers below it.

    Times `now` are in seconds and never decrease. Without `prefix`, blocks live as long as their lease. Every block on
    the device is free, `used` (a lease refers to it), or `cached`; of the cached, those `pinned` may not be evicted.

    Counted so far, in blocks: `asked` in `lookups`, `found` per tier, `evicted` from the device for want of room,
    `expired`, and `dropped`.
    """

    def __init__(
        self, blocks: float, *, prefix: bool = True, ttl: float | None = None, tiers: Sequence[Tier] = ()
    ) -> None:
        self.blocks = blocks
        self.prefix = prefix
        self.ttl = math.inf if ttl is None else ttl
        self.tiers = tuple(tiers)
        self.used = self.cached = self.pinned = 0
        self.lookups = self.asked = self.evicted = self.expired = self.dropped = 0
        self.found = [0] * (1 + len(tiers))
        self.held = [0] * (1 + len(tiers))  # Blocks in each lower tier; the first is the device, counted above.
        self._root = Node(None, None, 0)
        self._orders = [Recency() for _ in self.held]
        self._pins: dict[Path, Pin] = {}
        self._ends: list[tuple[float, int, Path]] = []  # When pins end; those renewed or removed since are passed over.
        # When what is in lower tiers was used last, if that can expire.
        self._lower: list[tuple[float, int, Node]] = []
        self._entries = 0
        self._now = -math.inf
        self.used_seconds = self.cached_seconds = self._pinned_seconds = 0.0

    @property
    def free(self) -> float:
        """Blocks of the device that hold nothing."""
        return self.blocks - self.used - self.cached

    @property
    def clock(self) -> float:
        """The time it was asked last (s)."""
        return self._now

    @property
    def next_release(self) -> float:
        """When the earliest pin ends, s; infinity if there is none."""
        ends, pins = self._ends, self._pins
        while ends:
            pin = pins.get(ends[0][2])
            if pin is not None and pin.until == ends[0][0]:
                return pin.until
            heappop(ends)
        return math.inf

    def room(self, now: float) -> float:
        """Return how many blocks can be had: the free, and those that may be evicted."""
        if self._ends or self.ttl < math.inf:
            self._advance(now)
        return self.blocks - self.used - self.pinned

    def totals(self, now: float) -> Totals:
        """Return the block-seconds until `now`."""
        self._advance(now)
        return Totals(self.used_seconds, self.cached_seconds, self._pinned_seconds)

    def match(self, path: Path, now: float) -> int:
        """Return how many leading blocks of `path` are on the device; this is no use of them."""
        return self.matches(path, now)[0]

    def matches(self, path: Path, now: float) -> tuple[int, ...]:
        """Return how many leading blocks of `path` are on the device, then in each lower tier."""
        self._advance(now)
        found = [0] * len(self.held)
        nodes, last = walk(self._root, path, sys.maxsize)
        for node in nodes:
            found[node.tier] += node.length
        if nodes:
            found[nodes[-1].tier] += last - nodes[-1].length
        return tuple(found)

    def open(self, path: Path, now: float, most: int) -> Lease:
        """Refer to the first `most` blocks of `path`, as far as they are there; those in lower tiers move to the device.

        What has no room on the device stays where it is, and is not part of the lease.
        """
        if now != self._now:
            self._advance(now)
        if path:
            self.lookups += 1
            self.asked += sum([blocks for _, blocks in path])
        nodes, last = walk(self._root, path, most)
        if nodes and last < nodes[-1].length:
            nodes[-1] = self._split(nodes[-1], last)
        tail, hit, below = self._root, 0, None
        for index, node in enumerate(nodes):
            if node.tier:
                below = nodes[index:]
                break
            self._refer(node)
            hit += node.length
            tail = node
        self.found[0] += hit
        if below is None:
            return Lease(tail, hit, (0,) * len(self.tiers))
        tail, loaded = self._load(tail, below)
        return Lease(tail, hit, loaded)

    def grow(self, lease: Lease, blocks: int, now: float) -> bool:
        """Give `lease` that many private blocks; false, and nothing changes, if they cannot be had."""
        if now != self._now:
            self._advance(now)
        used = self.used + blocks
        if used + self.pinned > self.blocks:
            return False
        if used + self.cached > self.blocks:
            self._make_room(blocks)
        self.used = used
        lease.private += blocks
        return True

    def commit(self, lease: Lease, path: Path, now: float) -> None:
        """Share the leading blocks of `lease`, which now hold `path`; private copies of what is there already are freed.

        Raises ValueError if the lease holds fewer blocks, or the path does not continue what it shares.
        """
        if now != self._now:
            self._advance(now)
        blocks = sum([count for _, count in path])
        if not self.prefix or blocks <= lease.shared:
            return
        if blocks > lease.shared + lease.private:
            raise ValueError(f"a lease of {lease.shared + lease.private} blocks cannot hold a path of {blocks}")
        node, key, left, rest = behind(self._root, lease, path)
        if key is MORE and left and not rest and node.refs == 1 and not node.pins and not node.children:
            node.length += left  # nobody else has it: it grows
            lease.private -= left
            lease.shared = blocks
            return
        while True:
            while left > 0:
                child = node.children.get(key)
                if child is None:
                    child = node.children[key] = Node(key, node, left)
                    child.refs = 1
                else:
                    if child.length > left:
                        child = self._split(child, left)
                    self._adopt(child)
                left -= child.length
                node, key = child, MORE
            if not rest:
                break
            (key, left), rest = rest[0], rest[1:]
        lease.private -= blocks - lease.shared
        lease.shared, lease.tail = blocks, node

    def close(self, lease: Lease, now: float) -> None:
        """End `lease`: its private blocks are free, and what nobody else refers to is cached, used most recently now.

        Raises ValueError if it is closed already.
        """
        if now != self._now:
            self._advance(now)
        node = lease.tail
        if node is None:
            raise ValueError("the lease is closed already")
        lease.tail = None
        self.used -= lease.private
        lower: Node | None = None
        while node.parent is not None:
            parent = node.parent
            node.refs -= 1
            if not node.refs:
                self.used -= node.length
                self.cached += node.length
                if node.pins:
                    self.pinned += node.length
                else:
                    lower = let_go(node, lower, self._orders[0], now)
            node = parent

    def drop(self, path: Path, keep: int, now: float) -> None:
        """Free the cached blocks of `path` beyond its first `keep`, in every tier.

        Kept are those that a lease or a pin holds, or that come before blocks of another sequence.
        """
        self._advance(now)
        nodes, last = walk(self._root, path, sys.maxsize)
        depth = sum(node.length for node in nodes)
        if not nodes or last < nodes[-1].length:
            return
        for node in reversed(nodes):
            if depth <= keep or node.refs or node.pins or node.children:
                return
            depth -= node.length
            if depth < keep:
                self._split(node, keep - depth)
            node.unlink()
            self._leave(node)
            self.dropped += node.length
            node.remove()

    def demote(self, path: Path, keep: int, now: float) -> int:
        """Move the cached blocks of `path` on the device, beyond its first `keep`, to the next tier; return how many.

        Kept are those that a lease or a pin holds, or that come before others on the device. No tier, no move.
        """
        self._advance(now)
        nodes, last = walk(self._root, path, sys.maxsize)
        if not self.tiers or not nodes or (last < nodes[-1].length and not nodes[-1].tier):
            return 0
        nodes = [node for node in nodes if not node.tier]
        depth, moved = sum(node.length for node in nodes), 0
        for node in reversed(nodes):
            if depth <= keep or node.refs or node.pins or any(not child.tier for child in node.children.values()):
                break
            depth -= node.length
            if depth < keep:
                self._split(node, keep - depth)
            moved += node.length
            self._sink(node)
        return moved

    def pin(self, path: Path, until: float, now: float) -> None:
        """Keep the leading blocks of `path` that are on the device from eviction, until then, or until unpinned.

        A second pin of a path renews the first. When a pin ends, what it held counts as used at that moment.
        """
        self._advance(now)
        nodes, last = walk(self._root, path, sys.maxsize)
        tail = self._root
        for node in nodes if until > now else ():
            if node.tier:
                break
            tail = node if node is not nodes[-1] or last == node.length else self._split(node, last)
            if not tail.pins and not tail.refs:
                tail.unlink()
                self.pinned += tail.length
            tail.pins += 1
        self.unpin(path, now)
        if tail is not self._root:
            self._pins[path] = Pin(until, tail)
            self._entries += 1
            heappush(self._ends, (until, self._entries, path))

    def unpin(self, path: Path, now: float) -> None:
        """End the pin of exactly this path, if there is one."""
        self._advance(now)
        pin = self._pins.pop(path, None)
        if pin is not None:
            self._release(pin, now)

    def check(self, leases: Iterable[Lease] | None = None) -> None:
        """Raise AssertionError if blocks are lost or counted twice, or the order of use contradicts the tree.

        With all open `leases` given, their private blocks and their references are counted again too.
        """
        used, pinned, loose = verify(self._root, self._orders, [pin.tail for pin in self._pins.values()])
        assert pinned == self.pinned
        assert [loose[0] + pinned, *loose[1:]] == [self.cached, *self.held[1:]]
        assert all(held <= tier.blocks for held, tier in zip(loose[1:], self.tiers, strict=True))
        assert used <= self.used <= self.blocks - self.cached
        if leases is not None:
            assert (used, self.used - used) == tally(leases)

    def _advance(self, now: float) -> None:
        """Bring integrals, pins and expiry up to `now`."""
        passed = now - self._now
        if passed < 0:
            raise ValueError(f"time must not decrease, but got {now} s after {self._now} s")
        if 0 < passed < math.inf:
            self.used_seconds += self.used * passed
            self.cached_seconds += self.cached * passed
            self._pinned_seconds += self.pinned * passed
        self._now = now
        if self._ends:
            self._end_pins(now)
        if self.ttl < math.inf:
            self._expire(now)

    def _end_pins(self, now: float) -> None:
        """Release the pins that have ended, each at its own end."""
        ends = self._ends
        while self.next_release <= now:
            until, _, path = heappop(ends)
            before = self.pinned
            self._release(self._pins.pop(path), until)
            self._pinned_seconds -= (before - self.pinned) * (now - until)

    def _expire(self, now: float) -> None:
        """Remove what has not been used for the time to live: first below, for there it is a sequence's older end."""
        lower, ttl = self._lower, self.ttl
        while lower and lower[0][0] + ttl <= now:
            _, entry, node = heappop(lower)
            if node.tier <= 0 or node.entry != entry:
                continue  # It was loaded since.
            if node.children:
                self._await(node)  # They are as old, and go first.
                continue
            node.unlink()
            self._leave(node)
            self.expired += node.length
            node.remove()
        while (oldest := self._orders[0].oldest) is not None and oldest.used + ttl <= now:
            oldest.unlink()
            self._leave(oldest)
            self.expired += oldest.length
            self.cached_seconds -= oldest.length * (now - oldest.used - ttl)
            oldest.remove()

    def _refer(self, node: Node) -> None:
        """Count a lease's reference to a node on the device."""
        if not node.refs:
            self.cached -= node.length
            self.used += node.length
            if node.pins:
                self.pinned -= node.length
            else:
                node.unlink()
        node.refs += 1

    def _adopt(self, node: Node) -> None:
        """Refer to a node of which the lease holds a private copy: one of the two goes, that in the lower tier if it is there."""
        if node.tier:
            node.unlink()
            self.held[node.tier] -= node.length
            node.tier, node.refs = 0, 1
        else:
            self._refer(node)
            self.used -= node.length

    def _load(self, tail: Node, nodes: list[Node]) -> tuple[Node, tuple[int, ...]]:
        """Move `nodes`, which follow `tail` in lower tiers, to the device as far as there is room, and refer to them."""
        room = self.blocks - self.used - self.pinned
        loaded = [0] * len(self.tiers)
        claimed = []
        for found in nodes:
            if room < 1:
                break
            node = found if found.length <= room else self._split(found, int(room))
            # Out of its tier before anything is evicted into it, so that it cannot be pushed out itself.
            node.unlink()
            self.held[node.tier] -= node.length
            loaded[node.tier - 1] += node.length
            room -= node.length
            claimed.append(node)
        blocks = sum(loaded)
        for node in claimed:
            node.tier, node.refs = 0, 1
        self._make_room(blocks)
        self.used += blocks
        for tier, count in enumerate(loaded):
            self.found[tier + 1] += count
        return claimed[-1] if claimed else tail, tuple(loaded)

    def _make_room(self, blocks: int) -> None:
        """Evict the least recently used until so many blocks are free."""
        need = blocks - (self.blocks - self.used - self.cached)
        while need > 0:
            node = self._orders[0].oldest
            assert node is not None
            if not self.tiers and node.length > need:  # nothing depends on its tail, which is gone for good
                node.length -= int(need)
                self.cached -= int(need)
                self.evicted += int(need)
                return
            if node.length > need:
                self._split(node, node.length - int(need))
            self.evicted += node.length
            need -= node.length
            self._sink(node)

    def _sink(self, node: Node) -> None:
        """Move a node to the next tier, tail first; what that pushes out sinks further, and out of the last it is gone."""
        node.unlink()
        self._leave(node)
        tier = node.tier + 1
        if tier == len(self.held):
            node.remove()
            return
        size, order = self.tiers[tier - 1].blocks, self._orders[tier]
        if not node.tier and self.ttl < math.inf:
            self._await(node)
        excess = self.held[tier] + node.length - size
        while excess > 0 and (oldest := order.oldest) is not None:
            if oldest.length > excess:
                self._split(oldest, oldest.length - int(excess))
            excess -= oldest.length
            self._sink(oldest)
        # It enters the tier whole, and what of it is too much for the tier as such leaves it again.
        node.tier = tier
        self.held[tier] += node.length
        order.append(node)
        if excess > 0:
            if excess < node.length:
                self._split(node, node.length - int(excess))
            self._sink(node)

    def _split(self, node: Node, length: int) -> Node:
        """Cut a node, and see that both parts can expire."""
        upper = split(node, length)
        if upper.tier and self.ttl < math.inf:
            self._await(upper)
        return upper

    def _await(self, node: Node) -> None:
        """Note when a node of a lower tier was used last; there the order is by arrival, not by use."""
        self._entries += 1
        node.entry = self._entries
        heappush(self._lower, (node.used, node.entry, node))

    def _leave(self, node: Node) -> None:
        """Count the unheld blocks of a node out of its tier."""
        if node.tier:
            self.held[node.tier] -= node.length
        else:
            self.cached -= node.length

    def _release(self, pin: Pin, now: float) -> None:
        """Take a pin off its nodes; those nobody else holds become evictable, used most recently now."""
        node = pin.tail
        lower: Node | None = None
        while node.parent is not None:
            parent = node.parent
            node.pins -= 1
            if not node.refs and not node.pins:
                self.pinned -= node.length
                lower = let_go(node, lower, self._orders[0], now)
            node = parent
