"""Whether something goes wrong at a call: by a rate, by what became of the task's last call, or by the luck of its problem.

Independent calls share nothing. With `after_error` the calls of a branch are a Markov chain that begins as after a call that went
well, so the n-th call (from 1) goes wrong with probability mean * (1 - (after_error - rate)^n): in short tasks less than `mean`.
With `concentration` the calls of a problem have one rate in common, drawn from a Beta distribution (a beta-binomial mixture).

A chain remembers one call, a mixture all of them; what was recorded of a coding agent (shared/data/agent_runs) lies between.
Errors of its tools are correlated by .13 from one call to the next, as a chain fits, but by .10 in the mean over the second to the
fifth call on, where the chain says .02 and less. There a mixture with `concentration` 9 fits: 1 / (1 + 9) at any distance.

Leaves out: both at once; errors that depend on which tool it is, on load, or on time.
Checked: tests/test_chance.py, against theory and those runs.
Source: Gilbert, Bell System Technical Journal 39 (1960) (errors in bursts); Skellam, J. Roy. Stat. Soc. B 10 (1948) (beta-binomial).
"""

from collections.abc import Callable
from copy import copy
from functools import lru_cache

import numpy as np
from numpy.random import Generator

from ..sim.engine.branch import Branch
from ..sim.engine.draws import Draws
from .faults import Chance

__all__ = ["Drawn"]

_KEPT = 4096  # problems whose rate is held in memory; drawn again it is the same


class Drawn:
    """Draws, call by call, whether something goes wrong. `name` is that of its stream.

    Tasks `problems` apart are about the same problem; without it each is about one of its own. A Markov chain is kept in bit number
    `bit` of `branch.state.struck`, one per branch and `Drawn`: a parallel branch goes on from a copy of its parent's.
    """

    def __init__(self, draws: Draws, name: str, spec: Chance, problems: int | None = None, bit: int = 0) -> None:
        self.mean = mean_rate(spec)
        self._rate = spec.rate
        self._after = spec.rate if spec.after_error is None else spec.after_error
        self._mask = 0 if spec.after_error is None else 1 << bit
        self._problems = problems
        self._uniform = draws.uniform(name)
        self._rate_of: Callable[[int], float] | None = None
        if spec.concentration is not None and 0 < spec.rate < 1:  # else there is but one rate
            propensity = draws.stream(f"{name}/propensity", _beta(spec.rate, spec.concentration))
            self._rate_of = lru_cache(_KEPT)(lambda problem: propensity.draw(problem, 0))

    def drawn_as(self, draws: Draws, name: str) -> "Drawn":
        """Return the same chance with draws of its own: rates of problems, and the memory of a chain, are shared."""
        other = copy(self)
        other._uniform = draws.uniform(name)
        return other

    def hits(self, branch: Branch, ordinal: int, lane: int | None = None) -> bool:
        """Return whether the `ordinal`-th call of a branch goes wrong. Ask once per call, in the order of the branch's calls.

        `lane` is where it draws, if not in that of the branch.
        """
        rate = self._rate
        if rate == 0:
            return False
        lane = branch.lane if lane is None else lane
        if self._mask:
            return self._hits_next(branch, ordinal, lane)
        if self._rate_of is not None:
            task = branch.index
            rate = self._rate_of(task if self._problems is None else task % self._problems)
        return self._uniform.draw(branch.index, ordinal, lane) < rate

    def _hits_next(self, branch: Branch, ordinal: int, lane: int) -> bool:
        """Take a step of the Markov chain."""
        state = branch.state
        rate = self._after if state.struck & self._mask else self._rate
        hit = self._uniform.draw(branch.index, ordinal, lane) < rate
        state.struck = state.struck | self._mask if hit else state.struck & ~self._mask
        return hit


def mean_rate(spec: Chance) -> float:
    """Return the share of calls that go wrong, of many: of a Markov chain in its steady state."""
    if spec.never or spec.after_error is None:
        return spec.rate
    return spec.rate / (1 + spec.rate - spec.after_error)


def _beta(mean: float, concentration: float) -> Callable[[Generator, int], np.ndarray]:
    """Return a sampler of rates: Beta, of variance mean * (1 - mean) / (1 + concentration)."""
    a, b = mean * concentration, (1 - mean) * concentration
    return lambda rng, n: rng.beta(a, b, n)
