"""A fit as a scenario for people: every number with its sample and interval, and what no trace can tell with what is taken for it.

A turn is a step of its agent: `NAME` for all turns of a visit but the last, `NAME-last` for that. What a turn takes beyond its calls is the
orchestrator's `dispatch`, for all agents alike. Nothing is shared between tasks, so nothing queues.

Leaves out: estimating (`estimate`), and how good it is (`holdout`). Contexts of several agents of a task: their calls last as measured,
whatever they are sent. Failed tasks: they run as the others. Attempts of tools that were made again: they are time of their turn.
Checked: tests/test_trace_scenario.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...models.scenario import Scenario
from ...sim.engine import units
from .agents import EARLY
from .fitted import ClassFit, Fitted, ModelFit, Number, Table, ToolFit
from .naming import NO_MODEL, name_of
from .scenario_flow import Names, names_of, workflows
from .scenario_head import head
from .written import amount, by_moments, factor, interval, latency, percent, quantiles, seen
from .yaml_lines import Entry, Flow, lines

__all__ = ["scenario_of", "scenario_text"]

TASKS, REPLICATIONS = 1000, 5
STEPS_OVER = 20  # times the longest task that was seen: a loop over agents ends some time
LEAST_STEPS = 1000

_SLOW = 1 / 60  # 1/s: where it is not known when tasks come
_TINY = 1e-9
_FEW_ERRORS = 0.03  # of all errors of tools: a tool that makes fewer is not told apart by task


def scenario_of(fitted: Fitted, *, tasks: int = TASKS, seed: int = 0) -> Scenario:
    """Return the scenario of a fit, with so many tasks."""
    return Scenario.from_text("\n".join(lines(tuple(_body(fitted, names_of(fitted), "fit", tasks, seed)))))


def scenario_text(fitted: Fitted, *, name: str, files: Sequence[str], seed: int = 0, run: str = "scenario.yaml") -> str:
    """Return the text of a scenario that is valid; `files` are names of files, `run` is what commands in its head call it.

    Raises ScenarioError should it not be valid.
    """
    names = names_of(fitted)
    legal = name_of(name, "fit")
    body = list(lines(tuple(_body(fitted, names, legal, TASKS, seed))))
    top = head(fitted, names.models, files=files, run=run, left_out=_left_out(fitted))
    text = "\n".join([*top, *body, ""])
    Scenario.from_text(text, run)
    return text


def _body(fitted: Fitted, names: Names, name: str, tasks: int, seed: int) -> Iterator[Entry]:
    single = len(fitted.classes) == 1
    yield Entry("coordsim", "1")
    yield Entry("name", name)
    yield Entry("question", "Where does the time of these tasks go, and what would change it?")
    yield Entry("seed", str(seed))
    yield Entry(
        "runtime",
        {"preset": "external-orchestrator", "connection": "in-process", "notification": "event", "tools": "overlapped"},
        "assumed",
    )
    yield _workload(fitted, tasks, _request(fitted.classes[0]) if single else None)
    if not single:
        yield Entry("classes", below=tuple(_classes(fitted, names)))
    yield Entry("context", {"grows": "true"}, "false: nothing that was sent before is sent again")
    longest = max((turn for one in fitted.classes for agent in one.agents for turn in agent.turns.values), default=1)
    yield Entry("max_steps", str(max(LEAST_STEPS, STEPS_OVER * longest)))
    yield Entry("agents", below=tuple(_agents(fitted, names)))
    yield Entry("models", below=tuple(_models(fitted, names)))
    if fitted.tools:
        yield Entry("tools", below=tuple(_tools(fitted, names)))
    faults = tuple(_faults(fitted, names))
    if faults:
        yield Entry("faults", below=faults)
    yield Entry("orchestrator", below=(_dispatch(fitted),))
    first, *others = workflows(fitted, names)
    yield Entry("workflow", below=first.below)
    if others:
        yield Entry("workflows", below=tuple(others))
    yield Entry("replications", str(REPLICATIONS))


# ---------------------------------------------------------------------------------------------------------------------
# What comes


def _workload(fitted: Fitted, tasks: int, request: Entry | None) -> Entry:
    arrivals = fitted.arrivals
    below: list[Entry]
    if arrivals.kind == "closed" and arrivals.users is not None:
        closed: dict[str, Flow] = {"users": str(max(1, round(arrivals.users.value)))}
        if arrivals.think is not None:
            closed["think"] = quantiles(arrivals.think, units.DURATION)
        below = [Entry("arrivals", {"closed": closed}, seen(arrivals.users, units.NUMBER))]
    elif arrivals.kind == "open" and arrivals.rate is not None and arrivals.rate.value > 0:
        said = seen(arrivals.rate, units.RATE)
        if arrivals.cv is not None:
            said += f"; the time between has a cv of {amount(arrivals.cv.value, units.NUMBER, 2)} (1 is Poisson)"
        below = [Entry("arrivals", {"poisson": amount(arrivals.rate.value, units.RATE)}, said)]
    else:
        below = [
            Entry(
                "arrivals", {"poisson": amount(_SLOW, units.RATE)}, "assumed: nothing is shared, so it changes nothing"
            )
        ]
    below += [
        Entry("tasks", str(tasks)),
        Entry("warmup", "0 s", "nothing queues, so the first tasks are as the others"),
    ]
    return Entry("workload", below=(*below, *([request] if request else [])))


def _request(one: ClassFit) -> Entry | None:
    context = one.agents[0].context if one.agents else None
    if context is None or context.start is None:
        return None
    start, early = context.start, context.early
    said = f"first prompt: {amount(start.mean.value, units.TOKENS)}, {interval(start.mean, units.TOKENS)}"
    if early is not None:
        mean = start.mean.value + early.value
        start = Table(
            start.levels,
            tuple(value + early.value for value in start.values),
            Number(mean, None, None, start.mean.n, "tokens", ""),
        )
        said += f"; and {amount(early.value, units.TOKENS)} that the first {EARLY} turns add beyond what later ones do, n = {early.n:,}"
    return Entry("request", by_moments(start, units.TOKENS), said)


def _classes(fitted: Fitted, names: Names) -> Iterator[Entry]:
    for number, one in enumerate(fitted.classes):
        weight = f"{interval(one.weight, units.SHARE)}; {one.tasks:,} tasks"
        below = [Entry("weight", f"{100 * one.weight.value:.4g}", weight)]
        request = _request(one)
        below += [request] if request else []
        if number:
            below.append(Entry("workflow", names.classes[one.name]))
        yield Entry(names.classes[one.name], below=tuple(below))


# ---------------------------------------------------------------------------------------------------------------------
# Who works, and with what


def _agents(fitted: Fitted, names: Names) -> Iterator[Entry]:
    for number, one in enumerate(fitted.classes):
        for place, agent in enumerate(one.agents):
            model = NO_MODEL if agent.model is None else names.models[agent.model]
            below = [Entry("model", model)]
            output = agent.context.output
            if output is not None:
                said = f"tokens a call: mean {seen(output.mean, units.TOKENS)}"
                below.append(Entry("output", quantiles(output, units.TOKENS), said))
            yield Entry(names.agents[number, place], below=tuple(below))
        if not one.agents:
            yield Entry(f"nobody-{number}", {"model": NO_MODEL}, "these tasks call nothing")


def _models(fitted: Fitted, names: Names) -> Iterator[Entry]:
    by_law = _by_law(fitted)
    for one in fitted.models:
        yield Entry(names.models[one.key], below=tuple(_model(one, one.key in by_law)), comment=_who(one))
    if any(not one.agents or any(agent.model is None for agent in one.agents) for one in fitted.classes):
        yield Entry(NO_MODEL, {"kind": "api"}, "of turns that call no model: takes no time")


def _by_law(fitted: Fitted) -> set[str]:
    """Return the models whose calls last by their tokens: those of classes with one agent alone, whose context is known."""
    several = {agent.model for one in fitted.classes if len(one.agents) > 1 for agent in one.agents}
    unknown = {
        agent.model
        for one in fitted.classes
        for agent in one.agents
        if agent.context.start is None or agent.context.output is None
    }
    return {one.key for one in fitted.models if one.law is not None and one.key not in several | unknown}


def _who(one: ModelFit) -> str:
    return f"{one.component}: {one.calls:,} calls of {one.tasks:,} tasks"


def _model(one: ModelFit, by_law: bool) -> Iterator[Entry]:
    yield Entry("kind", "api")
    law = one.law
    if law is not None and by_law:
        for name, number, dimension in (
            ("overhead", law.overhead, units.DURATION),
            ("new", law.new, units.TIME_PER_TOKEN),
            ("cached", law.cached, units.TIME_PER_TOKEN),
            ("output", law.output, units.TIME_PER_TOKEN),
        ):
            yield Entry(name, amount(max(number.value, 0.0), dimension), interval(number, dimension))
        said = "" if law.error is None else f"; on unseen runs the law is off by {percent(law.error)} at the median"
        yield Entry(
            "residual", quantiles(law.residual, units.NUMBER), f"mean {seen(law.residual.mean, units.NUMBER)}{said}"
        )
        if one.cache_hit is not None:
            yield Entry("cache_hit", percent(one.cache_hit.value), interval(one.cache_hit, units.SHARE))
    else:
        why = one.why_no_law or "several agents share a task, and whose context a call takes in is not known"
        said = f"a whole call, whatever its tokens: mean {seen(one.seconds.mean, units.DURATION)}; no law, as {why}"
        yield Entry("overhead", quantiles(one.seconds, units.DURATION), said)
    yield from _per_task(one.per_task)
    retries = one.retries
    if retries is not None and retries.rate.value > 0:
        wait = max(0.0, retries.seconds.mean.value + retries.backoff.mean.value - one.seconds.mean.value)
        backoff: dict[str, Flow] = {"first": amount(wait, units.DURATION), "factor": "1"}
        said = f"a failed attempt took {amount(retries.seconds.mean.value, units.DURATION, 3)}, and the wait after it "
        said += f"{amount(retries.backoff.mean.value, units.DURATION, 3)}; here it takes a whole call, and the wait is the rest"
        yield Entry("handling", {"retry": {"attempts": str(max(10, retries.most + 1)), "backoff": backoff}}, said)


def _per_task(one: Number) -> Iterator[Entry]:
    text = factor(one.value)
    if text is not None:
        said = f"how tasks differ; its log's variance: {interval(one, units.NUMBER)}"
        yield Entry("per_task", text, said)


def _tools(fitted: Fitted, names: Names) -> Iterator[Entry]:
    for one in fitted.tools:
        yield Entry(one.key, below=tuple(_tool(one, _has_luck(one, fitted))), comment=_what(one, names))


def _has_luck(one: ToolFit, fitted: Fitted) -> bool:
    """Return whether tasks differ in a tool's errors, and these are many enough for that to be seen."""
    wrong = sum(other.calls * other.errors.rate.value for other in fitted.tools)
    return one.errors.concentration is not None and one.calls * one.errors.rate.value > _FEW_ERRORS * wrong > 0


def _what(one: ToolFit, names: Names) -> str:
    joined = f"; {len(one.members)} tools joined" if len(one.members) > 1 else ""
    kind = "" if one.kind == "tool" else f" ({one.kind})"
    classes = [short for name, short in names.classes.items() if name in one.task_class.split(" and ")]
    whose = f", in tasks of {' and '.join(classes)}" if one.task_class else ""
    return f"{one.component}{kind}: {one.calls:,} calls of {one.tasks:,} tasks{whose}{joined}"


def _tool(one: ToolFit, luck: bool) -> Iterator[Entry]:
    mean = one.latency.mean
    yield latency(
        "latency", one.latency, f"mean {amount(mean.value, units.DURATION, 3)}, {interval(mean, units.DURATION)}"
    )
    yield from _per_task(one.per_task)
    for name, table in (("request", one.request), ("response", one.response)):
        if table is not None:
            yield Entry(name, amount(table.mean.value, units.SIZE, 3), f"the mean, n = {table.mean.n:,}")
    yield _result(one.result)
    errors = one.errors
    if errors.rate.value > 0 and not luck:
        said = interval(errors.rate, units.SHARE)
        chain: dict[str, Flow] = {"rate": percent(errors.rate.value)}
        if errors.after_error is not None and errors.after_none is not None and errors.concentration is None:
            chain = {"rate": percent(errors.after_none.value), "after_error": percent(errors.after_error.value)}
            said = f"all: {seen(errors.rate, units.SHARE)}; after an error {seen(errors.after_error, units.SHARE)}"
        yield Entry("errors", chain, said)


def _result(one: Table | None) -> Entry:
    """Return what a call adds to the context."""
    if one is None:
        return Entry("result", "0 tokens", "not known")
    return Entry("result", by_moments(one, units.TOKENS), f"tokens it adds, {interval(one.mean, units.TOKENS)}")


def _faults(fitted: Fitted, names: Names) -> Iterator[Entry]:
    """Yield errors whose rate differs between tasks, and attempts of models that are made again."""
    for one in fitted.tools:
        spread = one.errors.concentration
        if spread is not None and _has_luck(one, fitted):
            error: dict[str, Flow] = {
                "rate": percent(one.errors.rate.value),
                "concentration": amount(spread.value, units.NUMBER),
            }
            said = f"{interval(one.errors.rate, units.SHARE)}; tasks differ by more than chance"
            yield Entry(f"{one.key}-errors", {"on": f"tools.{one.key}", "error": error}, said)
    for model in fitted.models:
        if model.retries is not None and model.retries.rate.value > 0:
            rate = model.retries.rate
            key = names.models[model.key]
            yield Entry(
                f"{key}-attempts",
                {"on": f"models.{key}", "error": percent(rate.value)},
                f"of attempts: {seen(rate, units.SHARE)}",
            )


def _dispatch(fitted: Fitted) -> Entry:
    """Return what a turn takes beyond its calls, over all agents: each as often as it takes turns."""
    gaps = [agent.gap for one in fitted.classes for agent in one.agents]
    parts = [(gap, gap.mean.n) for gap in gaps if gap.mean.value > _TINY]
    turns = sum(gap.mean.n for gap in gaps)
    if not parts or turns <= 0:
        return Entry("dispatch", "0 s", "calls explain all of the time")
    mean = sum(gap.mean.value * weight for gap, weight in parts) / turns
    said = f"a turn beyond its calls: mean {amount(mean, units.DURATION)}"
    none = turns - sum(weight for _, weight in parts)
    if len(parts) == 1 and none <= _TINY * turns:
        return Entry(
            "dispatch", quantiles(parts[0][0], units.DURATION), said + ", " + interval(parts[0][0].mean, units.DURATION)
        )
    items: list[Flow] = [
        {"weight": f"{100 * weight / turns:.4g}", "of": quantiles(gap, units.DURATION)} for gap, weight in parts
    ]
    items += [{"weight": f"{100 * none / turns:.4g}", "of": "0 s"}] if none > _TINY * turns else []
    return Entry("dispatch", comment=said + ", over all agents", below=(Entry("mixture", items=tuple(items)),))


def _left_out(fitted: Fitted) -> Iterator[tuple[str, str, str]]:
    """Yield what this scenario leaves out of the fit: what, why, and what it takes."""
    failed = sum(one.failures.value * one.weight.value for one in fitted.classes)
    if failed > 0:
        yield "what makes tasks fail", f"{percent(failed)} of them failed", "all run as those that were done"
    if any(len(one.agents) > 1 for one in fitted.classes):
        yield (
            "what each of several agents knows",
            "whose context a call takes in is in no trace",
            "calls last as measured",
        )
    again = max((one.retries.rate.value for one in fitted.tools if one.retries is not None), default=0.0)
    if again > 0:
        why = f"up to {percent(again)} of a tool's calls"
        yield "attempts of tools that were made again", why, "their time and waits are part of `dispatch`"
