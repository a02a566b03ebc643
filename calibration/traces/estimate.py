"""From measured tasks to all numbers of a scenario.

Tasks are alike inside of a class: a name that the trace gives them, and the model they call most where tasks differ in it. Each class
has agents, models and tools of its own; a tool is pooled over classes where it does not differ.

Leaves out: tasks that run inside of each other; a change over time.
Checked: tests/test_trace_fit.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...sim.trace.measured import TaskTrace
from .agents import EARLY, Told, agent_fits, flow_of
from .arrivals import arrivals_of
from .choice import joined
from .effects import Outcomes, error_fit
from .factors import Factor, factor_of
from .fitted import OTHER, ClassFit, ErrorFit, Fitted, ModelFit, Number, ToolFit
from .model_law import ModelName, Options, model_fit
from .naming import Keys, short_names
from .pooled import SMALL, Share, pooled
from .tables import by_count, number, ratio, share, table
from .tokens import growth_of
from .tools import Used, tool_fit
from .turns import Course, Turn, courses
from .unknown import notes_of, unidentified

__all__ = ["classes_of", "estimate"]

_MOST_CLASSES = 12
_LEAST_TASKS = 3
_LEAST_SHARE = 0.02


def estimate(tasks: Sequence[TaskTrace], *, arrivals: bool, seed: int = 0, intervals: bool = True) -> Fitted:
    """Return what the tasks tell. `arrivals` says whether their arrivals are known; without `intervals` the costly ones are left out.

    Raises ValueError where there is no task with a call.
    """
    found = [one for one in courses(tasks) if one.visits]
    if not found:
        raise ValueError("needs at least one task with a call of a model or a tool; got none")
    for number_, course in enumerate(found):
        course.number = number_
    clusters = _clusters(found)
    groups = classes_of(found)
    keys, options = Keys(short_names(groups)), Options(intervals, seed)
    fits = [_Class(name, group, found, clusters, keys, options) for name, group in groups.items()]
    tools = _tools(fits, clusters, keys)
    whole = Fitted(
        tasks=len(found),
        calls=sum(len(one.task.calls) for one in found),
        problems=int(clusters.max()) + 1,
        classes=tuple(one.fitted(tools) for one in fits),
        models=tuple(model for one in fits for model in one.models),
        tools=tuple(dict.fromkeys(tools.values())),
        arrivals=arrivals_of([one.task for one in found], arrivals),
        unidentified=(),
    )
    return replace(whole, unidentified=unidentified(whole, found), notes=notes_of(whole))


def _clusters(found: list[Course]) -> np.ndarray:
    """Return the number of the problem of each task: one of its own where the trace names none."""
    labels = [one.task.problem or f"\0{one.number}" for one in found]
    return np.unique(labels, return_inverse=True)[1].ravel()


def classes_of(found: Sequence[Course]) -> dict[str, list[Course]]:
    """Return the tasks by class; classes of few tasks are joined."""
    kinds = Counter((one.task.task_class, one.model) for one in found)
    models, names = {model for _, model in kinds}, {name for name, _ in kinds}

    def named(course: Course) -> str:
        name, model = course.task.task_class, course.model
        if len(models) == 1 or not model or name == model:
            return name or "task"
        return model if len(names) == 1 else f"{name} {model}"

    groups: dict[str, list[Course]] = defaultdict(list)
    for one in found:
        groups[named(one)].append(one)
    ranked = [name for name, _ in by_count({name: len(group) for name, group in groups.items()})]
    least = max(_LEAST_TASKS, _LEAST_SHARE * len(found))
    few = [name for place, name in enumerate(ranked) if place >= _MOST_CLASSES or len(groups[name]) < least]
    if len(few) < 2 or len(ranked) == 1:
        few = []
    out = {name: groups[name] for name in ranked if name not in set(few)}
    if few:
        rest = sorted((one for name in few for one in groups[name]), key=lambda one: one.number)
        out.setdefault(OTHER, []).extend(rest)
    return out


@dataclass
class _Class:
    """A class while it is fitted."""

    name: str
    group: list[Course]
    everyone: list[Course]
    clusters: np.ndarray
    keys: Keys
    options: Options
    models: list[ModelFit] = field(default_factory=list)
    told: dict[tuple[str, str], Told] = field(default_factory=dict)
    used: dict[str, Used] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)  # what a tool is called in the fit
    errors: ErrorFit | None = None

    def __post_init__(self) -> None:
        self._gather_tools()
        self._fit_models()
        self._lay_growth()

    def _lay_growth(self) -> None:
        """Lay to tools what they brought, so that contexts grow, on the whole, as they were measured to.

        Where an output is longer than what the prompt grew by, nothing was brought; what is too much there is too little elsewhere. Where the
        first turns add more than later ones, the later ones tell; what is only called in the first is told by these.
        """
        first = EARLY if any(told.early is not None for told in self.told.values()) else 0
        parts = [one for told in self.told.values() for _, one in told.growth]
        grown, output, brought = (
            (sum(each) for each in zip(*(one.late(first) for one in parts), strict=True)) if parts else (0.0,) * 3
        )
        kept = min(1.0, max(0.0, (grown - output) / brought)) if brought > 0 else 1.0
        for least in (first, 0):
            told_late = {name for name, used in self.used.items() if used.results}
            for call, value, at in (each for one in parts for each in one.results):
                name = self.called[call.component]
                if at >= least and name not in told_late:
                    self.used[name].results[id(call)] = value * kept

    @property
    def tasks(self) -> int:
        """Of all classes: arrays by task are of this size."""
        return len(self.everyone)

    def _gather_tools(self) -> None:
        calls = [(one.number, call) for one in self.group for turn in one.turns for call in turn.tools]
        whole = sum(one.task.end - one.task.arrival for one in self.group)
        self.called = joined([(call.component, call.seconds) for _, call in calls], whole)
        for at, call in calls:
            used = self.used.setdefault(self.called[call.component], Used(self.called[call.component]))
            used.calls.append(call)
            used.tasks.append(at)
        for one in self.group:
            for attempt in one.attempts:
                name = self.called.get(attempt.call.component)
                if attempt.call.kind != "llm" and name is not None:
                    self.used[name].attempts.append((one.number, attempt))
        wrong = np.array([bool(call.error) for _, call in calls], dtype=bool)
        where = np.array([at for at, _ in calls], dtype=int)
        types = tuple(call.error for _, call in calls if call.error)
        self.errors = error_fit(Outcomes(wrong, where, types, self.clusters))

    def _fit_models(self) -> None:
        by_model: dict[str, list[tuple[tuple[str, str], Course, list[Turn]]]] = defaultdict(list)
        for one in self.group:
            own: dict[tuple[str, str], list[Turn]] = defaultdict(list)
            for visit in one.visits:
                own[visit.agent] += visit.turns
            for who, turns in own.items():
                if who[1]:
                    by_model[who[1]].append((who, one, turns))
        attempts = [(one.number, tried) for one in self.group for tried in one.attempts if tried.call.kind == "llm"]
        for model, _ in by_count({model: len(parts) for model, parts in by_model.items()}):
            parts = by_model[model]
            own_attempts = [(at, one) for at, one in attempts if one.call.component == model]
            alone = len(self.keys.classes) == 1
            name = ModelName(self.keys.of(model, self.name, "model"), model, "" if alone else self.name)
            fit, tokens = model_fit(
                name, [turns for _, _, turns in parts],
                [one.number for _, one, _ in parts], self.tasks, self.clusters, own_attempts, self.options,
            )  # fmt: skip
            self.models.append(fit)
            begin = 0
            for who, one, turns in parts:
                told = self.told.setdefault(who, Told(fit.key))
                grown = growth_of(turns, tokens, begin)
                count = sum(turn.model is not None for turn in turns)
                told.take(tokens, begin, count, one.number, grown)
                begin += count

    def factors(self) -> tuple[Number, dict[int, float]]:
        """Return the factor that the calls of each tool of a task have in common, and the task's own by id of a call."""
        cells = [
            (at, place, call)
            for place, used in enumerate(self.used.values())
            for at, call in zip(used.tasks, used.calls, strict=True)
        ]
        if not cells:
            return number(0.0, 0, "1", "no calls"), {}
        means = [float(np.mean(used.seconds)) for used in self.used.values()]
        found = factor_of(
            np.array([call.seconds for *_, call in cells]), np.array([means[place] for _, place, _ in cells]),
            np.array([at for at, *_ in cells]), np.array([place for _, place, _ in cells]),
        )  # fmt: skip
        return found.variance, {id(call): float(own) for (*_, call), own in zip(cells, found.own, strict=True)}

    def share_of(self, name: str) -> Share:
        """Return what a tool is of the class."""
        used = self.used[name]
        brought = [used.results.get(id(call), 0.0) for call in used.calls]
        sums = [np.bincount(used.tasks, one, self.tasks) for one in (used.seconds, used.wrong, brought)]
        calls = sum(len(one.calls) for one in self.used.values())
        grown = sum(told.grown for told in self.told.values())
        seconds = sum(one.task.end - one.task.arrival for one in self.group)
        return Share(np.array(sums), np.bincount(used.tasks, minlength=self.tasks), np.array([seconds, calls, grown]))

    def fitted(self, tools: dict[tuple[str, str], ToolFit]) -> ClassFit:
        """Return the class, when its tools have their keys."""
        keys = {component: tools[self.name, name].key for component, name in self.called.items()}
        numbers = np.array([one.number for one in self.group])
        inside = np.bincount(numbers, minlength=self.tasks).astype(float)
        failed = np.bincount(numbers, [bool(one.task.failure) for one in self.group], self.tasks)
        types = Counter(one.task.failure for one in self.group if one.task.failure)
        agents, places = agent_fits(self.group, self.told, keys, self.clusters, self.tasks)
        assert self.errors is not None
        seconds = np.array([one.task.end - one.task.arrival for one in self.group])
        hidden = np.bincount(numbers, [one.hidden for one in self.group], self.tasks)
        flow, rounds = flow_of(self.group, places, self.clusters)
        told = "model calls per task inside of a tool's call"
        return ClassFit(
            name=self.name,
            tasks=len(self.group),
            weight=share(inside, np.ones(self.tasks), "share of all tasks", self.clusters),
            agents=agents,
            flow=flow,
            rounds=rounds,
            failures=share(failed, inside, "tasks that failed", self.clusters),
            failure_types=by_count(types),
            errors=self.errors,
            hidden=ratio(hidden, inside, "1", told, self.clusters),
            overlap=_overlap(self.group),
            seconds=table(seconds, _mean(seconds, numbers, self.clusters, self.tasks)),
        )


def _mean(seconds: np.ndarray, numbers: np.ndarray, clusters: np.ndarray, tasks: int) -> Number:
    of = np.bincount(numbers, minlength=tasks)
    return ratio(np.bincount(numbers, seconds, tasks), of, "s", "mean over tasks", clusters)


def _overlap(group: list[Course]) -> Number:
    """Return the share of the time of turns during which the task's next turn ran already."""
    over = total = 0.0
    for one in group:
        for turn in one.turns:
            total += turn.longest
            over += min(max(0.0, -turn.gap), turn.longest)
    return number(
        over / total if total > 0 else 0.0, len(group), "share", "time of turns that had the next one beside them"
    )


def _tools(fits: list[_Class], clusters: np.ndarray, keys: Keys) -> dict[tuple[str, str], ToolFit]:
    """Return the tools by class and name: one for several classes where it does not matter that they differ, or may be chance."""
    out: dict[tuple[str, str], ToolFit] = {}
    factors = {one.name: one.factors() for one in fits}
    for name in dict.fromkeys(name for one in fits for name in one.used):
        having = [one for one in fits if name in one.used]
        shares = {one.name: one.share_of(name) for one in having}
        for group in pooled([shares[one.name] for one in having]):
            own = [having[at] for at in group]
            used = own[0].used[name]
            for one in own[1:]:
                used = used.and_(one.used[name])
            much = max(own, key=lambda one: len(one.used[name].calls))  # whose errors are told best
            assert much.errors is not None
            everywhere = len(own) == len(having)
            key = keys.of(name, "" if everywhere or len(own) > 1 else own[0].name, "tool")
            called = "" if len(own) == len(fits) else " and ".join(one.name for one in own)
            short = all(shares[one.name].moved[0] < SMALL for one in own)
            factor = _factor_of(used, [] if short else [factors[one.name] for one in own])
            fit = tool_fit(key, called, used, much.errors, much.tasks, clusters, factor, short)
            out.update({(one.name, name): fit for one in own})
    return out


def _factor_of(used: Used, classes: Sequence[tuple[Number, Mapping[int, float]]]) -> Factor:
    """Return the factor of a tool's calls: that of the class, or the mean of those of several."""
    if not classes:
        few = number(0.0, len(used.calls), "1", "it takes too little of the time for a factor to matter: taken as none")
        return Factor(few, np.ones(len(used.calls)))
    own = np.array([next(found[id(call)] for _, found in classes if id(call) in found) for call in used.calls])
    first = classes[0][0]
    if len(classes) == 1:
        return Factor(first, own)
    weights = np.array([sum(call.seconds for call in used.calls if id(call) in found) for _, found in classes])
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(classes), 1 / len(classes))
    value, low, high = (
        float(weights @ [one.value if end is None else end for one, end in ends])
        for ends in ([(one, getattr(one, name)) for one, _ in classes] for name in ("value", "low", "high"))
    )
    return Factor(Number(value, low, high, sum(one.n for one, _ in classes), "1", f"mean of classes: {first.how}"), own)
