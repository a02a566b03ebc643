"""What a trace says, small enough to keep and to mail: the digest of its tasks as that of a run, and what only calls and files tell.

Leaves out: how it is found out (`trace_calls`, `models.trace_digest`), and words.
Checked: tests/test_trace_digest.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from .digest import RunDigest
from .statistics import Estimate

__all__ = [
    "Calls", "Context", "Ended", "Failed", "FileRead", "Gap", "Gaps", "Harm", "Parallel", "Read", "Remark", "Slow", "Sum", "TraceDigest", "Turn",
]  # fmt: skip

_MUCH_OVERLAP = 0.1  # of the time of model calls


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one component (`kind` llm, embedding, tool, retriever or human), or all that one agent made (`kind` agent).

    `seconds` of a call are by 'mean', 'p50', 'p95' and 'p99'; `tokens` by 'new', 'cached' and 'output', means a call, of those whose counts
    are known. `critical` are seconds a task on the critical path, `share` of T_total. Intervals are over tasks: calls of one go together.
    """

    kind: str
    component: str
    calls: int
    tasks: int
    per_task: Estimate
    seconds: dict[str, Estimate]
    tokens: dict[str, Estimate]
    errors: int
    error_rate: Estimate
    critical: Estimate
    share: Estimate


@dataclass(frozen=True, slots=True)
class Gap:
    """Time on the critical path that no span explains, by where it lies.

    It is `inside` an agent or workflow ('' for none), behind the kind of call `before` and ahead of that `after` ('' for the start and the end of
    what it is inside of, or of the task). There are `count` such gaps in `tasks` tasks; `seconds` in all, `longest` the longest of them (s); `per_task` seconds, over all tasks.
    """

    inside: str
    before: str
    after: str
    count: int
    tasks: int
    seconds: float
    longest: float
    per_task: Estimate
    share: Estimate


@dataclass(frozen=True, slots=True)
class Gaps:
    """Gaps of `tasks` tasks whose spans were kept, `among` so many; the largest first."""

    tasks: int
    among: int
    rows: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """Calls of one component that failed with one type of error: how many, in how many tasks, their seconds (in all, and on the critical path)."""

    kind: str
    component: str
    error: str
    calls: int
    tasks: int
    retried: int
    seconds: float
    critical: float


@dataclass(frozen=True, slots=True)
class Harm:
    """Errors and what they cost: tasks done with a failed call against those without one, which is an association and no cause.

    `seconds` and `turns` are by how much T_total (s) and the calls of models are more in tasks with one. `critical` are seconds a task of
    failed calls on the critical path.
    """

    rows: tuple[Failed, ...]
    calls: int
    failed: int
    with_error: int
    without: int
    seconds: Estimate
    turns: Estimate
    critical: Estimate


@dataclass(frozen=True, slots=True)
class Parallel:
    """Work of calls over the time in which there was any (`width`; 1: never two at once), and that time as a share of T_total."""

    kind: str
    width: Estimate
    busy: Estimate


@dataclass(frozen=True, slots=True)
class Turn:
    """The n-th call of a model by a task's main agent: tokens of the prompt, of these from the cache, and of the answer; of `tasks` tasks."""

    number: int
    tasks: int
    prompt: Estimate
    cached: Estimate
    output: Estimate


@dataclass(frozen=True, slots=True)
class Context:
    """How the prompt grows: by turn, and by `growth` tokens from one call to the next; `cached` is the share of prompts from the cache."""

    turns: tuple[Turn, ...]
    growth: Estimate
    cached: Estimate


@dataclass(frozen=True, slots=True)
class FileRead:
    """A file that was read."""

    name: str
    format: str
    bytes: int
    spans: int
    remark: str


@dataclass(frozen=True, slots=True)
class Remark:
    """What was done to some spans: `fate` is repaired, dropped, guessed or noted; `most` is by how much at most (s), 0 where that says nothing.

    `first` says where in its file the first of them stands, '' where that is not known. One that is `minor` is told only where all are.
    """

    fate: str
    what: str
    spans: int
    most: float
    first: str = ""
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """What became of every span of the files; `clock` is when the earliest began, '' where files have no common clock."""

    files: tuple[FileRead, ...]
    remarks: tuple[Remark, ...]
    spans: int
    kept: int
    dropped: int
    clock: str


@dataclass(frozen=True, slots=True)
class Sum:
    """Calls of one kind over all tasks, to hold against the files: seconds of the union of their intervals, and with overlaps twice (`work`)."""

    kind: str
    calls: int
    union: float
    work: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Tasks by what became of them (`status` done, failed or unfinished): T_total (s), of one that had not ended until the last of its spans.

    `seconds` on the critical path by category, and of work `beside` it, are those of all these tasks.
    """

    status: str
    tasks: int
    shortest: float
    mean: float
    longest: float
    seconds: dict[str, float]
    beside: float


@dataclass(frozen=True, slots=True)
class Slow:
    """A task that took long: its number, its id in the files, T_total (s), and the largest category with its `share`."""

    task: int
    trace: str
    task_class: str
    status: str
    total: float
    largest: str
    share: float


@dataclass(frozen=True, slots=True)
class TraceDigest:
    """A trace: the digest of its tasks, as of a run of no replications; then calls, gaps, errors, parallelism, context; what was read.

    Calls are known of every `stride`-th task. Without `arrivals` it is not known when tasks arrive. `wall` is T_total of all tasks (s),
    whatever became of them. `few` has T_total of each task done (s), ascending, where they are too few for intervals: then only what these took is
    told. `overlap` is the share of the time of model calls in which a tool of the same agent was under way and did not enclose it. `doubts` are
    sentences. `ended` and `slowest` are of tasks whatever became of them. A task is one trace, or session, as `by` says.
    """

    name: str
    run: RunDigest
    stride: int
    arrivals: bool
    calls: tuple[Calls, ...]
    gaps: Gaps
    harm: Harm
    parallel: tuple[Parallel, ...]
    context: Context
    read: Read
    wall: float
    sums: tuple[Sum, ...]
    few: tuple[float, ...]
    overlap: float
    doubts: tuple[str, ...]
    ended: tuple[Ended, ...] = ()
    slowest: tuple[Slow, ...] = ()
    by: str = "trace"

    @property
    def overlapping(self) -> bool:
        """Whether models and tools overlap so much that neither which of them takes longer nor T_coordination can be told."""
        return self.overlap > _MUCH_OVERLAP
