"""What every kind of step of a workflow may say, and what it tells the checks: where it leads and what it names.

Leaves out: the kinds, each in the file of what it is about (`workflow`, `perceive_step`, `pipeline_step`, `team_step`).
Checked: tests/test_workflow.py, tests/data/bad.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated

from ..sim.engine import units
from ..sim.engine.spec import Name, Quantity, Share, Spec

__all__ = ["DONE", "Next", "Path", "Step", "Weight"]

Path = tuple[str | int, ...]
DONE = "done"

Weight = Annotated[float, Quantity(units.WEIGHT, open_low=True)]
Next = Name | dict[Name, Weight]


class Step(Spec):
    """What every step may say. `skip` is the probability that it is passed over."""

    next: Next = DONE
    skip: Share = 0.0

    def references(self) -> Iterator[tuple[Path, str]]:
        """Yield the names of the steps that may come next, each with the path of what says so."""
        if isinstance(self.next, Mapping):
            for name in self.next:
                yield ("next", name), name
        else:
            yield ("next",), self.next

    def targets(self) -> list[str]:
        """Return the names of the steps that may come next."""
        return [name for _, name in self.references()]

    def branches(self) -> Iterator[tuple[Path, str]]:
        """Yield the names of the steps and workflows that it runs as branches of their own, each with its path."""
        yield from ()

    def uses(self) -> Iterator[tuple[Path, str, str]]:
        """Yield the components that it names, each with its path and the section of the scenario that must have it."""
        yield from ()
