"""What a probe is: an operation, the cases to measure, and how to get ready to call it once.

A probe knows nothing of clocks, repetitions or budgets; `measure` does. A call does the operation once. It gets its turn,
a number that rises from call to call, and takes the inputs of that turn, so that caches are not what is measured.

Leaves out: what a law makes of the samples (`fits`).
Checked: tests/test_measure.py, tests/test_kernel_probes.py, tests/test_coordination_probes.py.
"""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

from ..sim.profile.ops import law_name

__all__ = ["Call", "Case", "Found", "Missing", "Probe", "matches"]

Call = Callable[[int], float | None]
"""Do the operation once, with the inputs of this turn. A float returned is the seconds it took by its own measurement,
where a clock around the call would tell something else; None leaves the timing to the caller."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: an operation with options, at sizes."""

    op: str
    options: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)

    @property
    def law(self) -> str:
        """The name of the law that the case is a point of."""
        return law_name(self.op, self.options)

    @property
    def name(self) -> str:
        """The law's name and the sizes, such as `gemm[dtype=bf16] m=1 n=64 k=64`."""
        return " ".join([self.law, *(f"{name}={value:g}" for name, value in self.sizes.items())])


@dataclass(frozen=True, slots=True)
class Probe:
    """How to measure one law: its cases, in any order, and what makes a case ready to be called.

    `clock` is `device` where the work runs on the device (CUDA events where it is one), else `host`. With `pace`, the caller
    rests that many seconds between calls and times each alone: a crossing in a tight loop is not the one a program sees.
    """

    op: str
    options: Mapping[str, str]
    cases: tuple[Case, ...]
    prepare: Callable[[Case], AbstractContextManager[Call]]
    clock: Literal["device", "host"] = "host"
    pace: float = 0.0

    @property
    def law(self) -> str:
        """The name of the law that the probe measures."""
        return law_name(self.op, self.options)


@dataclass(frozen=True, slots=True)
class Missing:
    """A law that cannot be measured here, and why: `there is one device; all_reduce needs two`."""

    law: str
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """What can be measured here, and what cannot."""

    probes: tuple[Probe, ...]
    missing: tuple[Missing, ...] = ()

    def __add__(self, other: "Found") -> "Found":
        """Return both together."""
        return Found(self.probes + other.probes, self.missing + other.missing)


def matches(law: str, patterns: Sequence[str]) -> bool:
    """Whether a law is among `patterns`: operations (`gemm`), names, or names with `*`; brackets stand for themselves."""
    op = law.partition("[")[0]
    return any(op == one or fnmatch.fnmatchcase(law, one.replace("[", "[[]")) for one in patterns)
