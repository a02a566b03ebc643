"""Commands that add what an answer cannot say, about the same scenario, as a shell reads them.

Leaves out: whether they take long.
Checked: tests/test_missing_commands.py, and tests/test_report_command.py runs some of them.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from ..page.parts import Missing
from ..page.provenance import Line, Provenance
from .asked import Asked, asked, in_python
from .pieces import again

__all__ = ["about", "command_for", "command_of", "fitted", "into", "ready", "repeat", "scenario_of", "why_not"]

_RUNTIME, _OTHER = "external-orchestrator", "agent-native"
_LINE = re.compile(r"(?P<indent> *)(?P<key>[^\s:'\"#-][^:]*):(?: (?P<value>.*))?$")
_CAPACITY = ("replicas", "concurrency")  # what may be bought, the first that a scenario has
_STEPS = "steps=1..16"
_SWEPT = (("repeat", _STEPS), ("team", "agents=1..16"), ("perceive", "modalities=1..2"))
_IDEAL = "ideal"
_ANY = frozenset({"--seed", "--tasks", "--horizon"})  # options that are about the scenario
_SHARED = {"scaling": _ANY - {"--horizon"}}
_OF_TRACES = ("--by", "--task", "--holdout", "--seed", "--name", "-o")  # options of `coordsim trace` with a value
_LOOSE = "p95=30 s"  # an objective to be replaced, where a scenario has none
_EXAMPLES = (
    (_LOOSE, f"limit in place of {_LOOSE}"),
    ("p95=2 s", "limit in place of p95=2 s"),
    ("$1/h", "price in place of $1/h"),
)
_WRITE = ("run", "sweep", "compare", "scaling", "faults", "sensitivity", "plan")  # have `-o`


def command_of(kind: str) -> str:
    """Return the name of the command that gives answers of a kind (of `stored.KINDS`)."""
    return {"study": "sweep", "trace": "trace explain", "holdout": "trace fit", "validation": "validate"}.get(
        kind, kind
    )


def into(kind: str) -> str:
    """Return the option of that command that names the folder of the answer."""
    return "--report" if kind == "holdout" else "-o"


def fitted(source: Provenance, *more: str) -> str:
    """Return the command that fits a scenario to the trace of an answer, read as it was.

    >>> fitted(Provenance("runs", "", "", "", "coordsim trace explain a.json --by session", {}))
    'coordsim trace fit a.json --by session -o scenario.yaml'
    """
    ours = source.command.startswith(("coordsim trace explain ", "coordsim trace fit "))
    words = shlex.split(source.command) if ours else []
    files = [
        one
        for place, one in enumerate(words)
        if place > 2 and not one.startswith("-") and words[place - 1] not in _OF_TRACES
    ]
    read = [each for place, one in enumerate(words) if one == "--by" for each in words[place : place + 2]]
    read += [one for one in words if one == "--hash-names" or one.startswith("--by=")]
    return shlex.join(["coordsim", "trace", "fit", *(files or source.data), *read, *more, "-o", "scenario.yaml"])


def command_for(command: str, source: Provenance) -> str:
    """Return a command about the scenario of an answer, with the options that it cannot do without.

    >>> command_for("run", Provenance("quickstart", "", "", 1, "coordsim plan quickstart", {}))
    'coordsim run quickstart -o runs/quickstart-run'
    """
    return f"{about(command, source)} -o {shlex.quote(f'runs/{source.scenario}-{command}')}"


def about(command: str, source: Provenance, *more: str) -> str:
    """Return a command about the scenario of an answer, as that was loaded and replaced, with `more` options.

    >>> about("run", Provenance("rag", "", "", 1, "coordsim.plan(coordsim.load('rag').replace('seed', '2'))", {}), "--spans", "all")
    'coordsim run rag --set seed=2 --spans all'
    """
    made = asked(source)
    shared = [
        word for name, value in made.options if name in _SHARED.get(command, _ANY) for word in (name, value or "")
    ]
    return again(shlex.join(["coordsim", command, *_named(made), *shared, *_options(command, source)]), *more)


def repeat(command: str, source: Provenance, *more: str, drop: Sequence[str] = ()) -> str:
    """Return the command that gives an answer again, with `more` options in place of its own and of those in `drop`.

    A call in Python is told as its command, or as a call where no option says what it does. Of another command's answer only the scenario stays.
    """
    made = asked(source)
    if made.kind != command:
        return about(command, source, *more)
    if not made.whole:
        return in_python(source, more, drop)
    if source.command.startswith("coordsim "):
        return again(source.command, *more, drop=drop)
    options = [word for option in made.options for word in option if word is not None]
    sets = [word for one in made.sets for word in ("--set", one)]
    words = ["coordsim", command, *made.names, *sets, *options]
    return again(shlex.join(words), *more, drop=drop)


def scenario_of(source: Provenance) -> str:
    """Return how the command of an answer names its scenario, with what it sets, as a shell reads it."""
    return shlex.join(_named(asked(source)))


def _named(made: Asked) -> list[str]:
    return [made.names[0], *(word for one in made.sets for word in ("--set", one))]


def _options(command: str, source: Provenance) -> Iterator[str]:
    paths = dict(_paths(source.lines))
    if command in paths and paths[command] != "{}":  # the scenario says what is asked
        return
    if command == "plan":
        yield from _to_decide(paths)
        yield from () if source.objectives else ("--slo", _LOOSE)
    elif command == "compare":
        baseline = source.runtime or _RUNTIME
        yield from ("--runtime", baseline, "--runtime", _OTHER if baseline != _OTHER else _RUNTIME)
    elif command == "scaling":
        yield from ("--over", _to_sweep(source) or _STEPS)
    elif command == "faults":
        has_faults = any(path.startswith("faults.") for path in paths)
        yield from ("--rise", "faults" if has_faults else "load")


def why_not(command: str, source: Provenance) -> str:
    """Return why a command has nothing to say about the scenario of an answer; '' where it may have.

    >>> why_not("compare", Provenance("mmc", "ideal", "", 1, "coordsim run mmc", {}))[:44]
    ''
    """
    if command == "compare" and source.runtime == _IDEAL:
        return (
            "The scenario runs on the ideal runtime, in which coordination is free: no other runtime can save anything."
        )
    if command == "scaling" and not _to_sweep(source):
        return "The scenario repeats no step, has no team of agents, and perceives nothing in several modalities: there is nothing to sweep."
    return ""


def ready(one: Missing, source: Provenance, taken: set[str]) -> Missing:
    """Return what is missing with a command that writes into a folder of its own, and what in it is only an example.

    `taken` are the folders of the commands before, and gets this one.
    """
    command, kind = one.command, next(iter(one.command.split()[1:2]), "")
    if not command.startswith("coordsim ") or kind not in _WRITE:
        return one
    command = command.removesuffix(" -o DIR")
    if " -o " not in command:
        base = f"runs/{source.scenario}-{kind}"
        numbered = (base if number == 1 else f"{base}-{number}" for number in itertools.count(1))
        folder = next(name for name in numbered if shlex.quote(name) not in taken)
        command = f"{command} -o {shlex.quote(folder)}"
    taken.update(re.findall(r" -o (\S+)", command))
    told = [words for text, words in _EXAMPLES if text in command and text not in source.command + one.what]
    return Missing(f"{one.what}, with your own {' and '.join(told)}" if told else one.what, command)


def _to_sweep(source: Provenance) -> str:
    """Return what the scenario has to sweep: how often a step is repeated, how many agents, or modalities; '' if none."""
    for key, values in _SWEPT:
        lines = [line for line in source.lines if re.match(rf"\s*{key}:", line.text)]
        there = [line for line in lines if line.given] or lines
        if len(there) == 1:
            return values
    return ""


def _to_decide(paths: dict[str, str]) -> Iterator[str]:
    """Yield the option that lets a plan choose the capacity of the first component that has some."""
    for kind in _CAPACITY:
        for path, value in paths.items():
            if path.startswith(("models.", "tools.")) and path.endswith(f".{kind}") and value.isdigit():
                yield from ("--decide", f"{path}=1..{max(8, 2 * int(value))}")
                return


def _paths(lines: Iterable[Line]) -> Iterator[tuple[str, str]]:
    """Yield path and value of the keys of YAML in block style; what is inside of lists is left out."""
    above: list[tuple[int, str]] = []
    for line in lines:
        match = _LINE.match(line.text)
        if match is None:
            continue
        indent = len(match["indent"])
        above = [one for one in above if one[0] < indent]
        above.append((indent, match["key"]))
        yield ".".join(key for _, key in above), match["value"] or ""
