"""The levers of a scenario: what could be faster, bigger or fewer, found in its parts and known by name.

A lever multiplies what it is about. A distribution keeps its shape: every parameter that is an amount is multiplied, so that the
same random number gives the factor times the same value. A part that takes time also has a lever for all of its times together,
of which bandwidths are divided. Whole numbers move by whole steps, at least one; shares end at 100 %.

Leaves out: policies of what to do about failures, prices, shapes of transformers, and amounts that are 0 or not stated, which
no factor changes. A path of the user's may be any amount, whole number or distribution (`lever_at`).
Checked: tests/test_levers.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..sim.engine import paths, units
from ..sim.engine.distributions import AnyDraw
from ..sim.engine.errors import did_you_mean
from ..sim.engine.paths import Key
from ..sim.engine.shorthand import Shorthand
from ..sim.engine.spec import Quantity, Spec, Whole
from ..sim.engine.units import Dimension
from .encoder import Encoder
from .lever_parts import CodecPart, DrawPart, LoadPart, NumberPart, Part, WholePart
from .llm import Llm
from .modality import Modality
from .serializer import Serializer
from .variants import ASIDE
from .workflow import AgentStep, Workflow

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["Kind", "Lever", "LeverError", "Levers", "lever_at", "levers"]

Kind = Literal["time", "rate", "capacity", "size", "share", "load"]

Fields = tuple[tuple[str, Kind], ...]

_CALLED: Fields = (
    ("latency", "time"), ("invoke", "time"), ("per_byte", "time"), ("connect", "time"), ("rate", "capacity"),
    ("concurrency", "capacity"), ("request", "size"), ("response", "size"), ("result", "size"), ("passage", "size"),
    ("top_k", "size"), ("errors.rate", "share"),
)  # fmt: skip
_FIELDS: dict[str, Fields] = {
    "tools": _CALLED,
    "retrievers": _CALLED,
    "memories": (
        ("read", "time"), ("write", "time"), ("bandwidth", "rate"), ("concurrency", "capacity"), ("entry", "size"),
        ("recall", "size"),
    ),
    "models": (
        ("overhead", "time"), ("prefill", "time"), ("decode", "time"), ("attention", "time"), ("tokenize", "time"), ("new", "time"),
        ("cached", "time"), ("output", "time"), ("restore.overhead", "time"), ("restore.bandwidth", "rate"),
        ("replicas", "capacity"), ("concurrency", "capacity"), ("batching.sequences", "capacity"),
        ("batching.tokens", "capacity"), ("memory.kv", "capacity"), ("limits.requests", "capacity"),
        ("limits.tokens", "capacity"), ("limits.concurrency", "capacity"), ("disaggregated.prefill", "capacity"),
        ("disaggregated.decode", "capacity"), ("prefix_cache", "share"), ("cache_hit", "share"),
    ),
    "encoders": (
        ("latency", "time"), ("per_unit", "time"), ("replicas", "capacity"), ("concurrency", "capacity"),
    ),
    "evaluators": (("latency", "time"), ("prompt", "size"), ("output", "size"), ("accept", "share")),
    "agents": (("prompt", "size"), ("output", "size"), ("concurrency", "capacity")),
    "modalities": (
        ("preprocess.latency", "time"), ("preprocess.per_unit", "time"), ("amount", "size"),
        ("stream.length", "size"), ("bytes", "size"), ("tokens", "size"), ("representation", "size"), ("errors", "share"),
    ),
    "serializers": (
        ("encode.overhead", "time"), ("encode.bandwidth", "rate"), ("decode.overhead", "time"),
        ("decode.bandwidth", "rate"),
    ),
}  # fmt: skip
_ORCHESTRATOR: Fields = (
    ("dispatch", "time"), ("assemble", "time"), ("poll_interval", "time"), ("device_dispatch", "time"),
    ("checkpoint.write.overhead", "time"), ("checkpoint.write.bandwidth", "rate"), ("concurrency", "capacity"),
)  # fmt: skip
_STEP: Fields = (("human", "time"), ("endpoint", "time"), ("repeat", "size"), ("rounds", "size"), ("copies", "size"),
         ("size", "size"), ("skip", "share"))  # fmt: skip
_LAW: Fields = (("overhead", "time"), ("bandwidth", "rate"))
_STACK: Fields = tuple(
    (f"{end}.{field}", kind)
    for end in ("client.send", "client.receive", "server.receive", "server.send")
    for field, kind in _LAW
)
_LINK: Fields = (("latency", "time"), ("bandwidth", "rate"), ("overhead", "time"))
_NO_PART = (*ASIDE, "coordsim", "seed", "replications", "confidence", "slo", "workload.tasks", "workload.horizon",
            "workload.warmup")  # fmt: skip
_KIND_OF: dict[str, Kind] = {
    "bandwidth": "rate",
    "rate": "rate",
    "token rate": "rate",
    "size": "size",
    "number of tokens": "size",
}


class LeverError(ValueError):
    """A path that no factor can change: the rule, what was got, the remedy."""


@dataclass(frozen=True)
class Lever:
    """What a factor multiplies. `name` is what it is called (`search`, `models.llm.decode`), `paths` what it changes.

    `members` names the levers that a lever of a whole component stands for; of another it is empty. A part that is divided
    (a bandwidth, where times are multiplied) has the power -1.
    """

    name: str
    kind: Kind
    parts: tuple[tuple[Part, int], ...]
    members: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that it changes."""
        return tuple(part.path for part, _ in self.parts)

    @property
    def is_whole(self) -> bool:
        """Whether it moves by whole steps."""
        return any(isinstance(part, WholePart) for part, _ in self.parts)

    @property
    def amount(self) -> float:
        """What it is now, in base units; nan where it is several things."""
        return self.parts[0][0].amount if len(self.parts) == 1 else math.nan

    @property
    def dimension(self) -> Dimension | None:
        """The dimension of its amount; None where it is several things."""
        return self.parts[0][0].dimension if len(self.parts) == 1 else None

    @property
    def now(self) -> str:
        """What it is now, as text."""
        return self.text(1.0)

    def text(self, factor: float) -> str:
        """Return what it is at a factor, as text: a mean, for a distribution."""
        if len(self.parts) > 1:
            return "as it is" if factor == 1 else f"x {factor:.4g}"
        ((part, power),) = self.parts
        return part.text(factor**power)

    def reach(self, factor: float) -> float:
        """Return the factor that can be had: the nearest whole step, and no share above 100 %; 1 where there is none."""
        return self.parts[0][0].reach(factor) if len(self.parts) == 1 else factor

    def at(self, factor: float) -> list[tuple[str, str]]:
        """Return the changes (path, YAML) that multiply it by `factor` > 0."""
        if not 0 < factor < math.inf:
            raise ValueError(f"`factor` must be > 0 and finite, but got {factor}")
        return [] if factor == 1 else [one for part, power in self.parts for one in part.changes(factor**power)]


@dataclass(frozen=True)
class Levers:
    """The levers of a scenario, those of whole components first, and what was left out, in sentences."""

    found: tuple[Lever, ...]
    notes: tuple[str, ...]

    @property
    def apart(self) -> tuple[Lever, ...]:
        """Levers of which no two change the same: whole components, and what belongs to none."""
        within = {name for one in self.found for name in one.members}
        return tuple(one for one in self.found if one.name not in within)

    def by_name(self, name: str) -> Lever | None:
        """Return the lever of a name or a path."""
        for one in self.found:
            if name == one.name or one.paths == (name,):
                return one
        return None


def levers(scenario: Scenario) -> Levers:
    """Return the levers of a scenario."""
    used = _used(scenario)
    found: list[Lever] = []
    idle: list[str] = []
    for section, fields in _FIELDS.items():
        for name in getattr(scenario, section):
            path = f"{section}.{name}"
            if (section, name) in used:
                said_elsewhere = _superseded(getattr(scenario, section)[name])
                found += _of_component(scenario, path, tuple(one for one in fields if one[0] not in said_elsewhere))
                if section == "encoders" and not any(one.kind == "time" and path in one.paths[0] for one in found):
                    idle.append(f"`{path}` has no lever of its time, which its shape and the profile tell")
            else:
                idle.append(f"`{path}` is no lever: no task uses it")
    found += _of_codecs(scenario, used)
    found += _of_component(scenario, "orchestrator", _ORCHESTRATOR)
    for number, link in enumerate(scenario.network.links):
        ends = "-".join(link.between or (f"{link.source}", f"{link.target}"))
        found += _of_component(scenario, f"network.links.{number}", _LINK, f"network.{ends}")
    found += _of_component(scenario, "network", (("loopback", "time"),), "network.loopback")
    found += _of_component(scenario, "network.stack", _STACK)
    for name in scenario.network.nodes:
        found += _leaves(scenario, f"network.nodes.{name}", (("cores", "capacity"),))
    for path, step in _steps(scenario):
        found += _leaves(scenario, path, tuple(one for one in _STEP if one[0] in step.model_fields_set))
    found += _leaves(scenario, "workload", (("request", "size"),))
    for name in scenario.classes:
        found += _leaves(scenario, f"classes.{name}", (("request", "size"),))
    found += _leaves(scenario, "context", (("bytes_per_token", "size"),))
    found.append(Lever("load", "load", ((LoadPart.of(scenario), 1),)))
    if scenario.network.loopback is None:
        idle.append("what two processes of one node cross is no lever: `network.loopback` is not stated")
    return Levers(tuple(_short(sorted(found, key=lambda one: not one.members))), tuple(idle))


def _superseded(one: Any) -> tuple[str, ...]:
    """Return the fields of a component that must be left out, since another of its fields tells what they would."""
    if isinstance(one, Llm):
        of_shape = "batching.sequences", "batching.tokens", "memory.kv"
        instead = ("prefill", "decode", "concurrency", "prefix_cache") if one.shape is not None else of_shape
        return (*instead, "replicas") if one.disaggregated is not None else instead
    if isinstance(one, Encoder) and one.model is not None:
        return "replicas", "concurrency"
    return ("amount",) if isinstance(one, Modality) and one.stream is not None else ()


def _of_component(scenario: Scenario, path: str, fields: Fields, name: str | None = None) -> Iterator[Lever]:
    """Yield the levers of a component, and one for all of its times where it has several."""
    leaves = list(_leaves(scenario, path, fields, name))
    times = [one for one in leaves if one.kind == "time" or (one.kind == "rate" and one.paths[0].endswith("bandwidth"))]
    model = scenario.models.get(path.removeprefix("models."))
    if isinstance(model, Llm) and model.shape is not None:
        speed = _lever(scenario, f"{path}.speed", "rate")
        assert speed is not None
        leaves.append(replace(speed, name=f"{path}.speed"))
        times = leaves[-1:]
    if len(times) == 1 and times[0].kind == "time" and path != "orchestrator":
        leaves[leaves.index(times[0])] = replace(times[0], name=name or path)
    elif len(times) > 1 or (times and times[0].kind == "rate"):  # one bandwidth alone: a part that is faster
        parts = tuple((part, -power if one.kind == "rate" else power) for one in times for part, power in one.parts)
        yield Lever(name or path, "time", parts, tuple(one.name for one in times))
    yield from leaves


def _leaves(scenario: Scenario, path: str, fields: Fields, name: str | None = None) -> Iterator[Lever]:
    for field, kind in fields:
        found = _lever(scenario, f"{path}.{field}", kind)
        if found is not None:
            yield (
                replace(found, name=f"{path if name is None else name}.{field}") if name != f"{path}.{field}" else found
            )


def _lever(scenario: Scenario, path: str, kind: Kind) -> Lever | None:
    """Return the lever of what is at a path; None where nothing is, or where no factor changes it."""
    try:
        part = _part(scenario, path)
    except LookupError:
        return None
    return None if part is None or not part.amount else Lever(path, kind, ((part, 1),))


def lever_at(scenario: Scenario, path: str) -> Lever:
    """Return the lever of any path of a scenario. Raises LeverError."""
    if any(path == one or path.startswith(f"{one}.") for one in _NO_PART):
        raise LeverError("says what is run and measured, and is no part of the system")
    try:
        part = _part(scenario, path)
    except LookupError:
        known = [name for one in levers(scenario).found for name in (one.name, *one.paths)]
        close = (
            did_you_mean(path, known)
            or f"; there are {', '.join(f'`{name}`' for name in dict.fromkeys(known[:4]))}, ..."
        )
        raise LeverError(f"no lever, and no path of the scenario{close}") from None
    if part is None:
        raise LeverError("must be an amount, a whole number or a distribution that the scenario states")
    if not part.amount:
        raise LeverError("is 0, which no factor changes; give it a value with `--set` first")
    return Lever(path, _kind_of(path, part), ((part, 1),))


def _kind_of(path: str, part: Part) -> Kind:
    """Return what an amount at a path is: by its dimension, and a plain factor by its name."""
    if path.endswith(".speed"):
        return "rate"
    known: Kind = "capacity" if isinstance(part, WholePart) else "time"
    if part.dimension is None:
        return known
    return _KIND_OF.get(part.dimension.name, "share" if part.dimension is units.SHARE else known)


def _part(scenario: Scenario, path: str) -> Part | None:
    """Return the amount at a path; None where there is none. Raises LookupError where a scenario has no such place."""
    steps = paths.parse_path(path)
    value, annotation = _look(scenario, steps)
    if isinstance(value, AnyDraw):
        own = _annotation(type(value).model_fields["constant"])
        if isinstance(own, Whole):
            kind, given = value.chosen
            if kind == "constant":
                return WholePart(path, int(given), own.low)
            # A geometric number of turns of another mean is no multiple of it; its mean is what is multiplied.
            return None if kind != "geometric" else NumberPart(f"{path}.geometric.mean", float(given.mean), _MEAN)
        return None if own is None else DrawPart(path, value, own)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(annotation, Whole):
        return WholePart(path, int(value), annotation.low)
    if annotation is None:
        return None
    parent, _ = _look(scenario, steps[:-1])
    if isinstance(parent, Shorthand):  # which the file may say by a bare value, with no field inside
        return NumberPart(path, float(value), annotation, parent)
    return NumberPart(path, float(value), annotation)


_MEAN = Quantity(units.NUMBER, low=1.0, high=1e9)


def _look(scenario: Scenario, steps: Sequence[Key]) -> tuple[Any, Quantity | Whole | None]:
    """Return what is at a path, and the annotation of its field. Raises LookupError."""
    at: Any = scenario
    annotation: Quantity | Whole | None = None
    remaining = list(steps)
    while remaining:
        step = remaining.pop(0)
        if isinstance(at, Spec):
            field = next((name for name, info in type(at).model_fields.items() if step in (name, info.alias)), None)
            if field is None:
                raise LookupError(step)
            annotation = _annotation(type(at).model_fields[field])
            at = getattr(at, field)
        elif isinstance(at, Mapping):
            # A name may hold a dot: the longest one that is there.
            for length in range(len(remaining) + 1, 0, -1):
                name = ".".join(map(str, [step, *remaining[: length - 1]]))
                if name in at:
                    at, remaining = at[name], remaining[length - 1 :]
                    break
            else:
                raise LookupError(step)
        elif isinstance(at, Sequence) and not isinstance(at, str) and isinstance(step, int) and step < len(at):
            at = at[step]
        elif at is None:
            return None, None
        else:
            raise LookupError(step)
    return at, annotation


def _annotation(info: Any) -> Quantity | Whole | None:
    """Return how a field is written: the first quantity or whole number of its type."""
    pending = [*getattr(info, "metadata", ()), getattr(info, "annotation", info)]
    while pending:
        one = pending.pop(0)
        if isinstance(one, Quantity | Whole):
            return one
        pending += getattr(one, "__metadata__", ())
        pending += get_args(one)
    return None


def _of_codecs(scenario: Scenario, used: set[tuple[str, str]]) -> Iterator[Lever]:
    """Yield the levers of serializers that are there by default."""
    known = scenario.all_serializers
    named = {scenario.runtime.codec or "none"} | {name for section, name in used if section == "serializers"}
    for name in sorted(named - set(scenario.serializers)):
        one = known.get(name)
        if isinstance(one, Serializer):
            path = f"serializers.{name}"
            yield Lever(path, "time", ((CodecPart(path, one), 1),))


def _used(scenario: Scenario) -> set[tuple[str, str]]:
    """Return the components, as (section, name), that a task may come to."""
    found: set[tuple[str, str]] = set()
    if scenario.runtime.codec:
        found.add(("serializers", scenario.runtime.codec))
    pending = [one for _, step in _steps(scenario) for one in _named(step)]
    while pending:
        section, name = one = pending.pop()
        if one in found or section not in _FIELDS:
            continue
        found.add(one)
        component = getattr(scenario, section).get(name)
        pending += [(target, value) for target, value in _names_of(section, component) if value is not None]
    return found


def _named(step: Any) -> Iterator[tuple[str, str]]:
    for _, section, name in step.uses():
        yield section, name
    if isinstance(step, AgentStep) and step.tools is not None:
        rows = [step.tools] if isinstance(step.tools, Mapping) else step.tools.markov.values()
        yield from (("tools", name) for row in rows for name in row)


def _names_of(section: str, one: Any) -> Iterator[tuple[str, str | None]]:
    for field, target in (
        ("model", "models"), ("memory", "memories"), ("retriever", "retrievers"), ("encoder", "encoders"),
        ("serializer", "serializers"),
    ):  # fmt: skip
        value = getattr(one, field, None)
        if isinstance(value, str):
            yield target, value
    summarize, handling = getattr(one, "summarize", None), getattr(one, "handling", None)
    if summarize is not None:
        yield "models", summarize.model
    if handling is not None:
        yield section, handling.fallback
        yield section, None if handling.hedge is None else handling.hedge.to


def _steps(scenario: Scenario) -> Iterator[tuple[str, Any]]:
    """Yield the steps of the workflows that a task may come to, by path."""
    names: list[str | None] = [None, *(one.workflow for one in scenario.all_classes.values() if one.workflow)]
    seen: set[str | None] = set()
    while names:
        name = names.pop(0)
        if name in seen:
            continue
        seen.add(name)
        flow: Workflow = scenario.workflow if name is None else scenario.workflows[name]
        base = "workflow" if name is None else f"workflows.{name}"
        for key, step in flow.steps.items():
            yield f"{base}.steps.{key}", step
            members = getattr(step, "members", None) or {}
            names += [target for _, target in step.branches() if target in scenario.workflows]
            names += [target for _, kind, target in step.uses() if kind == "workflows"]
            names += [target for target in members.values() if target in scenario.workflows]


def _short(found: Sequence[Lever]) -> Iterator[Lever]:
    """Yield the levers, those of components by the component's name alone where no other has it."""
    alone: dict[str, str] = {}
    wholes = [one.name for one in found if one.name.count(".") == 1 and one.name.partition(".")[0] in _FIELDS]
    for name in wholes:
        alone.setdefault(name.partition(".")[2], name)
    others = {one.name for one in found} - set(wholes)
    twice = [name.partition(".")[2] for name in wholes]
    for one in found:
        last = one.name.partition(".")[2]
        is_short = alone.get(last) == one.name and twice.count(last) == 1 and last not in others
        yield replace(one, name=last) if is_short else one
