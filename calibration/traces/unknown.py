"""What a trace does not tell, and what is taken in its place.

Leaves out: what would tell it.
Checked: tests/test_trace_fit.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from .fitted import Fitted, ModelFit, Number, Unidentified
from .naming import bare_name
from .turns import Course

__all__ = ["notes_of", "unidentified"]

_MUCH = 0.02
_FEW = 0.005
_ALWAYS = (
    ("network", "no span has it apart", "inside of the latencies"),
    ("queueing at the provider", "a call's span has it inside", "inside of a call; load adds none"),
    ("limits of rate, concurrency", "a trace has no refusals", "none"),
    ("prices", "a trace has none", "none: costs are 0"),
    ("turns if inference is faster", "each model has one speed", "the same turns (elasticity 0)"),
    ("turns with other models, tools", "tasks had these", "the same turns and choices"),
    ("the system's own prompt", "a prompt is one number", "part of the first prompt, and new"),
    ("errors that have one cause", "no span tells causes", "by task, or after an error"),
    ("longer times than were seen", "they were not seen", "none"),
)


def unidentified(fitted: Fitted, found: Sequence[Course]) -> tuple[Unidentified, ...]:
    """Return what these tasks cannot tell."""
    out = [Unidentified(*one) for one in _ALWAYS]
    out += [*_models_together(fitted), *_of_tasks(fitted)]
    if any(one.task.problem for one in found) and fitted.problems < fitted.tasks:
        out.append(
            Unidentified(
                "what attempts have in common", f"{fitted.tasks} tasks are of {fitted.problems} problems",
                "nothing; intervals count problems",
            )
        )  # fmt: skip
    return tuple(out)


def _models_together(fitted: Fitted) -> Iterator[Unidentified]:
    """Yield what is not known of models; of several for one reason as one."""
    names: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for what, name, why, default in _of_models(fitted):
        names[what, why, default].append(name)
    for (what, why, default), of in names.items():
        yield Unidentified(f"{what}: {of[0] if len(of) == 1 else f'{len(of)} models'}", why, default)


def _of_models(fitted: Fitted) -> Iterator[tuple[str, str, str, str]]:
    """Yield what is not known of each model: what, its name, why, and what is taken."""
    for one in fitted.models:
        name = _name(one)
        if one.law is None:
            yield "time per token", name, one.why_no_law, "times as measured, whatever the tokens"
        elif one.cache_hit is not None and not one.cache_hit.n:
            yield "cache hits", name, "cached tokens are not counted", "all that was sent before is cached"
        if one.first_token is None:
            yield "time to first token", name, "no span tells it", "the time of the whole call"
        if one.stubs > _FEW:
            of = f"characters / {one.characters.value:.2g}" if one.characters is not None else "none"
            yield "output tokens", name, f"{one.stubs:.0%} of counts cannot be true", of


def _name(one: ModelFit) -> str:
    """Return a model's bare name, and whose tasks call it where these are not called after it."""
    name = bare_name(one.component)
    return name if one.task_class in ("", one.component) else f"{name} in {bare_name(one.task_class)}"


def _of_tasks(fitted: Fitted) -> list[Unidentified]:
    out = []
    if fitted.arrivals.kind == "unknown":
        out.append(Unidentified("arrivals", fitted.arrivals.why, "so far apart that none waits"))
    between = fitted.arrivals.cv
    if fitted.arrivals.kind == "open" and between is not None and not _may_be(between, 1.0):
        why = f"the time between tasks has a cv of {between.value:.2g}"
        out.append(Unidentified("bursts of arrivals", why, "none: times between are Poisson's, at the same rate"))
    for one in fitted.classes:
        if one.hidden.value > 0:
            what = f"model calls inside of tools of {one.name}"
            why = f"{one.hidden.value:.2g} per task are in a tool's call"
            out.append(Unidentified(what, why, "the tool's latency, at any model's speed"))
        if one.overlap.value > _MUCH:
            why = f"{one.overlap.value:.0%} of the time of turns overlaps"
            out.append(Unidentified(f"what runs side by side in {one.name}", why, "one after the other: too long"))
        gap = sum(agent.gap.mean.value * agent.gap.mean.n for agent in one.agents) / one.tasks
        if one.seconds.mean.value > 0 and gap > _MUCH * one.seconds.mean.value:
            why = f"{gap / one.seconds.mean.value:.0%} of the time is in no call"
            out.append(Unidentified(f"gaps of {one.name}", why, "a cost of each turn (`dispatch`)"))
    return out


def _may_be(one: Number, value: float) -> bool:
    """Return whether an interval holds a value; without one, it may."""
    return one.low is None or one.high is None or one.low <= value <= one.high


def notes_of(fitted: Fitted) -> tuple[str, ...]:
    """Return what was simplified or joined."""
    out = [
        f"{one.key} stands for {len(one.members)} tools that were seldom called"
        for one in fitted.tools
        if len(one.members) > 1
    ]
    for each in fitted.classes:
        for agent in each.agents:
            if agent.context.resets is not None and agent.context.resets.value > _MUCH:
                share = f"{agent.context.resets.value:.0%}"
                out.append(
                    f"{share} of the prompts of {agent.name or each.name} are shorter than the last: contexts do not shrink here"
                )
    return tuple(dict.fromkeys(out))
