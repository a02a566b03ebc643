"""How an agent uses a memory: read before it thinks, write after, and summarize when the context has grown too large.

Leaves out: another store or model in place of one that fails for good, for reads and writes (`fallback` of a memory).
Checked: tests/test_memory.py, tests/test_let_go.py.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch
from ..sim.engine.draws import Stream
from .failure import CallFailed
from .handling import ATTEMPTS_APART
from .line import cross
from .memory import Summarize

if TYPE_CHECKING:
    from .system import System

Script = Generator[None, Any, None]


class MemoryUse:
    """One agent's use of one memory."""

    def __init__(self, system: "System", path: str, home: int, name: str) -> None:
        index, spec = system.memory(name)
        self.index = index
        self.store = system.service("memories", name, spec.service())
        self.line = system.line(path, home, self.store.path, self.store.node)
        self.bandwidth = spec.bandwidth
        self.per_token = system.bytes_per_token
        self.callee = system.ledger.callee()
        self.recall = system.stream(f"{self.store.path}/recall/{path}", spec.recall)
        self.entry = system.stream(f"{self.store.path}/entry/{path}", spec.entry)
        self.before: list[Callable[[Branch], Script]] = []
        self.after: list[Callable[[Branch], Script]] = []
        if spec.summarize is not None:
            self.summary = Summary(system, path, home, index, spec.summarize)
            self.before.append(self.summary.run)
        if spec.read is not None:
            self.reading = system.stream(f"{self.store.path}/read/{path}", spec.read)
            self.before.append(self.read)
        if spec.write is not None:
            self.writing = system.stream(f"{self.store.path}/write/{path}", spec.write)
            self.after.append(self.write)

    def read(self, branch: Branch) -> Script:
        """Recall: the whole memory is gone through."""
        ordinal = self._ordinal(branch)
        recalled = float(round(self.recall.draw(branch.index, ordinal, branch.lane)))
        held = branch.state.memory[self.index]
        if (yield from self._operate(branch, ordinal, self.reading, held, 0.0, recalled * self.per_token)):
            branch.state.tokens += recalled

    def write(self, branch: Branch) -> Script:
        """Add an entry."""
        ordinal = self._ordinal(branch)
        entry = self.entry.draw(branch.index, ordinal, branch.lane)
        if (yield from self._operate(branch, ordinal, self.writing, entry, entry, 0.0)):
            branch.state.memory[self.index] += entry

    def _ordinal(self, branch: Branch) -> int:
        ordinal = branch.calls[self.callee]
        branch.calls[self.callee] = ordinal + 1
        return ordinal

    def _operate(
        self, branch: Branch, ordinal: int, latency: Stream[float], touched: float, sent: float, returned: float
    ) -> Generator[None, Any, bool]:
        """One operation that touches `touched` bytes at the store; return whether it was done. Raises TaskFailed."""
        guard = self.store.guard

        def attempt(own: Branch, again: int) -> Script:
            return self._attempt(own, ordinal + again * ATTEMPTS_APART, latency, touched, sent, returned)

        if guard is None:
            yield from attempt(branch, 0)
            return True
        return (yield from guard.call(branch, attempt)) is None

    def _attempt(
        self, branch: Branch, ordinal: int, latency: Stream[float], touched: float, sent: float, returned: float
    ) -> Script:
        """One attempt. Raises CallFailed."""
        store = self.store
        outer, began = branch.open_span(), branch.time
        yield from cross(self.line.request, branch, sent, ordinal)
        submitted = branch.time
        seconds = latency.draw(branch.index, ordinal, branch.lane)
        if self.bandwidth is not None:
            seconds += touched / self.bandwidth
        yield from store.serve(branch, ordinal, seconds, touched)
        self.line.notice(branch, submitted)
        answered = store.condition is None or store.condition.answers(branch, ordinal)
        yield from cross(self.line.response, branch, returned if answered else 0.0, ordinal)
        if not answered:
            branch.task.errors.append(branch.span)
        branch.close_span(outer, store.call_account, began)
        if not answered:
            raise CallFailed("error", f"{store.path}: error", 0.0)


class Summary:
    """A model call that shrinks the context; all of its time is `context`."""

    def __init__(self, system: "System", path: str, home: int, index: int, spec: Summarize) -> None:
        server = system.servers[spec.model]
        caller = f"{path}/summarize"
        self.index = index
        self.prompts = system.prompts
        self.above = spec.above
        self.to = spec.to
        line = system.line(caller, home, server.path, server.node)
        output = system.draws.stream(f"{caller}/output", spec.to)
        self.call = system.new_call(caller, server, line, 0.0, output, system.homes[home])
        system.prompts.append(0.0)
        self.call.books_under(system, "summarize")
        self.per_token = system.bytes_per_token

    def run(self, branch: Branch) -> Script:
        """Summarize, if the context has grown above the limit."""
        state = branch.state
        if state.tokens <= self.above:
            return
        yield from self.call.perform(branch)
        state.replace(self.to, self.call.server.index, self.prompts)
        state.memory[self.index] = min(state.memory[self.index], self.to * self.per_token)
