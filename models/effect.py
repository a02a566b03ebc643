"""The effect that a call has at a service, and how often: work that is done twice for one call has it twice.

An attempt whose work was done but whose answer came too late, was lost, or came second, has had its effect all the same. A component
that knows the key of the call (`idempotent`) does not do the work again, and one that is `repeatable` is as it would be after once.

Leaves out: work under way when the same call comes again with its key: it is done twice, and has its effect once; effects of the same
call at another component (`fallback`, a hedge that goes to another).
Checked: tests/test_guard.py, tests/test_hedge.py.
"""

from typing import TYPE_CHECKING

from .context import DUPLICATES

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch

__all__ = ["Effect"]


class Effect:
    """Of one call: whether its work has been done. `keyed` calls carry a key; `once` tells that a second time does harm."""

    __slots__ = ("done", "keyed", "once")

    def __init__(self, keyed: bool, once: bool) -> None:
        self.keyed = keyed
        self.once = once
        self.done = False

    @property
    def known(self) -> bool:
        """Whether the component has the answer already, and knows it by its key."""
        return self.keyed and self.done

    def happens(self, branch: "Branch") -> None:
        """The work of an attempt is done."""
        if self.done and self.once and not self.keyed:
            branch.facts[DUPLICATES] += 1
        self.done = True
