"""The tree of cached contents: which leading blocks sequences share, and in which order they were last used.

A sequence is a path of segments, each (key, blocks). Two sequences share the leading blocks of their first segments if
the keys agree, and those of the next only if all before is equal in full. A node is a run of blocks of one segment, not a
block: walking a path costs its segments, however long they are. Where a sequence ends or turns off inside a node, the
node is split, so that each run is used, kept and evicted as one.

Leaves out: what a run costs and who holds it; `kv_cache` counts that.
Checked: tests/test_kv_cache.py, against a cache that keeps every block on its own.
Source: Zheng et al., SGLang, NeurIPS 2024 (radix tree over token sequences).
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "Lease",
    "Node",
    "Path",
    "Pin",
    "Recency",
    "Tier",
    "Totals",
    "behind",
    "let_go",
    "split",
    "tally",
    "unheld",
    "verify",
    "walk",
]

Path: TypeAlias = tuple[tuple[Hashable, int], ...]

MORE: Hashable = (
    object()
)  # The key of a child that continues the segment of its parent, unlike a new segment with the same key.


class Node:
    """A run of `length` blocks of one segment: its place in the tree, in the order of use, and who holds it.

    `refs` leases and `pins` pins hold it; `tier` is 0 on the device, higher below, -1 once it has left the tree. `used`
    (s) is when it was last let go, and `entry` the number under which a lower tier waits for it to expire.
    """

    __slots__ = ("key", "parent", "children", "length", "tier", "refs", "pins", "used", "entry", "older", "newer")

    def __init__(self, key: Hashable, parent: "Node | None", length: int) -> None:
        self.key = key
        self.parent = parent
        self.children: dict[Hashable, Node] = {}
        self.length = length
        self.tier = 0
        self.refs = 0
        self.pins = 0
        self.used = 0.0
        self.entry = 0
        self.older: Node = self
        self.newer: Node = self

    def remove(self) -> None:
        """Take a node without children out of the tree."""
        if self.children:
            raise AssertionError(f"{self.length} blocks leave the cache before what follows them")
        assert self.parent is not None
        del self.parent.children[self.key]
        self.tier = -1

    def unlink(self) -> None:
        """Take the node out of its order of use."""
        older, newer = self.older, self.newer
        older.newer, newer.older = newer, older


class Lease:
    """What one request holds: `shared` leading blocks by content, then `private` ones.

    `hit` and `loaded` say what its lookup found: blocks on the device, then in each lower tier.
    """

    __slots__ = ("tail", "shared", "private", "hit", "loaded")

    def __init__(self, tail: Node, hit: int, loaded: tuple[int, ...]) -> None:
        self.tail: Node | None = tail  # The last node of the shared blocks; none once closed.
        self.hit = hit
        self.loaded = loaded
        self.shared = hit + sum(loaded)
        self.private = 0


@dataclass(slots=True)
class Pin:
    """What holds one path until a time, s: the last node of it."""

    until: float
    tail: Node


@dataclass(frozen=True)
class Tier:
    """Memory below the device's, to which evicted blocks sink: its name, and its size in blocks."""

    name: str
    blocks: float


@dataclass(frozen=True)
class Totals:
    """Block-seconds on the device so far: in use, cached with nobody referring to it, and of the latter, pinned."""

    used_seconds: float
    cached_seconds: float
    pinned_seconds: float


class Recency:
    """Nodes from the least to the most recently used: a ring of links, in which any node can leave at once."""

    __slots__ = ("ends",)

    def __init__(self) -> None:
        self.ends = Node(None, None, 0)  # Its `newer` is the oldest of all; the ring's start and end in one.

    def __iter__(self) -> Iterator[Node]:
        node = self.ends.newer
        while node is not self.ends:
            yield node
            node = node.newer

    @property
    def oldest(self) -> Node | None:
        """The least recently used node; none if empty."""
        node = self.ends.newer
        return None if node is self.ends else node

    def append(self, node: Node) -> None:
        """Make `node` the most recently used."""
        insert(node, self.ends.older)


def insert(node: Node, older: Node) -> None:
    """Put `node` into the order of use, right behind `older`."""
    newer = older.newer
    node.older, node.newer = older, newer
    older.newer = newer.older = node


def walk(root: Node, path: Path, most: int) -> tuple[list[Node], int]:
    """Return the nodes that hold the first `most` blocks of `path`, and how many blocks of the last of them do."""
    nodes: list[Node] = []
    node, last = root, 0
    for segment, blocks in path:
        key, left = segment, blocks
        while left > 0:
            child = node.children.get(key)
            if child is None or most <= 0:
                return nodes, last
            nodes.append(child)
            last = min(child.length, left, most)
            if last < child.length:
                return nodes, last
            most -= last
            left -= last
            node, key = child, MORE
    return nodes, last


def behind(root: Node, lease: Lease, path: Path) -> tuple[Node, Hashable, int, Path]:
    """Return the last node that `lease` shares and what of `path` comes behind it: a key, its blocks, later segments.

    Raises ValueError if the path does not continue what the lease shares.
    """
    node, depth = root, 0
    for index, (segment, blocks) in enumerate(path):
        key, left = segment, blocks
        while left > 0 and depth < lease.shared:
            child = node.children.get(key)
            if child is None or child.length > left:
                raise ValueError("the path does not continue what the lease shares")
            node, key = child, MORE
            left -= child.length
            depth += child.length
        if depth == lease.shared:
            if node is not lease.tail:
                raise ValueError("the path does not continue what the lease shares")
            return node, key, left, path[index + 1 :]
    raise ValueError("the path is shorter than what the lease shares")


def split(node: Node, length: int) -> Node:
    """Cut `node` behind its first `length` blocks, and return that upper part; whoever holds `node` now holds both.

    The lower part stays the same object: whoever holds a sequence knows it by its last node. In the order of use the
    upper part comes next after it.
    """
    parent = node.parent
    assert parent is not None
    assert 0 < length < node.length
    upper = Node(node.key, parent, length)
    upper.tier, upper.refs, upper.pins, upper.used = node.tier, node.refs, node.pins, node.used
    upper.children[MORE] = node
    parent.children[node.key] = upper
    node.key, node.parent = MORE, upper
    node.length -= length
    if not (node.refs or node.pins):
        insert(upper, node)
    return upper


def merge(upper: Node, lower: Node) -> None:
    """Undo a split: `lower` takes the place of both. Nobody may hold `upper`, and it may stand in no order of use."""
    parent = upper.parent
    assert parent is not None
    lower.key, lower.parent = upper.key, parent
    lower.length += upper.length
    parent.children[upper.key] = lower
    upper.tier = -1


def let_go(node: Node, lower: Node | None, order: Recency, now: float) -> Node:
    """Make an unheld node the most recently used, and return it; one with `lower`, let go just before, if its rest."""
    if lower is not None and lower.parent is node and lower.key is MORE and len(node.children) == 1:
        merge(node, lower)
        return lower
    node.used = now
    order.append(node)
    return node


def unheld(root: Node) -> list[Node]:
    """Return the nodes that neither a lease nor a pin holds, each behind those that depend on it."""
    found, stack = [], list(root.children.values())
    while stack:
        node = stack.pop()
        stack += node.children.values()
        if not (node.refs or node.pins):
            found.append(node)
    return found[::-1]


def holds(tails: Iterable[Node]) -> Counter[Node]:
    """Return how many of the sequences that end at `tails` hold each node."""
    held: Counter[Node] = Counter()
    for tail in tails:
        node = tail
        while node.parent is not None:
            held[node] += 1
            node = node.parent
    return held


def verify(root: Node, orders: Sequence[Recency], pinned_tails: Iterable[Node]) -> tuple[int, int, list[int]]:
    """Return the blocks that leases refer to, those only pinned, and those that nobody holds, per tier.

    Raises AssertionError if an order of use misses a node or has it twice, has what depends on a node behind it, or if
    a node has other pins than those that end at `pinned_tails`, is held more often, or lies higher, than the one before it.
    """
    pins = holds(pinned_tails)
    place = {node: (tier, rank) for tier, order in enumerate(orders) for rank, node in enumerate(order)}
    listed = sum(1 for order in orders for _ in order)
    used = pinned = 0
    loose = [0] * len(orders)
    stack = list(root.children.values())
    while stack:
        node = stack.pop()
        below = list(node.children.values())
        stack += below
        assert node.length > 0
        assert all(child.parent is node and child.tier >= node.tier for child in below)
        assert sum(child.refs for child in below) <= node.refs
        assert node.pins == pins[node]
        if node.refs or node.pins:
            assert node.tier == 0
            assert node not in place
            used += node.length if node.refs else 0
            pinned += 0 if node.refs else node.length
            continue
        tier, rank = place.pop(node)
        loose[tier] += node.length
        listed -= 1
        assert tier == node.tier
        assert all(child.used <= node.used for child in below)
        assert all(place[child][1] < rank for child in below if child in place and child.tier == tier)
    assert listed == 0
    assert not place
    return used, pinned, loose


def tally(leases: Iterable["Lease"]) -> tuple[int, int]:
    """Return the blocks that open leases share, and their private ones. Raises AssertionError if a node counts others."""
    still = [(lease, lease.tail) for lease in leases if lease.tail is not None]
    counts = holds(tail for _, tail in still)
    assert all(node.refs == count for node, count in counts.items())
    return sum(node.length for node in counts), sum(lease.private for lease, _ in still)
