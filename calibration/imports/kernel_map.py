"""What a user says of kernels: which operation, with which options and sizes, a kernel of this name is a call of.

    kernels:
      - name: "*flash_fwd*"        # * stands for anything, ? for one character; the first that matches holds
        op: attention.prefill
        options: {dtype: bf16}
        sizes: {batch: 1, heads: 32, kv_heads: 8, head_size: 128, query: 2048, context: 0}

Leaves out: sizes that differ between the calls of one kernel; a trace with shapes tells those of products.
Checked: tests/test_import_traces.py.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self

from pydantic import model_validator

from ...sim.engine.errors import ProfileError, did_you_mean, listed
from ...sim.engine.source import load
from ...sim.engine.spec import Spec, SpecProblem, SpecProblems, validate
from ...sim.profile.ops import OPS, law_name

__all__ = ["KernelMap", "KernelRule", "read"]


class KernelRule(Spec):
    """One rule: kernels whose name matches are calls of `op` with these options, at these sizes."""

    name: str
    op: str
    options: dict[str, str] = {}
    sizes: dict[str, float] = {}

    @property
    def law(self) -> str:
        """The name of the law."""
        return law_name(self.op, self.options)


class KernelMap(Spec):
    """Rules, in the order in which they are tried."""

    kernels: tuple[KernelRule, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> Self:
        found = list(_problems(self))
        if found:
            raise SpecProblems(found)
        return self

    def rule(self, kernel: str) -> KernelRule | None:
        """Return the first rule that the name of a kernel matches."""
        return next((rule for rule in self.kernels if fnmatchcase(kernel, rule.name)), None)


def read(path: str | Path | None) -> KernelMap:
    """Return the rules in a file; none where there is no file. Raises ProfileError with every mistake and its place."""
    if path is None:
        return KernelMap()
    return validate(KernelMap, load(path, ProfileError), ProfileError, across=_problems)


def _problems(given: KernelMap) -> Iterator[SpecProblem]:
    for number, rule in enumerate(given.kernels):
        path = ("kernels", number)
        if rule.op not in OPS:
            yield SpecProblem((*path, "op"), f"no operation is called `{rule.op}`{did_you_mean(rule.op, OPS)}")
            continue
        op = OPS[rule.op]
        for name in rule.options:
            if name not in op.options:
                remedy = did_you_mean(name, op.options) or f"; it has {listed(op.options) or 'none'}"
                yield SpecProblem((*path, "options", name), f"`{op.name}` has no option `{name}`{remedy}", at_key=True)
        for name in rule.sizes:
            if name not in op.sizes:
                remedy = did_you_mean(name, op.sizes) or f"; it has {listed(op.sizes) or 'none'}"
                yield SpecProblem((*path, "sizes", name), f"`{op.name}` has no size `{name}`{remedy}", at_key=True)
        missing = [name for name in op.sizes if name not in rule.sizes]
        if missing:
            yield SpecProblem((*path, "sizes"), f"must give every size of `{op.name}`; {listed(missing)} is missing")
