"""What makes the work of a call longer than its law says: chance, the task it is for, and faults, each a factor.

Leaves out: the law, and the speed of the component.
Checked: tests/test_per_task.py.
"""

from typing import TYPE_CHECKING

from ..sim.engine.draws import ROOT_LANE, Stream
from ..sim.engine.spec import SpecProblem

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from ..sim.engine.distributions import NumberDist
    from ..sim.engine.random_variable import Distribution
    from ..sim.engine.spec import Spec
    from .system import System

__all__ = ["Pace", "each_call", "never_negative", "per_task"]


def never_negative(spec: "Spec", name: str, what: str) -> None:
    """Raise SpecProblem where a factor `what` that a spec draws could be negative."""
    least = getattr(spec, name).lower_bound
    if least < 0:
        raise SpecProblem(name, f"must be >= 0, as a factor {what}; got {least:g}")


def each_call(residual: "NumberDist") -> "Distribution | None":
    """Return the distribution of the factor of each call; None where it is 1."""
    return None if residual.is_constant and residual.mean == 1 else residual.distribution


def per_task(system: "System", path: str, factor: "NumberDist") -> "Stream[float] | None":
    """Return the draws of the factor that all calls of a task have in common; None where it is 1."""
    return None if factor.is_constant and factor.mean == 1 else system.stream(f"{path}/per_task", factor)


class Pace:
    """The factors of the time of calls of one caller: of each call, of all of its task's, and what a fault makes of it (`slow`)."""

    __slots__ = ("each", "slow", "task")

    def __init__(self, each: "Stream[float] | None", task: "Stream[float] | None", slow: bool) -> None:
        self.each = each
        self.task = task
        self.slow = slow

    def __bool__(self) -> bool:
        """Whether anything ever differs from 1."""
        return self.each is not None or self.task is not None or self.slow

    def of(self, seconds: float, branch: "Branch") -> float:
        """Return how long the call under way takes that would take `seconds` by its law (hot)."""
        state = branch.state
        if self.each is not None:
            seconds *= self.each.draw(branch.index, state.ordinal, branch.lane)
        if self.task is not None:
            seconds *= self.task.draw(branch.index, 0, ROOT_LANE)
        return seconds * state.slow if self.slow else seconds
