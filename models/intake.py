"""One modality's way from its source to the model that reads it: sent, prepared, encoded, and its representation handed over.

Every draw is made in the lane of the branch that takes it in, which follows from the names of step and modality: other
modalities beside it, and other runtimes, leave its draws alone.

Leaves out: encoding one part while the next is on its way, which streams do (`media_stream`).
Checked: tests/test_modality.py, tests/test_perceive.py.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import ENTRY, Branch
from .context import RETRIES, Context
from .failure import TaskFailed
from .handling import ATTEMPTS_APART
from .host import work
from .line import cross

if TYPE_CHECKING:
    from .system import System

__all__ = ["Intake"]


class Intake:
    """How a modality comes to one model server."""

    def __init__(self, system: "System", name: str, server: Any) -> None:
        spec = system.scenario.modalities[name]
        path = f"modalities.{name}"
        self.path = path
        self.plan = system.plan
        self.spec = spec
        self.server = server
        # Bytes of a unit where it is part of a prompt, and what its tokens weigh there anyhow.
        self.embedded = spec.bytes * (1.0 if spec.serializer is None else system.serializers[spec.serializer].expansion)
        self.per_token = system.bytes_per_token
        self.encoder = encoder = None if spec.encoder is None else system.encoder(spec.encoder)
        first = server if encoder is None else encoder
        source = system.node_of(spec.node)
        self.payload = system.channel(f"{path}->{first.path}", source, first.node, name, True, codec=spec.serializer)
        self.representation = None
        if encoder is not None and encoder.model is not server:
            codec = None if system.runtime.codec is None else "binary"
            way = f"{path}/{encoder.path}->{server.path}"
            self.representation = system.channel(way, encoder.node, server.node, encoder.name, codec=codec)
        self.host = system.hosts.get(first.node)
        self.amount = system.stream(f"{path}/amount", spec.amount)
        self.failing = system.draws.uniform(f"{path}/error") if spec.errors else None
        account = system.ledger.account
        self.prepare_account = account("serialization", name, "preprocess")
        self.recovery_account = account("recovery", path)
        preparing = spec.preprocess
        self.on_device = preparing is not None and preparing.on == "gpu"
        self.preparing = None
        if preparing is not None:
            streams = (preparing.latency, "latency"), (preparing.per_unit, "per_unit")
            self.preparing = tuple(system.stream(f"{path}/preprocess/{what}", dist) for dist, what in streams)

    @classmethod
    def of(cls, system: "System", name: str, server: Any) -> "Intake":
        """Return the way of a modality to a server, made once."""
        made: Intake = system.once(f"modalities.{name}->{server.path}", lambda: cls(system, name, server))
        return made

    def take(self, branch: Branch, attempts: int, keeps: bool) -> Generator[None, Any, float | None]:
        """Take in what comes with the request; return its tokens, or None once so many `attempts` have failed; see `tried`."""
        amount = self.amount.draw(branch.index, 0, branch.lane)
        came = yield from self.tried(
            branch, attempts, keeps, lambda again: self.attempt(branch, amount, again * ATTEMPTS_APART)
        )
        if not came:
            return None
        tokens = float(round(amount * self.spec.tokens))
        self.embed(branch.state, amount, tokens)
        return tokens

    def embed(self, state: Context, amount: float, tokens: float) -> None:
        """Let a prompt hold `amount` units themselves, where the modality is `inline`: in place of their `tokens`, which come next."""
        size = amount * self.embedded - tokens * self.per_token
        if self.spec.inline and size > 0:
            state.embed(size, self.server.index)

    def tried(
        self, branch: Branch, attempts: int, keeps: bool, attempt: Callable[[int], Generator[None, Any, None]]
    ) -> Generator[None, Any, bool]:
        """Make up to so many attempts at what `attempt` does; return whether one of them did it.

        An attempt that failed is lost work. Raises TaskFailed for the last one, unless the task `keeps` going without.
        """
        for number in range(attempts):
            before = branch.parts[:]
            first = 0 if branch.spans is None else len(branch.spans) // ENTRY
            again = number + 1 < attempts
            try:
                yield from attempt(number)
            except TaskFailed:
                if not (again or keeps):
                    raise
                branch.facts[RETRIES] += again
                branch.lose(before, first, self.recovery_account)
                if not again:
                    self.plan.degrade(branch)
            else:
                return True
        return False

    def attempt(self, branch: Branch, amount: float, ordinal: int) -> Generator[None, Any, None]:
        """Bring `amount` units from the source to the model. Raises TaskFailed where they could not be encoded."""
        yield from cross(self.payload, branch, amount * self.spec.bytes, ordinal)
        yield from self.encode(branch, amount, ordinal)
        if self.representation is not None:
            yield from cross(self.representation, branch, amount * self.spec.representation, ordinal)

    def encode(self, branch: Branch, amount: float, ordinal: int) -> Generator[None, Any, None]:
        """Prepare and encode `amount` units that are there. Raises TaskFailed where they could not be."""
        spec, encoder = self.spec, self.encoder
        before = self._preparation(branch, amount, ordinal)
        if before and not self.on_device:
            yield from work(branch, self.host, before, self.prepare_account, amount * spec.bytes)
            before = 0.0
        footprint = amount * spec.representation
        if encoder is not None:
            seconds = encoder.seconds(branch, ordinal, amount)
            yield from encoder.encode(branch, seconds, before, self.prepare_account, footprint, amount)
        if self.failing is not None and self.failing.draw(branch.index, ordinal, branch.lane) < spec.errors:
            raise TaskFailed(f"{self.path}: could not be encoded")

    def _preparation(self, branch: Branch, amount: float, ordinal: int) -> float:
        """Return the seconds of decoding, scaling and the like."""
        if self.preparing is None:
            return 0.0
        latency, per_unit = (stream.draw(branch.index, ordinal, branch.lane) for stream in self.preparing)
        return latency + per_unit * amount
