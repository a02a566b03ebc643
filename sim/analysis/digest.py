"""A run, small enough to keep and to mail: what a report shows of it beside its summary.

Leaves out: the tasks themselves (`runfolder`), and words.
Checked: tests/test_digest.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .cohorts import Cohorts, StepMap, TaskExample, cohorts, examples, step_map
from .moments import Moments, moments
from .result import Result
from .summarize import Cut, cut_warmup
from .summary import Summary

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
    results: Sequence[Result], summary: Summary, warmup: Cut, again: Callable[[int], Result] | None = None
) -> RunDigest:
    """Return the digest of a run's replications; `again(task)` runs the first anew, keeping the spans of one task.

    Without `again`, the examples are of tasks whose spans were kept.
    """
    _, views = cut_warmup(results, warmup)
    by = summary.confidence
    return RunDigest(summary, cohorts(views, by), step_map(views), examples(views[0], again), moments(results, views))
