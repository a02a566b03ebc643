"""The controls of an exploration: what of a scenario can be moved while one looks, and which settings each has.

A control is a name and its settings, each a list of changes as `--set` makes them; one setting changes nothing. Found are the speed
of inference, the replicas of each model, steps, modalities and the runtime: those that the scenario really has. Any other path can be
asked for with its values.

Leaves out: running (`explore`); showing (`coordsim.explorer`); levers that no control is needed for (`levers`), which are paths.
Checked: tests/test_explorer.py.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..sim.engine.errors import ScenarioError, did_you_mean, listed
from .levers import LeverError, Levers, lever_at, levers
from .perceive_step import PerceiveStep
from .runtime import PRESETS
from .scaling import ScalingError, changes_of
from .variants import Change, Variants, scenario_of

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["AS_IT_IS", "Control", "Option", "controls_of"]

AS_IT_IS = "as it is"
SPEEDS = (0.5, 1, 2, 4, 8, 16, 32)
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16)
PARTS = (0.25, 0.5, 0.75, 1.5, 2, 4)  # of a number beyond these counts


@dataclass(frozen=True)
class Option:
    """A setting of a control: what it is called, and the changes (path, YAML) that it makes; none for the scenario as it is."""

    label: str
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Control:
    """Something that can be moved: its settings, of which that at `now` changes nothing; `ordered` from less to more."""

    name: str
    options: tuple[Option, ...]
    now: int
    ordered: bool = True

    @property
    def labels(self) -> tuple[str, ...]:
        """What the settings are called."""
        return tuple(one.label for one in self.options)

    def place(self, label: str) -> int:
        """Return the place of a setting. Raises ValueError, which says their names."""
        if label not in self.labels:
            raise ValueError(f"{self.name} must be one of {listed(self.labels)}; got {label!r}")
        return self.labels.index(label)


def controls_of(
    scenario: "Scenario", asked: Mapping[str, Iterable[Any] | None] | Iterable[str] | None = None
) -> tuple[Control, ...]:
    """Return the controls of a scenario: all that are found, or those that are asked for, in this order.

    `asked` are names of found ones, or these and paths with the values that each takes; None for those it has by itself. Raises
    TypeError and ValueError for what is neither, and ScenarioError for a value that the scenario refuses.
    """
    if asked is None:
        return tuple(_found(scenario).values())
    return tuple(_distinct(_asked(scenario, name, values)) for name, values in _with_values(asked).items())


def _with_values(asked: Mapping[str, Iterable[Any] | None] | Iterable[str]) -> Mapping[str, Iterable[Any] | None]:
    """Return controls with their values, where only names are given with None."""
    if isinstance(asked, Mapping):
        return asked
    names = [asked] if isinstance(asked, str) or not isinstance(asked, Iterable) else list(asked)
    for one in names:
        if not isinstance(one, str):
            raise TypeError(
                f"`controls` must be names, or a mapping of names to values such as {{'steps': [2, 4]}}; got {one!r}"
            )
    return dict.fromkeys(names)


# ---------------------------------------------------------------------------------------------------------------------
# Those that are found


def _found(scenario: "Scenario") -> dict[str, Control]:
    """Return the controls that a scenario has by name, of each those settings that it allows."""
    made = (
        *(make(scenario, None) for make in _NAMED.values()),
        *_replicas(scenario, levers(scenario)),
        _runtime(scenario),
    )
    kept = [_allowed(scenario, one) for one in made if one is not None]
    return {one.name: one for one in kept if len(one.options) > 1}


def _allowed(scenario: "Scenario", one: Control) -> Control:
    """Return a control without the settings that the scenario refuses."""
    variants = Variants(scenario)

    def fits(option: Option) -> bool:
        try:
            variants.key(option.changes)
        except ScenarioError:
            return False
        return True

    kept = tuple(option for option in one.options if fits(option))
    return Control(one.name, kept, kept.index(one.options[one.now]), one.ordered)


def _speed(scenario: "Scenario", factors: Sequence[float] | None) -> Control | None:
    """Return how fast all models are, as a factor on what they are."""
    known = {f"models.{name}.speed": float(model.speed) for name, model in scenario.models.items()}
    if not known:
        return None
    steps = sorted({1.0, *(SPEEDS if factors is None else factors)})
    options = [
        Option(f"{one:g}x", tuple((path, f"{now * one:.12g}") for path, now in known.items()) if one != 1 else ())
        for one in steps
    ]
    return Control("inference speed", tuple(options), steps.index(1))


def _replicas(scenario: "Scenario", known: Levers) -> Iterator[Control]:
    for name in scenario.models:
        path = f"models.{name}.replicas"
        lever = known.by_name(path)
        if lever is not None and lever.is_whole:
            now = int(lever.amount)
            counts = sorted({now, *(COUNTS if now <= COUNTS[-1] else (max(1, round(now * one)) for one in PARTS))})
            options = [Option(str(one), () if one == now else ((path, str(one)),)) for one in counts]
            yield Control(path, tuple(options), counts.index(now))


def _steps(scenario: "Scenario", counts: Sequence[float] | None) -> Control | None:
    """Return the turns of the agent's loop; a number that is drawn stays so until it is moved."""
    wanted = COUNTS if counts is None else counts
    try:
        path, _ = changes_of(scenario, "steps", wanted)
    except ScalingError:
        return None
    try:
        lever = lever_at(scenario, path)
        now = int(lever.amount) if lever.is_whole else None
    except LeverError:  # a number that is not written is 1
        now = 1
    known = sorted({*wanted, *([] if now is None else [now])})
    _, cells = changes_of(scenario, "steps", known)
    options = [Option(f"{one:g}", () if one == now else more) for one, (_, more) in zip(known, cells, strict=True)]
    if now is None:
        return Control("steps", (Option(AS_IT_IS), *options), 0)
    return Control("steps", tuple(options), known.index(now))


def _modalities(scenario: "Scenario", counts: Sequence[float] | None) -> Control | None:
    """Return how many modalities are taken in: the first ones of the list."""
    try:
        path, _ = changes_of(scenario, "modalities", (1,))
    except ScalingError:
        return None
    step = scenario.steps[path.removesuffix(".perceive")]
    assert isinstance(step, PerceiveStep)
    everything = len(dict.fromkeys(step.perceive))
    known = sorted({everything, *(range(1, everything) if counts is None else counts)})
    _, cells = changes_of(scenario, "modalities", known)
    options = [Option(_together(names), changes if len(names) < everything else ()) for names, changes in cells]
    return Control("modalities", tuple(options), known.index(everything))


def _together(names: Sequence[str]) -> str:
    """Return modalities in a few words.

    >>> _together(["text"]), _together(["text", "image", "sound"])
    ('1: text', '3: + sound')
    """
    return f"{len(names)}: {'+ ' if len(names) > 1 else ''}{names[-1]}"


def _runtime(scenario: "Scenario") -> Control:
    """Return the runtimes by name, and first the scenario's own where it is no preset as such."""
    now = scenario.runtime.preset
    own = scenario.runtime != type(scenario.runtime).model_validate(now)
    options = [Option(name, () if name == now and not own else (("runtime", name),)) for name in PRESETS]
    if own:
        options.insert(0, Option(AS_IT_IS))
    return Control(
        "runtime", tuple(options), next(place for place, one in enumerate(options) if not one.changes), False
    )


_NAMED: Mapping[str, Callable[["Scenario", Sequence[float] | None], Control | None]] = {
    "inference speed": _speed,
    "steps": _steps,
    "modalities": _modalities,
}

# ---------------------------------------------------------------------------------------------------------------------
# Those that are asked for


def _asked(scenario: "Scenario", name: str, values: Iterable[Any] | None) -> Control:
    """Return a control by the name of one that is found, or by a path."""
    if values is None:
        found = _found(scenario)
        if name in found:
            return found[name]
        hint = did_you_mean(name, found) or f"; there are {listed(found)}"
        raise ValueError(f"`{name}` is no control that is found{hint}. The path of another must come with its values")
    given = [] if isinstance(values, str | bytes) else list(values)
    if not given:
        raise ValueError(f"`{name}` must have a list of values; got {values!r}")
    if name in _NAMED:
        made = _NAMED[name](scenario, given)
        if made is None:
            raise ValueError(f"the scenario has no {name} to move")
        return made
    return _of_path(scenario, name, given)


def _distinct(one: Control) -> Control:
    """Return a control whose settings can be told apart. Raises ValueError for two with one name."""
    twice = next((label for place, label in enumerate(one.labels) if label in one.labels[:place]), None)
    if twice is not None:
        raise ValueError(f"`{one.name}` has two settings that are shown as `{twice}`; give each value once")
    return one


def _of_path(scenario: "Scenario", path: str, given: Sequence[Any]) -> Control:
    """Return the control that puts values at a path; it has the scenario as it is first, where none of them is that."""
    variants = Variants(scenario)
    own = scenario_of(variants.key()).to_data()  # without the sections that change no run
    options = [Option(str(value), ((path, json.dumps(value)),)) for value in given]
    same = [scenario_of(variants.key(one.changes)).to_data() == own for one in options]
    if True not in same:
        return Control(path, (Option(AS_IT_IS), *options), 0)
    now = same.index(True)
    return Control(path, (*options[:now], Option(options[now].label), *options[now + 1 :]), now)
