"""Exploring a scenario live: a coarse answer at once, then a better one, each compared with the scenario as it is.

An exploration is asked for a setting, a place for each control, and works in small pieces: one replication each, so that whoever
asks can look at another setting in between. What was found is kept, and work that was left goes on where it was. First come two short
replications, then those of the scenario, one by one. The setting and the scenario as it is meet the same draws, and differences
are taken replication by replication.

Leaves out: which controls there are (`explore_controls`); widgets, threads and waiting (`coordsim.explorer`).
Checked: tests/test_explorer.py.
"""

import re
import shlex
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..sim.analysis.contrast import Contrast
from ..sim.analysis.replicate import Settings
from ..sim.analysis.result import Result
from ..sim.analysis.statistics import Estimate
from ..sim.analysis.summary import Summary
from ..sim.report.numbers import counted, show
from ..sim.report.sections.further import scenario_of as as_command
from .bounds import bounds
from .explore_controls import Control
from .provenance import loaded, provenance
from .variants import Change, Variants, scenario_of, simulate_text

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["Exploration", "Seen", "Setting"]

Setting = tuple[int, ...]  # the place of each control
K = TypeVar("K")
V = TypeVar("V")

LEAST = 2  # replications, before anything is shown: one has no spread
COARSE = 10  # of the tasks, one in so many makes a coarse answer ...
FEW = 20  # ... but at least so many
MOST_KEPT = 256  # answers, the one asked for least lately goes first
MOST_OPEN = 16  # settings whose replications are kept to go on from


@dataclass(frozen=True)
class _Stage:
    """How much is run: `tasks` of each replication (None: as the scenario says), and how many replications."""

    tasks: int | None
    replications: int


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of a setting: the scenario as it is (`base`), with the setting (`changed`), and how far they are apart.

    `differences` are changed less base, paired. `planned` replications make the answer `final`; a coarse one has fewer tasks.
    """

    setting: Setting
    base: Summary
    changed: Summary
    differences: Mapping[str, Estimate]
    planned: int
    tasks: int | None
    is_coarse: bool
    is_moved: bool
    warnings: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether nothing more will be run."""
        return not self.is_coarse and self.changed.replications >= self.planned

    @property
    def estimates(self) -> str:
        """The answer in one line: T_total, its p95 and the share of coordination, with intervals and their count."""
        of = self.changed.metrics
        told = [f"T_total {show(of['response_time_mean'], 's').text}", f"p95 {show(of['response_time_p95'], 's').text}",
                f"coordination {show(of['coordination_share'], 'share').text}"]  # fmt: skip
        done = counted(self.changed.replications, "replication")
        if self.is_coarse:
            return f"{', '.join(told)}; coarse: {done} of {self.tasks} tasks"
        return f"{', '.join(told)}; {self.changed.replications} of {counted(self.planned, 'replication')}"

    @property
    def change(self) -> str:
        """How far it is from the scenario as it is, in one line."""
        if not self.is_moved:
            return "This is the scenario as it is."
        total, share = self.differences["response_time_mean"], self.differences["coordination_share"]
        points = f"{show(share, 'share').text.replace(' %', '')} points"
        sign = "+" if share.value > 0 else ""
        return f"Against the scenario as it is: {_told(total)}; coordination {sign}{points} (paired)."


class Exploration:
    """A scenario with controls, and what is known of its settings. `runs` counts replications, and never falls.

    Raises ValueError for fewer than two replications, which have no spread to tell.
    """

    def __init__(self, scenario: "Scenario", controls: Sequence[Control], replications: int | None = None) -> None:
        wanted = max(scenario.replications, LEAST) if replications is None else replications
        if wanted < LEAST:
            raise ValueError(f"`replications` must be at least {LEAST}, so that there is an interval; got {wanted}")
        self.scenario = scenario
        self.controls = tuple(controls)
        self.now: Setting = tuple(one.now for one in self.controls)
        self.runs = 0
        self._settings = Settings(warmup=scenario.workload.warmup, confidence=scenario.confidence)
        self._stages = tuple(_stages(scenario, wanted))
        self._variants = Variants(scenario)
        self._results: dict[tuple[str, _Stage], list[Result]] = {}
        self._seen: dict[Setting, Seen] = {}
        self._bases: dict[tuple[_Stage, int], Summary] = {}

    def known(self, setting: Setting) -> Seen | None:
        """Return the final answer to a setting, if it is there."""
        return self._seen.get(setting)

    def scenario_at(self, setting: Setting) -> "Scenario":
        """Return the scenario with a setting. Raises ScenarioError where its parts do not go together."""
        self._check(setting)
        return scenario_of(self._variants.key(self._changes(setting)))

    def work(self, setting: Setting) -> Generator[Seen | None, None, None]:
        """Yield after each replication what is known by then, better and better; None where that is nothing new.

        Whoever stops asking stops the work. Raises ScenarioError where the parts of a setting do not go together.
        """
        self._check(setting)
        found = self._seen.pop(setting, None)
        if found is not None:
            self._seen[setting] = found  # the last to go
            yield found
            return
        changes = self._changes(setting)
        for stage in self._stages:
            yield from self._of_stage(setting, changes, stage)

    def _of_stage(self, setting: Setting, changes: Sequence[Change], stage: _Stage) -> Iterator[Seen | None]:
        own, base = (self._key(changes, stage), stage), (self._key((), stage), stage)
        while True:
            done, there = self._runs_of(own), self._runs_of(base)
            while len(there) < len(done) or len(there) < LEAST:
                self._run(base)
                yield None
            while len(done) < LEAST:
                self._run(own)
                yield None
            if len(done) <= len(there):
                seen = self._look(setting, stage, done)
                if seen.is_final:
                    self._keep(seen, own, base)
                yield seen
                if len(done) >= stage.replications:
                    return
            self._run(own)
            yield None

    def _run(self, what: tuple[str, _Stage]) -> None:
        """Run the next replication of a variant."""
        results = self._runs_of(what)
        results.append(simulate_text(what[0], self.scenario.seed, len(results)))
        self.runs += 1

    def _runs_of(self, what: tuple[str, _Stage]) -> list[Result]:
        found = self._results.pop(what, [])
        self._results[what] = found
        return found

    def _look(self, setting: Setting, stage: _Stage, done: Sequence[Result]) -> Seen:
        """Sum up the replications of a setting, and compare them with as many of the scenario as it is."""
        count = len(done)
        place = stage, count
        if place not in self._bases:
            there = self._runs_of((self._key((), stage), stage))
            self._bases[place] = self._settings.summarize(there[:count])
        base = self._bases[place]
        is_moved = any(self._changes(setting))
        changed = self._settings.summarize(done) if is_moved else base
        is_coarse = stage is not self._stages[-1]
        doubts = (*bounds(self.scenario_at(setting)).unstable, *(() if is_coarse else _about_these(changed.warnings)))
        told = tuple(re.sub(r"\bSCENARIO\b", lambda _match: self._named(setting), one) for one in doubts)
        return Seen(
            setting, base, changed, _differences(base, changed), stage.replications, stage.tasks, is_coarse, is_moved, told,
        )  # fmt: skip

    def _named(self, setting: Setting) -> str:
        """Return the scenario with a setting, as a command names it."""
        sets = [word for path, value in self._changes(setting) for word in ("--set", f"{path}={value}")]
        return " ".join([self._name, *([shlex.join(sets)] if sets else [])])

    @cached_property
    def _name(self) -> str:
        return as_command(provenance(self.scenario, f"coordsim.explore({loaded(self.scenario)})"))

    def _keep(self, seen: Seen, own: tuple[str, _Stage], base: tuple[str, _Stage]) -> None:
        """Keep a final answer instead of its replications, and no more than there is room for."""
        self._seen[seen.setting] = seen
        for stage in self._stages:
            if own != base:
                self._results.pop((self._key(self._changes(seen.setting), stage), stage), None)
        bases = {(self._key((), stage), stage) for stage in self._stages}
        _trim(self._seen, MOST_KEPT, {self.now})
        _trim(self._results, MOST_OPEN, bases)

    def _key(self, changes: Sequence[Change], stage: _Stage) -> str:
        few = () if stage.tasks is None else (("workload.tasks", str(stage.tasks)),)
        return self._variants.key((*changes, *few))

    def _changes(self, setting: Setting) -> tuple[Change, ...]:
        return tuple(
            change for one, place in zip(self.controls, setting, strict=True) for change in one.options[place].changes
        )

    def _check(self, setting: Setting) -> None:
        if len(setting) != len(self.controls):
            raise ValueError(f"a setting must have a place for each of {len(self.controls)} controls; got {setting}")
        for one, place in zip(self.controls, setting, strict=True):
            if not 0 <= place < len(one.options):
                raise ValueError(f"{one.name} has settings 0 to {len(one.options) - 1}; got {place}")


def _stages(scenario: "Scenario", replications: int) -> Iterator[_Stage]:
    """Yield a coarse stage, where the scenario says how many tasks there are and fewer make sense, and the whole one."""
    tasks = scenario.workload.tasks
    few = None if tasks is None else max(tasks // COARSE, FEW)
    if tasks is not None and few is not None and few <= tasks // 2:
        yield _Stage(few, LEAST)
    yield _Stage(None, replications)


def _differences(base: Summary, changed: Summary) -> dict[str, Estimate]:
    """Return how far each number of the second is from the first, replication by replication."""
    by = Contrast(base.confidence)
    return {
        name: by.difference(np.asarray(changed.samples[name]), np.asarray(values))
        for name, values in base.samples.items()
        if name in changed.samples
    }


def _about_these(warnings: Sequence[str]) -> Iterator[str]:
    """Yield the warnings but for those about p99, which is not told here."""
    yield from (one for one in warnings if not one.startswith("p99 "))


def _told(total: Estimate) -> str:
    """Return whether T_total rises or falls, and by how much."""
    if not total.excludes(0.0):
        return f"no difference of T_total is told, {show(total, 's').text}"
    low, high = sorted((abs(total.low), abs(total.high)))
    amount = Estimate(abs(total.value), low, high, total.confidence, total.n, total.method)
    return f"T_total {'rises' if total.value > 0 else 'falls'} by {show(amount, 's').text}"


def _trim(kept: dict[K, V], most: int, spare: set[K]) -> None:
    """Drop what was asked for least lately, but for what to `spare`."""
    for one in [key for key in kept if key not in spare][: max(len(kept) - most, 0)]:
        del kept[one]
