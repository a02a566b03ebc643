"""Recovery: what is done about a whole task that fails, or takes too long; as YAML writes it.

Leaves out: calls of components (`handling`); writing checkpoints (`checkpoint`).
Checked: tests/test_recovery.py, tests/data/bad.
"""

from typing import Literal, Self

from pydantic import model_validator

from ..sim.engine.distributions import DurationDist
from ..sim.engine.spec import Count, PositiveCount, PositiveDuration, Share, Spec, SpecProblem
from .handling import Backoff

__all__ = ["Admission", "Escalation", "Recovery"]


class Admission(Spec):
    """At most so many tasks, `most`, are in the system; one more is refused, and failed by that."""

    most: PositiveCount


class Escalation(Spec):
    """A person takes over a task that has failed, for `takes`, and solves it with probability `solves`."""

    takes: DurationDist
    solves: Share = 1.0


class Recovery(Spec):
    """What is done about a task that fails.

    `deadline` is the time from its arrival after which it is given up, with all calls under way. A task that fails begins again up to
    `restarts` times, from its last checkpoint (`orchestrator.checkpoint`) or from the beginning (`restart_from`), after a wait by
    `backoff` and `resume`, the time to notice, start again and read the state. Once it has failed for good, the calls of tools with
    `undo` are taken back (`compensate`), and a person takes over (`escalate`). `admission` bounds the tasks in the system.
    """

    deadline: PositiveDuration | None = None
    restarts: Count = 0
    restart_from: Literal["checkpoint", "beginning"] = "checkpoint"
    backoff: Backoff = Backoff()
    resume: DurationDist = DurationDist.model_validate("0 s")
    compensate: bool = False
    escalate: Escalation | None = None
    admission: Admission | None = None

    @model_validator(mode="after")
    def _only_where_it_restarts(self) -> Self:
        for name in ("backoff", "resume", "restart_from"):
            if self.says(name) and not self.restarts:
                raise SpecProblem(name, "needs `restarts`: nothing ever begins again without")
        return self

    @property
    def cuts(self) -> bool:
        """Whether it ever takes a task out of what it waits for."""
        return self.deadline is not None
