"""A run, small enough to keep and to mail: what a report shows of it beside its summary.

Leaves out: the tasks themselves (`runfolder`), and words.
Checked: tests/test_digest.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from .cohorts import Cohorts, cohorts
from .moments import Moments, moments
from .result import Result
from .summarize import Cut, cut_warmup
from .summary import Summary
from .task_steps import StepMap, TaskExample, examples, step_map, tasks_to_look_at

__all__ = ["RunDigest", "digest"]


@dataclass(frozen=True, slots=True)
class RunDigest:
    """A run: its summary, where the time of its median and its slowest tasks goes, some of these tasks, and one replication over time.

    `steps` is None where no spans were kept.
    """

    summary: Summary
    cohorts: Cohorts
    steps: StepMap | None
    examples: tuple[TaskExample, ...]
    moments: Moments


def digest(
    results: Sequence[Result], summary: Summary, warmup: Cut, again: Callable[[Sequence[int]], Result] | None = None
) -> RunDigest:
    """Return the digest of a run's replications; `again(tasks)` runs the first anew, keeping the spans of these tasks.

    It is asked once, and only where too few spans were kept. Without it, steps and examples are of the tasks that have some.
    """
    _, views = cut_warmup(results, warmup)
    seen: Sequence[Result] = views
    evenly: Collection[int] | None = None
    over, near = ([], []) if again is None else tasks_to_look_at(views[0])
    if again is not None and near:
        seen, evenly = [again(sorted({*over, *near})).after(views[0].start)], frozenset(over)
    by = summary.confidence
    return RunDigest(summary, cohorts(views, by), step_map(seen, evenly), examples(seen[0]), moments(results, views))
