"""Checkpoints: the state of a task, written as it goes so that it survives, and what that costs.

A task writes at the steps of agents, evaluators, tools and retrievers, once they are dispatched: all of its context so far
(`full`), or what was added since the last (`delta`). So full snapshots of a context that grows by as much at each step add
up to bytes that grow with the square of the steps, and deltas to bytes that grow with the steps. Each branch of a task counts
its own steps; what branches have written stays written when they join. A summary that takes the place of the context
is written anew.

The time is `orchestration`: it is work that the framework does for itself at each step, no message to another component
(`serialization`, `communication`), and it is spent whether or not anything fails (`recovery`).

Leaves out: reading state back (`recovery.resume`); a store that is slow because others write to it; the core and the event loop that writing takes;
a write beside the task (`async`) that has not ended when the next one begins; steps that wait for a person; what stores keep
beside the state, such as indexes and channel versions.
Checked: tests/test_checkpoint.py; tests/test_bands_growth.py (how bytes grow, also those of a real framework).
"""

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from ..sim.engine.draws import lane as lane_of
from ..sim.engine.errors import did_you_mean, listed
from ..sim.engine.spec import Name, PositiveCount, Size, Spec, SpecProblem
from ..sim.profile.ops import split_name
from .context import STATE_BYTES
from .network import Coder
from .serializer import Law, ProfileLaw
from .task_run import TaskRuns

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from ..sim.profile.profile import Profile
    from .system import System

__all__ = ["Checkpoint", "Checkpoints"]


class Checkpoint(Spec):
    """State written at every `every`-th step: the whole context (`full`), or what is new since the last time (`delta`).

    A checkpoint is `base` bytes and its tokens, at `context.bytes_per_token`. It takes what the law `write` says (`{}`: no
    time), or where that is left out the law `checkpoint[store=...]` of the profile. The task waits for it (`sync`), or it is
    written beside the task (`async`): then it is durable once its write has ended, one after the other. `exit` writes only when the
    task ends, or fails by itself, and a crash loses all. Source of the modes: `durability` of LangGraph.
    """

    kind: Literal["full", "delta"] = "full"
    every: PositiveCount = 1
    base: Size = 0.0
    write: Law | None = None
    store: Name | None = None
    mode: Literal["sync", "async", "exit"] = "sync"

    @model_validator(mode="after")
    def _one_law(self) -> "Checkpoint":
        if (self.write is None) == (self.store is None):
            got = "neither" if self.write is None else "both"
            rule = "must have `write`, a law of what it takes, or `store`, of which the profile has a law"
            raise SpecProblem((), f"{rule}; got {got}")
        return self

    def misfits(self, profile: "Profile | None") -> Iterator[SpecProblem]:
        """Yield that nothing tells what writing to the store takes."""
        if self.store is None:
            return
        if profile is None:
            rule = "needs `profile`, such as `profile: cpu-reference`, for what writing takes"
            yield SpecProblem(("store",), f"{rule}; or give `write` instead")
            return
        if not profile.has("checkpoint", store=self.store):
            known = [split_name(name)[1].get("store", "") for name in profile.of("checkpoint")]
            remedy = did_you_mean(self.store, known) or f"; it has {listed(known) or 'none'}"
            yield SpecProblem(("store",), f"the profile has no law `checkpoint[store={self.store}]`{remedy}")

    def law(self, profile: "Profile | None") -> Law | ProfileLaw:
        """Return what a checkpoint takes by its bytes. Raises ProfileError where the profile has no law of the store."""
        if self.write is not None:
            return self.write
        assert profile is not None
        timing = profile.timing("checkpoint", store=str(self.store))
        return ProfileLaw(timing, timing.noise)


class Checkpoints:
    """The checkpoints of a run: one for all components, so that a task counts its steps wherever they are."""

    @classmethod
    def of(cls, system: "System", spec: Checkpoint) -> "Checkpoints":
        """Return those of a system."""
        shared: Checkpoints = system.once("orchestrator/checkpoints", lambda: cls(system, spec))
        return shared

    def __init__(self, system: "System", spec: Checkpoint) -> None:
        self.spec = spec
        self.full = spec.kind == "full" and system.scenario.context.grows
        self.waits = spec.mode == "sync"
        self.at_exit = spec.mode == "exit"
        runs = TaskRuns.of(system)
        self.kept = runs is not None and runs.saves  # for a task that begins again
        if runs is not None:
            runs.checkpoints = self
        self.per_token = system.bytes_per_token
        self.law = spec.law(system.machine)
        self.writer = Coder(system, "orchestrator/checkpoint", self.law)
        self.account = system.ledger.account("orchestration", "orchestrator", "checkpoint")
        self.callee = system.ledger.callee()

    def write(self, branch: "Branch", slot: int | None = None) -> None:
        """Write the state, where the branch is at a step that does; `slot` as of `Run.save`."""
        state: Any = branch.state
        run = state.run
        if run is not None and run.fresh:  # the task comes from this very checkpoint
            run.fresh = False
            return
        step = branch.calls[self.callee]
        branch.calls[self.callee] = step + 1
        if (step + 1 - (0 if run is None else run.redone[self.callee])) % self.spec.every:
            return
        if self.at_exit:
            if self.kept and run is not None:
                run.save(branch.time, inf, slot)
            return
        size = self.size(state.tokens if self.full else max(0.0, state.tokens - state.saved))
        state.saved = state.tokens
        branch.facts[STATE_BYTES] += size
        seconds = self.writer.seconds(branch, size, step)
        began = branch.time
        if self.waits:
            branch.add(self.account, seconds, size)
        elif seconds:
            own = lane_of(branch.lane, self.callee, step, 0)
            branch.beside(self.account, seconds, branch.time + seconds, own, size)
        if self.kept and run is not None:
            run.save(branch.time, began + seconds, slot)

    def write_all(self, branch: "Branch") -> None:
        """Write the state at the end of a task, or of a part of it that has failed."""
        step = branch.calls[self.callee]
        branch.calls[self.callee] = step + 1
        size = self.size(branch.state.tokens)
        branch.facts[STATE_BYTES] += size
        branch.add(self.account, self.writer.seconds(branch, size, step), size)

    def flags(self) -> list[str]:
        """Return where the law of a profile was asked for what it was not fitted on."""
        return self.law.timing.flags() if isinstance(self.law, ProfileLaw) else []

    def size(self, tokens: float) -> float:
        """Return the bytes of a checkpoint of so many tokens."""
        return self.spec.base + tokens * self.per_token

    def mean(self, tokens: float, added: float) -> float:
        """Return the mean seconds of a step that has `tokens` of context, of which the step before had all but `added`."""
        every = self.spec.every
        if self.at_exit:
            return 0.0
        return self.writer.mean(self.size(tokens if self.full else added * every)) / every
