"""Parallel branches of a task: each is taken through a walk of its own, up to the join of all, and what the join costs.

Leaves out: when a join releases whom (`sim.engine.branch`); which walks there are (`steps`, `team_graph`).
Checked: tests/test_steps.py.
"""

import hashlib
from collections.abc import Generator, Sequence
from typing import Any

from ..sim.engine.branch import Branch, Join
from ..sim.engine.draws import lane
from .context import STRAGGLER_COORDINATION, STRAGGLER_EXCESS, Context
from .failure import TaskFailed

__all__ = ["fork_number", "in_parallel", "lag", "straggled", "until_join"]


def in_parallel(
    branch: Branch, join: Join, fork: int, visit: int, walks: list[Any], prompts: Sequence[float] = ()
) -> Generator[None, Any, None]:
    """Run each of `walks` (a function from a branch to its generator) as a parallel branch, and wait for the join.

    `prompts` are those of the callers of models, where the branches may call any.
    """
    # All forked before any runs: none may begin with what another has done.
    children = [
        branch.fork(lane(branch.lane, fork, visit, number), branch.state.fork()) for number in range(len(walks))
    ]
    for child, walk in zip(children, walks, strict=True):
        child.state.diverge((branch.index, child.lane))
        join.add(child, until_join(child, walk(child), join))
    yield
    straggled(branch, join)
    for child in join.branches:
        child.state.detach()
    # In the order of the branches, not of their ends: what the context becomes must not depend on who was faster.
    branch.state.join([child.state for child in join.branches if child in join.arrived], prompts)


def straggled(branch: Branch, join: Join) -> None:
    """The join is over: fail if it has, and keep what it cost that the last branch came later than the mean."""
    if join.failure is not None:
        raise TaskFailed(join.failure)
    lag(branch, join.arrived)


def lag(branch: Branch, arrived: Sequence[Branch], last: Branch | None = None) -> None:
    """Count by how much the last of parallel branches came later than their mean, in all and in coordination.

    `last` is the one whose path goes on (None: of the last that arrived). Where work with the others outlasts those that come
    after it, they cost nothing.
    """
    last = last or arrived[-1]
    state: Context = branch.state
    state.excess += last.state.excess + max(0.0, last.time - sum(child.time for child in arrived) / len(arrived))
    useful = branch.ledger.useful
    coordination = [sum(child.parts) - sum(child.parts[account] for account in useful) for child in arrived]
    state.excess_coordination += (
        last.state.excess_coordination + coordination[arrived.index(last)] - sum(coordination) / len(coordination)
    )
    if not branch.lane:
        branch.facts[STRAGGLER_EXCESS] = state.excess
        branch.facts[STRAGGLER_COORDINATION] = state.excess_coordination


def until_join(branch: Branch, walk: Generator[None, Any, None], join: Join) -> Generator[None, Any, None]:
    """Take a parallel branch through its walk, and to the join."""
    failure = None
    try:
        yield from walk
    except TaskFailed as failed:
        failure = str(failed)
        branch.let_go()
    join.arrive(branch, failure)
    yield  # over: nobody continues it


def fork_number(path: str) -> int:
    """Return the number that stands for a fork in `lane`: of its path, so that other steps leave its draws alone."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")
