"""Where the numbers of an answer come from: every line of the resolved scenario with its source, and how good its inputs are.

A line is given where the user's file, or an option, says it: also in other words, as `latency: 20 ms` says what is resolved to
`constant: 20 ms`. Everything else is filled in, by a preset or by coordsim's defaults.

Leaves out: how it looks (`sim.report.page`), and what comments in the file say.
Checked: tests/test_provenance.py.
"""

import math
import platform
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib import metadata
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ..sim.engine import reader
from ..sim.engine.nodes import Node, names_file
from ..sim.engine.paths import Key
from ..sim.engine.source import Document
from ..sim.engine.spec import Spec
from ..sim.profile.profile import Profile
from ..sim.profile.profile import read as read_profile
from ..sim.report.numbers import counted
from ..sim.report.page.provenance import Input, Line, Provenance, Quality
from ..sim.report.shipped import folder as shipped
from .scenario import Scenario, as_yaml, with_files
from .variants import ASIDE

__all__ = ["call_of", "canonical", "loaded", "provenance"]

Path_ = tuple[Key, ...]

DEFAULT, PYTHON, STATED = "coordsim's default", "replaced in Python", "stated in Python"
PACKAGES = ("numpy", "simpy")
# Options that change no number: those with a value, and those without.
_VALUED = frozenset({"--out", "--workers", "--backend", "--scheduler", "--format", "--show-task", "--report"})
_FLAGS = frozenset({"--quiet", "--resume", "--overwrite", "--check-slo"})
_ARGUMENTS = frozenset({"workers", "out", "resume", "progress"})  # the same, of functions
_QUALITY: dict[str, Quality] = {
    "measured": "measured",
    "imported": "imported",
    "derived": "assumed",
    "assumed": "assumed",
}
_BEST_FIRST: tuple[Quality, ...] = ("measured", "imported", "assumed")
PRESET: Path_ = ("runtime", "preset")
_FILE = re.compile(r"""(\bfile["']?: *["']?)(/[^\s,}\]"']+)""")  # inside of a value
_MISSING = object()


def provenance(scenario: Scenario, command: str, beside: Iterable[Scenario] = (), found: Any = None) -> Provenance:
    """Return where an answer about a scenario, and those `beside` it, comes from; `command` asked for it.

    The seed is that of what was `found`: a call may give another than the scenario's, or several.
    """
    data = with_files(Spec.to_data(scenario), _place)
    lines = _Lines(scenario, data, command)
    told = tuple(lines.told())
    return Provenance(
        scenario=scenario.name,
        question=scenario.question,
        sha256=scenario.hash,
        seed=_seed(scenario, found),
        command=command,
        versions=versions(),
        lines=told,
        inputs=tuple(sorted(_inputs(scenario, data, lines), key=lambda one: _BEST_FIRST.index(one.quality))),
        data=tuple(dict.fromkeys(_files(data))),
        runtime=scenario.runtime.preset,
        rate=scenario.workload.rate,
        objectives=tuple((one.metric, one.threshold, one.sense) for one in scenario.objectives),
        beside=tuple((one.name, one.hash) for one in beside),
    )


def _seed(scenario: Scenario, found: Any) -> int | str:
    """Return the seed of an answer; several as a text."""
    of = getattr(found, "summary", found)
    seeds = getattr(of, "seeds", None) or (getattr(of, "seed", scenario.seed),)
    if not getattr(of, "paired", True):
        seeds = *seeds, of.seed_b
    return seeds[0] if len(seeds) == 1 else ", ".join(map(str, seeds))


def canonical(words: Sequence[str]) -> str:
    """Return the words behind `coordsim` as a command, without the options that change no number.

    >>> canonical(["run", "quickstart", "-o", "out", "--workers=4", "--seed", "3", "-q"])
    'coordsim run quickstart --seed 3'
    """
    kept, skip = ["coordsim"], False
    for word in words:
        name, equals, _ = word.partition("=")
        if skip:
            skip = False
        elif name in _VALUED:
            skip = not equals
        elif word.startswith("-") and not word.startswith("--") and len(word) > 1 and word[1] in "qo":
            skip = word.lstrip("-q") == "o"  # -q, -o DIR, -oDIR, -qo DIR
        elif word not in _FLAGS:
            kept.append(_without_folders(word))
    return shlex.join(kept)


def _without_folders(word: str) -> str:
    """Return a word of a command as it is, but for the folders of a file that is named from the root.

    >>> _without_folders("--daily=/home/me/day.csv"), _without_folders("models.llm.replicas=4")
    ('--daily=.../day.csv', 'models.llm.replicas=4')
    """
    start, equals, end = word.rpartition("=")
    if Path(end).is_absolute():
        return f"{start}{equals}{_name_of(Path(end))}"
    return _FILE.sub(lambda found: found[1] + _name_of(Path(found[2])), word)


def _name_of(file: Path) -> str:
    """Return a file as `coordsim.load` and the commands find it: one that ships by its name, others as `_place` has them."""
    if file.is_relative_to(shipped()) and file.suffix == ".yaml":
        return file.relative_to(shipped()).with_suffix("").as_posix()
    return _place("file", file.as_posix())


def loaded(scenario: Scenario) -> str:
    """Return a scenario as Python loads it, with the values that were replaced."""
    document = scenario._document
    file = document.files[0] if document is not None and document.files else None
    if document is None or file is None:
        return f"coordsim.load({f'{scenario.name}.yaml'!r})"
    sets = (_without_folders(f"{path}={value}").partition("=") for path, value in document.changes)
    return f"coordsim.load({_name_of(file)!r})" + "".join(f".replace({path!r}, {value!r})" for path, _, value in sets)


def call_of(name: str, given: Scenario | Iterable[Scenario], options: Mapping[str, Any]) -> str:
    """Return a call of coordsim's function `name` about one scenario or several as Python writes it, without what changes no number."""
    first = f"[{', '.join(map(loaded, given))}]" if isinstance(given, list | tuple) else _written(given)
    written = [f"{key}={_written(one)}" for key, one in options.items() if key not in _ARGUMENTS]
    return f"coordsim.{name}({', '.join([first, *written])})"


def _written(value: Any) -> str:
    """Return an argument as Python writes it: a scenario as it is loaded, parts of one as their plain data, and `...` for what is none."""
    if isinstance(value, Scenario):
        return loaded(value)
    if isinstance(value, Spec):
        return _written(value.to_data())
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_written(key)}: {_written(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if is_dataclass(value) and not isinstance(value, type):
        given = (f"{one.name}={_written(getattr(value, one.name))}" for one in fields(value))
        return f"{type(value).__name__}({', '.join(given)})"
    return _plain(value)


def _plain(value: Any) -> str:
    """Return a single value as Python writes it; `...` for what is no plain data, and could say where it lies in memory."""
    if isinstance(value, str):
        return repr(_without_folders(value))
    if value is None or isinstance(value, bool | range):
        return repr(value)
    if isinstance(value, Integral):
        return repr(int(value))
    if isinstance(value, Real):
        return repr(float(value)) if math.isfinite(value) else f"float({str(float(value))!r})"
    return repr(_name_of(value)) if isinstance(value, Path) else "..."


def versions() -> dict[str, str]:
    from .. import __version__

    return {"coordsim": __version__, "python": platform.python_version()} | {
        name: metadata.version(name) for name in PACKAGES
    }


# ---------------------------------------------------------------------------------------------------------------------
# Lines


@dataclass
class _Lines:
    """The lines of a resolved scenario, by path, against what its document says."""

    scenario: Scenario
    data: dict[str, Any]
    command: str
    given: int = 0
    filled: int = 0

    def __post_init__(self) -> None:
        self.document: Document | None = self.scenario._document
        self.text = as_yaml(self.data)
        root = reader.read(self.text, "resolved")
        assert root is not None, "a scenario has fields"
        self.paths: dict[int, tuple[Path_, bool]] = {}
        for path, line, is_value in _places(root, ()):
            self.paths[line] = path, is_value

    def told(self) -> Iterator[Line]:
        """Yield the lines; one that goes on with a long text is as the one before."""
        path: Path_ = ()
        is_value = False
        for number, text in enumerate(self.text.splitlines(), 1):
            goes_on = number not in self.paths
            path, is_value = self.paths.get(number, (path, is_value))
            given = self._is_given(path)
            if is_value and not goes_on:
                self.given, self.filled = self.given + given, self.filled + (not given)
            yield Line(text, given, self._source(path, given) if is_value and not goes_on else "")

    def _is_given(self, path: Path_) -> bool:
        """Whether the document says what is at a path of the resolved scenario, perhaps in other words."""
        if self.document is None:
            return True
        said: Any = self.document.data
        resolved: Any = self.data
        for depth, step in enumerate(path):
            if not isinstance(said, dict | list):
                return path == PRESET if path[:1] == PRESET[:1] else _says(said, resolved, path[depth:])
            below = _child(said, step)
            if below is _MISSING:
                # `{low: 1, high: 2}` is resolved to another mapping, of which it is all that was written.
                both = depth > 0 and isinstance(said, dict) and isinstance(resolved, dict)
                return both and bool(said) and not {*said} & {*resolved}
            said, resolved = below, _child(resolved, step)
        return True

    def _source(self, path: Path_, given: bool) -> str:
        """Return where the value of a line comes from."""
        if path[:1] == ("profile",) and given:
            return (
                self._written(path) + "; " + ", ".join(sorted({one.quality for one in _profiles_inputs(self.scenario)}))
            )
        if given:
            return self._written(path)
        is_policy = path[:1] == PRESET[:1] and path != PRESET
        return f"preset {self.scenario.runtime.preset}" if is_policy else DEFAULT

    def _written(self, path: Path_) -> str:
        if self.document is None:
            return STATED
        at = self.document.where(path)
        if at.line:
            return f"{Path(at.file).name}:{at.line}"
        if not at.file.startswith("--"):
            return STATED
        if not self.command.startswith("coordsim "):
            return PYTHON
        option, _, rest = at.file.partition(" ")
        setting = rest.partition("=")[0] + "="
        written = option != "--set" or any(word.startswith(setting) for word in shlex.split(self.command))
        return option if written else f"--{path[-1]}"  # such as --seed, which sets a path, too


def _places(node: Node, path: Path_) -> Iterator[tuple[Path_, int, bool]]:
    """Yield the path and line of all below a node, and whether a value stands there; of two on a line the inner one is last."""
    inner: Iterable[tuple[Key, Node]] = node.fields.items() if node.items is None else enumerate(node.items)
    for step, one in inner:
        within = (*path, step)
        yield within, (one.key or one.at).line, not (one.fields or one.items)
        yield from _places(one, within)


def _child(data: Any, step: Key) -> Any:
    if isinstance(data, dict):
        return data.get(step, _MISSING)
    if isinstance(data, list) and isinstance(step, int) and step < len(data):
        return data[step]
    return _MISSING


def _says(said: Any, resolved: Any, rest: Path_) -> bool:
    """Whether one value that was written stands for what is at `rest` in what it was resolved to: all there is, or the same text."""
    leaves = list(_leaves(resolved, ()))
    if len(leaves) == 1:
        return True
    return any(path[: len(rest)] == rest and str(value) == str(said) for path, value in leaves)


def _leaves(data: Any, path: Path_) -> Iterator[tuple[Path_, Any]]:
    if isinstance(data, dict | list) and data:
        inner: Iterable[tuple[Key, Any]] = data.items() if isinstance(data, dict) else enumerate(data)
        for step, one in inner:
            yield from _leaves(one, (*path, step))
    else:
        yield path, data


# ---------------------------------------------------------------------------------------------------------------------
# Inputs


def _inputs(scenario: Scenario, data: dict[str, Any], lines: _Lines) -> Iterator[Input]:
    """Yield what the numbers rest on."""
    yield from _profiles_inputs(scenario)
    for path, value in _leaves({name: one for name, one in data.items() if name not in ASIDE}, ()):
        if path[-1:] == ("file",):
            yield Input(Path(str(value)).name, "imported", f"a file that `{'.'.join(map(str, path[:-1]))}` replays")
    yield Input(f"{counted(lines.given, 'value')} stated", "assumed", "the scenario, each beside its line below")
    if lines.filled:
        yield Input(
            f"{lines.filled} filled in", "assumed", "what nothing states: those of the preset, and coordsim's defaults"
        )


def _profiles_inputs(scenario: Scenario) -> Iterator[Input]:
    """Yield an input for each source of each profile that the scenario names."""
    for name in scenario.profile:
        yield from _of_profile(read_profile(name))


def _of_profile(profile: Profile) -> Iterator[Input]:
    for name, source in profile.sources.items():
        laws = [law for law in profile.laws.values() if law.source == name]
        spans = [law.interval for law in laws if law.interval is not None]
        parts = [source.title, source.machine, source.date, source.licence, source.link]
        parts += [counted(len(laws), "law")] if laws else []
        if spans:
            low, high = min(one[0] for one in spans), max(one[1] for one in spans)
            parts.append(f"measured over predicted on held-out points within {low:.3g} to {high:.3g} (95 % intervals)")
        kind = f"{source.quality}: " if source.quality == "derived" else ""
        yield Input(f"profile {profile.name}", _QUALITY[source.quality], kind + "; ".join(filter(None, parts)))


def _place(key: str, text: str) -> str:
    """Return where a file is, without telling whose machine this is: from here, or from coordsim's folder, or its name alone."""
    if not names_file(key, text) or not Path(text).is_absolute():
        return text
    for root in (shipped(), Path.cwd()):
        if Path(text).is_relative_to(root):
            return Path(text).relative_to(root.parent if root == shipped() else root).as_posix()
    return f".../{Path(text).name}"


def _files(data: dict[str, Any]) -> Iterator[str]:
    """Yield the files that the scenario names: traces, scenarios of a study, and profiles that do not ship."""
    for path, value in _leaves(data, ()):
        keys = [one for one in path if isinstance(one, str)]
        if keys and isinstance(value, str) and keys[-1] in ("file", "profile") and names_file(keys[-1], value):
            yield value
