"""The network: nodes, links, and the channel that a message takes between two components.

A link has a latency (drawn per message), an overhead per message, and optionally a bandwidth that concurrent transfers
share equally. Routes are shortest paths by mean latency. A message crosses one link after the other (store and forward).

Leaves out: loss, congestion control, topology changes.
Checked: tests/test_network.py; tests/test_theory.py (processor sharing on a link).
Source of the loopback default: half the median HTTP/1.1 keep-alive round trip of 1 kB between two processes of a busy
2-core machine, 1.5 ms, measured for this project. Handshakes: TCP and TLS 1.3 take one round trip each
(RFC 9293, RFC 8446).
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from ..sim.engine.distributions import DurationDist
from ..sim.engine.draws import Sampler, Stream
from ..sim.engine.errors import listed
from ..sim.engine.link import Link as SharedLink
from ..sim.engine.spec import Bandwidth, Count, Duration, Name, Size, Spec, SpecProblem
from .context import BYTES, MESSAGES
from .serializer import Codec, Law, ProfileLaw

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from ..sim.profile.profile import Profile
    from .system import System

LOOPBACK = "0.75 ms"
LOOPBACK_BYTES = 1000.0


class Node(Spec):
    """A place where components run."""


class LinkSpec(Spec):
    """A link `between` two nodes, the same both ways, or one way only with `from` and `to`."""

    between: tuple[Name, Name] | None = None
    source: Name | None = Field(None, alias="from")
    target: Name | None = Field(None, alias="to")
    latency: DurationDist = DurationDist.model_validate("0 s")
    bandwidth: Bandwidth | None = None
    overhead: Duration = 0.0

    @model_validator(mode="before")
    @classmethod
    def _directions(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            given = [name for name in ("between", "from", "to", "source", "target") if data.get(name) is not None]
            if given not in (["between"], ["from", "to"], ["source", "target"]):
                rule = "must say `between: [a, b]`, or `from: a` and `to: b`"
                raise ValueError(f"{rule}; got {listed(given) or 'none of them'}")
            both = data.get("between")
            if given == ["between"] and isinstance(both, list | tuple) and len(both) != 2:
                raise SpecProblem("between", f"must be a list of two nodes; got {len(both)}")
        return data

    @model_validator(mode="after")
    def _two_nodes(self) -> Self:
        if self.ends[0] == self.ends[1]:
            raise SpecProblem((), f"must join two nodes; got `{self.ends[0]}` twice")
        return self

    def named_ends(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Return the nodes that are named, each with the path of what names it."""
        if self.between is not None:
            return [(("between", place), name) for place, name in enumerate(self.between)]
        ends = (("from",), self.source), (("to",), self.target)
        return [(path, name) for path, name in ends if name is not None]

    @property
    def ends(self) -> tuple[str, str]:
        """The two nodes."""
        if self.between is not None:
            return self.between
        assert self.source is not None
        assert self.target is not None
        return self.source, self.target


class Network(Spec):
    """Nodes and links. Without it everything is on one node.

    `header` is added to each message; a new connection costs `handshakes` round trips; `loopback` is the one-way latency
    between two processes of one node: left out, half the round trip `cross[via=http]` of the profile, or 0.75 ms without.
    """

    nodes: dict[Name, Node] = {}
    links: tuple[LinkSpec, ...] = ()
    header: Size = 0.0
    handshakes: Count = 2
    loopback: DurationDist | None = None

    def between_processes(self, profile: "Profile | None") -> tuple[Sampler | float, float]:
        """Return what to draw the one-way latency between two processes of a node from, and its mean (s)."""
        if self.loopback is None and profile is not None and profile.has("cross", via="http"):
            timing = profile.timing("cross", via="http")
            one_way, noise = timing.seconds({"bytes": LOOPBACK_BYTES}) / 2, timing.noise
            if noise is None:
                return one_way, one_way
            return lambda rng, n: one_way * noise.sample(rng, n), one_way * noise.mean
        given = self.loopback or DurationDist.model_validate(LOOPBACK)
        return given.sampler, given.mean


@dataclass(slots=True)
class Hop:
    """One link of a route, in one direction: its latency of this message, and its bandwidth if that is shared."""

    name: str
    latency: Stream[float]
    overhead: float
    shared: SharedLink | None


class Coder:
    """Encoding or decoding at the ends of a channel: a law, and what repeats of one call differ by where that is known."""

    __slots__ = ("law", "noise")

    def __init__(self, system: "System", name: str, law: Law | ProfileLaw) -> None:
        self.law = law
        self.noise = None if law.noise is None else system.draws.stream(name, law.noise.sample)

    def seconds(self, branch: "Branch", size: float, ordinal: int) -> float:
        """Return the seconds for `size` bytes in the caller's `ordinal`-th call."""
        seconds = self.law.seconds(size)
        return seconds if self.noise is None else seconds * self.noise.draw(branch.index, ordinal, branch.lane)

    def mean(self, size: float) -> float:
        """Return the mean seconds for `size` bytes."""
        return self.law.seconds(size) * (1.0 if self.law.noise is None else self.law.noise.mean)


class Channel:
    """How messages get from one component to another, for one caller.

    `contended` tells which method to call: `stream` (a generator) where a link's bandwidth is shared, else `send`.
    Draws are those of the caller's `ordinal`-th call.
    """

    __slots__ = (
        "codec", "connect_account", "contended", "decode", "decode_account", "encode", "encode_account", "fixed",
        "header", "hops", "latencies", "round_trips", "transit_account", "transmit_accounts",
    )  # fmt: skip

    def __init__(
        self,
        system: "System",
        name: str,
        peer: str,
        hops: list[Hop],
        codec: Codec | None,
        header: float,
        round_trips: int,
    ) -> None:
        ledger = system.ledger
        self.hops = hops
        self.codec = codec
        self.encode = None if codec is None else Coder(system, f"{name}/encode", codec.encode)
        self.decode = None if codec is None else Coder(system, f"{name}/decode", codec.decode)
        self.header = header
        self.round_trips = round_trips
        self.latencies = tuple(hop.latency for hop in hops if hop.latency.constant is None)
        self.fixed = sum(hop.overhead + (hop.latency.constant or 0.0) for hop in hops)
        self.contended = any(hop.shared is not None for hop in hops)
        self.encode_account = ledger.account("serialization", peer, "encode")
        self.decode_account = ledger.account("serialization", peer, "decode")
        self.connect_account = ledger.account("communication", peer, "connect")
        self.transit_account = ledger.account("communication", peer, "transit")
        self.transmit_accounts = [
            -1 if hop.shared is None else ledger.account("communication", hop.name, "transmit") for hop in hops
        ]

    @property
    def is_free(self) -> bool:
        """Whether a message never takes any time."""
        return (
            not self.contended
            and (self.codec is None or (self.codec.encode.is_free and self.codec.decode.is_free))
            and all(hop.latency.constant == 0 and not hop.overhead for hop in self.hops)
        )

    def _encode(self, branch: "Branch", size: float, ordinal: int) -> float:
        """Encode a payload; return the bytes on the wire."""
        facts = branch.facts
        wire = size + self.header
        if self.codec is not None and self.encode is not None:
            wire = size * self.codec.expansion + self.header
            branch.add(self.encode_account, self.encode.seconds(branch, size, ordinal), size)
        facts[MESSAGES] += 1
        facts[BYTES] += wire
        return wire

    def _connect(self, branch: "Branch", one_way: float) -> None:
        branch.facts[MESSAGES] += 2 * self.round_trips
        branch.add(self.connect_account, 2 * self.round_trips * one_way)

    def send(self, branch: "Branch", size: float, ordinal: int) -> None:
        """Send `size` bytes of payload over links without contention (hot): local time passes."""
        decode = self.decode
        if decode is not None:
            wire = self._encode(branch, size, ordinal)
        else:
            wire = size + self.header
            facts = branch.facts
            facts[MESSAGES] += 1
            if wire:
                facts[BYTES] += wire
        delay = self.fixed
        for latency in self.latencies:
            delay += latency.draw(branch.index, ordinal, branch.lane)
        if self.round_trips:
            self._connect(branch, delay)
        start = branch.time  # `Branch.add`, inlined
        branch.time = end = start + delay
        branch.parts[self.transit_account] += end - start
        if branch.spans is not None and delay:
            branch.spans += (branch.lane, branch.span, self.transit_account, start, end, wire, 0)
        if decode is not None:
            branch.add(self.decode_account, decode.seconds(branch, size, ordinal), size)

    def stream(self, branch: "Branch", size: float, ordinal: int) -> Generator[None, Any, None]:
        """Send `size` bytes of payload; where bandwidth is shared, the transfer competes for it."""
        wire = self._encode(branch, size, ordinal)
        index, lane = branch.index, branch.lane
        delays = [hop.latency.draw(index, ordinal, lane) + hop.overhead for hop in self.hops]
        if self.round_trips:
            self._connect(branch, sum(delays))
        for hop, delay, account in zip(self.hops, delays, self.transmit_accounts, strict=True):
            branch.add(self.transit_account, delay, wire)
            if hop.shared is not None and wire:
                wait = branch.wait
                hop.shared.transfer(wait, branch.time, wire)
                yield
                branch.book(account, wait.arrived, branch.sim._now, wire)
        if self.decode is not None:
            branch.add(self.decode_account, self.decode.seconds(branch, size, ordinal), size)
