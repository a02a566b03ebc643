"""The run of one task: where it is, what its checkpoints hold, what is wrong with its state, and when those who work for it crash.

Leaves out: what is done with it (`task_run`), and by whom (`worker`).
Checked: tests/test_recovery.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch
from .context import STEPS

if TYPE_CHECKING:
    from .condition import Active
    from .context import Context
    from .fault_clock import TaskClock
    from .fault_plan import FaultPlan, Spoiled, TaskHarm

__all__ = ["Crashed", "Cut", "Damage", "Late", "Run", "Saved", "Timer", "Undo"]


class Cut(Exception):
    """A branch is taken out of what it does. `parts` (seconds per account) are those of its path, where that led through branches."""

    def __init__(self, reason: str, parts: list[float] | None = None) -> None:
        super().__init__(reason)
        self.parts = parts


class Crashed(Cut):
    """Who worked for it has crashed."""


class Late(Cut):
    """The deadline of the task has come."""


class Damage:
    """State that is damaged, and noticed after so many steps more (`left`; 0: never)."""

    __slots__ = ("left", "spoiled")

    def __init__(self, spoiled: "Spoiled", left: int) -> None:
        self.spoiled = spoiled
        self.left = left


class Undo:
    """A call that could be taken back, at time `done` (s): what that takes, and where it is booked."""

    __slots__ = ("account", "done", "seconds")

    def __init__(self, done: float, account: int, seconds: float) -> None:
        self.done = done
        self.account = account
        self.seconds = seconds


class Timer:
    """When what one fault does to one task comes: it ages only while a branch is `inside` of what the fault strikes."""

    __slots__ = ("active", "alarm", "clock", "inside", "left", "ordinal", "since", "until")

    def __init__(self, active: "Active", clock: "TaskClock") -> None:
        self.active = active
        self.clock = clock
        self.inside: dict[Branch, None] = {}
        self.alarm: Any = None
        self.ordinal = 0
        self.left = -1.0  # s up to the crash, as of `since`; below 0 it is not drawn yet
        self.since = 0.0
        self.until = 0.0  # repaired then


class Saved:
    """What a checkpoint holds: the task as it was at `time` (s), durable from `durable` on. `wrong` are outputs and damage in it."""

    __slots__ = ("damage", "durable", "first", "parts", "path", "position", "state", "steps", "time", "wrong")

    def __init__(self, run: "Run", time: float, durable: float) -> None:
        branch = run.trunk
        self.time = time
        self.durable = durable
        self.parts = branch.parts[:]
        self.first = branch.mark()
        self.state: Context = branch.state.snapshot()
        self.path = run.path[:]
        self.position = [calls - again for calls, again in zip(branch.calls, run.redone, strict=True)]
        self.steps = branch.facts[STEPS] - run.steps_redone
        self.wrong: list[Spoiled] = [] if branch.task.harm is None else branch.task.harm.spoiled[:]
        self.damage = [(one.spoiled, one.left) for one in run.damage]


class Run:
    """The run of one task.

    `path` is where it is (see `task_run`), `back` what is left of the path that it goes back to. `redone` are, of each slot of
    `Branch.calls`, the calls that do not count any more for where it is, `steps_redone` its steps.
    """

    def __init__(self, trunk: Branch, plan: "FaultPlan") -> None:
        self.trunk = trunk
        self.plan = plan
        self.path: list[Any] = []
        self.back: list[Any] = []
        self.step_slot: int | None = None  # of the step under way, if that has no positions of its own
        self.shut = 0  # how deep it is in what cannot be resumed
        self.fresh = False  # it comes from a checkpoint, and has not come to that again
        self.redone = [0] * len(trunk.calls)
        self.steps_redone = 0.0
        self.restarts = 0
        self.wait = 0.0  # the last backoff (s)
        self.damage: list[Damage] = []
        self.noticed: Spoiled | None = None
        self.past: list[Any] = []  # strikes of failures from which it began again
        self.done: list[Undo] = []
        self.timers: dict[str, Timer] = {}
        trunk.state.run = self
        self.saves = [Saved(self, trunk.time, trunk.time)]

    # Where it is

    def enter(self) -> tuple[int, Any]:
        """Come to what has positions of its own; return the depth of it, and the position to go on at (None: begin)."""
        depth = len(self.path)
        self.path.append(None)
        return depth, self.back.pop(0) if self.back else None

    def at(self, depth: int, position: Any) -> None:
        """It is at a position, at a depth, and no deeper."""
        self.path[depth:] = [position]

    # Checkpoints

    def save(self, time: float, durable: float, slot: int | None) -> None:
        """Keep what a checkpoint holds that was begun at `time` and is durable from `durable` on.

        `slot` is that of the step under way, if that will be entered once more.
        """
        branch = self.trunk
        if self.shut:
            return
        saved = Saved(self, time, max(durable, self.saves[-1].durable))
        saved.steps -= 1
        if slot is not None:
            saved.position[slot] -= 1
        self.saves.append(saved)
        kept: list[Saved] = []
        newer: Saved | None = None
        for one in reversed(self.saves[1:]):  # the newest that is durable of those with the same damage
            if newer is None or newer.damage != one.damage:
                kept.append(one)
            if one.durable <= branch.sim._now:  # which may be behind
                newer = one
        self.saves[1:] = reversed(kept)

    def choose(self, now: float) -> Saved:
        """Return the checkpoint to go back to: the newest that is durable, and from before the damage that was noticed."""
        for one in reversed(self.saves):
            if one.durable <= now and (self.noticed is None or self.noticed not in one.wrong):
                return one
        return self.saves[0]

    def forget_after(self, now: float) -> None:
        """What lies behind `now` never came to be."""
        self.done = [one for one in self.done if one.done <= now]

    def restart(self, saved: Saved, harm: "TaskHarm") -> None:
        """Go back to a checkpoint."""
        branch = self.trunk
        self.restarts += 1
        self.path, self.back, self.shut = [], saved.path[:], 0
        self.fresh = bool(saved.path)
        self.redone = [calls - there for calls, there in zip(branch.calls, saved.position, strict=True)]
        self.steps_redone = branch.facts[STEPS] - saved.steps
        branch.state = saved.state.snapshot()
        del self.saves[self.saves.index(saved) + 1 :]
        self.damage = [Damage(spoiled, left) for spoiled, left in saved.damage]
        self.noticed = None
        here = [one.strike for one in saved.wrong]
        undone = [one.strike for one in harm.spoiled if one not in saved.wrong]
        harm.struck = [one for one in [*harm.struck, *undone] if one not in here]
        harm.spoiled = saved.wrong[:]
        self.past[:0], harm.fatal = harm.fatal, []

    # Damage

    def damaged(self, spoiled: "Spoiled", left: int) -> None:
        """The state is damaged."""
        self.damage.append(Damage(spoiled, left))

    def look(self, harm: "TaskHarm") -> "Spoiled | None":
        """A step begins: return what is noticed now. What was found and made again is no more."""
        self.damage = [one for one in self.damage if one.spoiled in harm.spoiled]
        for one in self.damage:
            if one.left:
                one.left -= 1
                if not one.left:
                    self.noticed = one.spoiled
                    return one.spoiled
        return None

    def timer(self, name: str, make: Callable[[], Timer]) -> Timer:
        """Return the timer of a fault."""
        if name not in self.timers:
            self.timers[name] = make()
        return self.timers[name]
