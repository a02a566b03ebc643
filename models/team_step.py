"""The step in which several agents work together, in a topology.

Leaves out: how it runs (`team`); the graphs (`topology`).
Checked: tests/test_team.py, tests/data/bad.
"""

from collections.abc import Iterator
from typing import Literal

from ..sim.engine.spec import Name, PositiveCount
from .step import Path, Step

Topology = Literal["single", "chain", "supervisor", "hierarchy", "blackboard", "debate", "swarm", "graph"]


class TeamStep(Step):
    """Agents that work together: `members` names the step or workflow that each role runs."""

    team: Topology
    members: dict[Name, Name]
    size: PositiveCount = 1

    def branches(self) -> Iterator[tuple[Path, str]]:
        """Yield what the roles run."""
        for role, name in self.members.items():
            yield ("members", role), name
