"""Control: how it comes to whoever takes a step, with the state that the runtime sends, and what a step costs to dispatch.

A direct call of a tool or a retriever is made from where the orchestrator is. Where control lives on a device, a step there is
a decision of the device, at its own price, and no core of the host has to be free.

Leaves out: how control comes back from the branches of a fork.
Checked: tests/test_runtime.py, tests/test_host.py.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch
from ..sim.engine.draws import Stream
from ..sim.engine.fifo import FifoPool
from ..sim.engine.pool import Pool
from .checkpoint import Checkpoints
from .line import cross, serve
from .network import Channel

if TYPE_CHECKING:
    from .system import System

Script = Generator[None, Any, None]


class Control:
    """How control and state come to a component, and the orchestrator's own work for each of its steps.

    `matters` is False where none of it takes any time.
    """

    @classmethod
    def of(cls, system: "System", path: str, home: int) -> "Control":
        """Return that of a component; its steps share it, or each would count from 0 and draw the same numbers again."""
        make = cls if system.scenario.orchestrator.checkpoint is None else Checkpointed
        shared: Control = system.once(f"{path}/control", lambda: make(system, path, home))
        return shared

    def __init__(self, system: "System", path: str, home: int) -> None:
        runtime, orchestrator = system.runtime, system.scenario.orchestrator
        self.system = system
        self.path = path
        self.home = home
        self.full = runtime.state == "full" and system.scenario.context.grows
        self.per_token = system.bytes_per_token
        self.every_task = runtime.dispatch == "every-task"
        self.callee = system.ledger.callee()
        self.pool: Pool | FifoPool | None = None
        self.dispatch: Stream[float] | None = None
        self.account = system.ledger.account("orchestration", "orchestrator", "dispatch")
        self.queue_account = system.ledger.account("queueing", "orchestrator")
        self.host = None
        self.mean = 0.0  # of a dispatch (s)
        if runtime.dispatch == "none":
            pass
        elif system.homes[home] in system.devices:
            sampler, self.mean = orchestrator.on_device(system.machine)
            self.every_task = False
            self.account = system.ledger.account("orchestration", "orchestrator", "device dispatch")
            if self.mean:
                self.dispatch = system.draws.stream(f"orchestrator/device_dispatch/{path}", sampler)
        elif not (orchestrator.dispatch.is_constant and not orchestrator.dispatch.mean):
            self.mean = orchestrator.dispatch.mean
            self.dispatch = system.stream(f"orchestrator/dispatch/{path}", orchestrator.dispatch)
            self.pool = system.event_loop()
            self.host = system.hosts.get(system.node_of(None))
            if self.host is not None:
                self.pool = self.host.join(self.pool)
                self.queue_account = self.host.queue_account if self.pool is None else self.queue_account
            system.book_waits(self.pool, self.queue_account, self.account)
        self.channels: list[Channel | None] = []  # from each home to this one
        self.matters = True
        self.checkpoints: Checkpoints | None = None

    def connect(self) -> None:
        """Make the channels from every other home, once all homes are known."""
        homes = self.system.homes
        if self.channels:
            return
        here = homes[self.home]
        self.channels = [
            None if home == here else self.system.channel(f"{home}=>{self.path}", home, here, "handoff", client="both")
            for home in homes
        ]
        self.matters = self.dispatch is not None or any(channel is not None for channel in self.channels)

    def arrive(self, branch: Branch) -> Script:
        """Bring control and state here, then dispatch."""
        state = branch.state
        ordinal = branch.calls[self.callee]
        branch.calls[self.callee] = ordinal + 1
        if state.home != self.home:
            known = 0.0 if self.full else state.held[self.home]
            state.held[state.home] = state.tokens
            yield from cross(self.channels[state.home], branch, (state.tokens - known) * self.per_token, ordinal)
            state.home = self.home
            state.held[self.home] = state.tokens
        if self.dispatch is None or (self.every_task and branch.task.dispatched):
            return
        branch.task.dispatched = True
        seconds = self.dispatch.draw(branch.index, ordinal, branch.lane)
        accounts = (self.queue_account, self.account)
        if self.host is None:
            yield from serve(branch, self.pool, seconds, accounts)
        else:
            yield from self.host.run_in(branch, self.pool, seconds, accounts)


class Checkpointed(Control):
    """Control in a scenario that writes the state of a task at its steps: once they are dispatched."""

    def __init__(self, system: "System", path: str, home: int) -> None:
        super().__init__(system, path, home)
        spec = system.scenario.orchestrator.checkpoint
        assert spec is not None
        self.written = self.checkpoints = Checkpoints.of(system, spec)

    def connect(self) -> None:
        """Make the channels; each step matters, for it is written."""
        super().connect()
        self.matters = True

    def arrive(self, branch: Branch) -> Script:
        """Bring control and state here, dispatch, and write the state."""
        yield from super().arrive(branch)
        run = branch.state.run
        self.written.write(branch, None if run is None else run.step_slot)
