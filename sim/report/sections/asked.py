"""What asked for an answer, as words of the command line: from its command, or from its call in Python.

Leaves out: what else may be asked (`further`).
Checked: tests/test_missing_commands.py, tests/test_provenance.py.
"""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..page.provenance import Provenance

__all__ = ["FLAGS", "Asked", "asked", "in_python"]

FLAGS = frozenset({
    "--ablate", "--ablation", "--frontier", "--handling", "--headroom", "--no-ablate", "--no-ablation", "--no-frontier",
    "--no-headroom", "--unpaired",
})  # fmt: skip
_KINDS = {"simulate": "run"}  # functions whose command has another name
_SIZES = {"morris": "--trajectories", "sobol": "--points"}
# Arguments of functions whose options are written once, with one value; with one a value; and with PATH=VALUE for each.
_ONCE = {
    "along": "--along", "by": "--by", "confidence": "--confidence", "design": "--design", "levels": "--levels",
    "max_replications": "--max-replications", "method": "--method", "only": "--only", "points": "--points",
    "precision": "--precision", "replications": "--replications", "rise": "--rise", "seed": "--seed", "seed_b": "--seed-b",
    "seeds": "--seeds", "steps": "--steps", "stream": "--stream", "tolerance": "--tolerance",
}  # fmt: skip
_EACH = {"metric": "--metric", "metrics": "--metric", "over": "--over", "factors": "--factor"}
_PAIRS = {"changes": "--with", "decide": "--decide", "factors": "--factor", "over": "--over", "slo": "--slo"}
_SWITCHES = {
    ("compare", "ablate"): ("--ablate", "--no-ablate"),
    ("scaling", "ablate"): ("", "--no-ablation"),
    ("compare", "paired"): ("", "--unpaired"),
    ("faults", "handling"): ("--handling", ""),
}

Option = tuple[str, str | None]  # and its value; None for a flag
Sets = tuple[str, ...]


class _UnsaidError(Exception):
    """There is no option that says it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command: its name, the scenarios as it names them, what `--set` replaces in them, and its other options.

    `whole` says whether that is all; a call in Python may say what no option does.
    """

    kind: str
    names: tuple[str, ...]
    sets: Sets = ()
    options: tuple[Option, ...] = ()
    whole: bool = True

    def value(self, option: str) -> str:
        """Return the last value of an option, '' where it is not there."""
        return next((value or "" for name, value in reversed(self.options) if name == option), "")


def asked(source: Provenance) -> Asked:
    """Return what asked for an answer.

    >>> asked(Provenance("rag", "", "", 1, "coordsim run --seed 3 a.yaml --set=x=1", {}))
    Asked(kind='run', names=('a.yaml',), sets=('x=1',), options=(('--seed', '3'),), whole=True)
    >>> asked(Provenance("rag", "", "", 1, "coordsim.simulate(coordsim.load('a').replace('x', '1'), seed=3)", {})).options
    (('--seed', '3'),)
    """
    unknown = Asked("", (source.scenario,), whole=False)
    try:
        words = shlex.split(source.command) if source.command.startswith("coordsim ") else []
    except ValueError:
        return unknown
    if len(words) > 1:
        return _of_words(words[1], words[2:], source)
    try:
        call = ast.parse(source.command, mode="eval").body
        return _of_call(call) if isinstance(call, ast.Call) else unknown
    except (SyntaxError, ValueError, _UnsaidError):
        return unknown


def _of_words(kind: str, words: Iterable[str], source: Provenance) -> Asked:
    names: list[str] = []
    options: list[Option] = []
    sets: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            names.append(word)
        elif name in FLAGS:
            options.append((name, None))
        else:
            said = value if equals else next(rest, "")
            if name == "--set":
                sets.append(said)
            else:
                options.append((name, said))
    return Asked(kind, tuple(names) or (source.scenario,), tuple(sets), tuple(options))


# ---------------------------------------------------------------------------------------------------------------------
# Calls in Python


def _of_call(call: ast.Call) -> Asked:
    """Return what a call asks. Raises _UnsaidError where it names no scenario."""
    if not isinstance(call.func, ast.Attribute) or not call.args:
        raise _UnsaidError
    kind = _KINDS.get(call.func.attr, call.func.attr)
    first = call.args[0]
    loads = [_loaded(one) for one in (first.elts if isinstance(first, ast.List) else [first])]
    options: list[Option] = []
    whole = True
    given = {one.arg: one.value for one in call.keywords if one.arg is not None}
    try:
        if isinstance(given.get("b"), ast.Call):
            loads.append(_loaded(given.pop("b")))
        options += _sayable(kind, {name: _value(one) for name, one in given.items()})
    except _UnsaidError:
        whole = False
    whole = whole and len({sets for _, sets in loads}) == 1  # `--set` is for all
    return Asked(kind, tuple(name for name, _ in loads), loads[0][1], tuple(options), whole)


def _loaded(node: ast.expr) -> tuple[str, Sets]:
    """Return the name of a scenario that is loaded, and what is replaced in it, in order."""
    sets: list[str] = []
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "replace":
        path, value = map(_value, node.args)
        sets.insert(0, f"{path}={value}")
        node = node.func.value
    if not isinstance(node, ast.Call) or ast.unparse(node.func) != "coordsim.load" or len(node.args) != 1:
        raise _UnsaidError
    return str(_value(node.args[0])), tuple(sets)


def _value(node: ast.expr) -> Any:
    """Return a value as Python writes it. Raises _UnsaidError for what is no plain data."""
    if isinstance(node, ast.Dict) and all(key is not None for key in node.keys):
        return {_value(key): _value(one) for key, one in zip(node.keys, node.values, strict=True) if key is not None}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(one) for one in node.elts]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        return list(range(*map(_value, node.args)))
    try:
        value = ast.literal_eval(node)
    except ValueError:
        raise _UnsaidError from None
    if value is ...:
        raise _UnsaidError
    return value


def _sayable(kind: str, given: dict[str, Any]) -> Iterator[Option]:
    """Yield the options that say the arguments of a call. Raises _UnsaidError where none do."""
    given = {name: value for name, value in given.items() if value is not None}
    if kind == "compare" and ("b" in given or "variant" in given):
        sides = given.pop("b", None), given.pop("variant", None)
        if not all(isinstance(one, str) for one in sides):
            raise _UnsaidError
        yield from (("--runtime", one) for one in sides)
    if "size" in given:
        option = _SIZES.get(given.get("method", ""))
        if option is None:
            raise _UnsaidError
        yield option, str(given.pop("size"))
    for name, value in given.items():
        yield from _option(kind, name, value)


def _option(kind: str, name: str, value: Any) -> Iterator[Option]:
    if (kind, name) in _SWITCHES and isinstance(value, bool):
        switch = _SWITCHES[kind, name][not value]
        yield from [(switch, None)] if switch else []
    elif isinstance(value, Mapping) and name in _PAIRS:
        for path, one in value.items():
            said = _written(one, as_yaml=name == "changes")
            yield _PAIRS[name], f"{path}={said}" if said or name != "factors" else str(path)
    elif name in _EACH and isinstance(value, str | list):
        yield from ((_EACH[name], _written(one)) for one in ([value] if isinstance(value, str) else value))
    elif name in _ONCE:
        yield _ONCE[name], _written(value)
    else:
        raise _UnsaidError


def _written(value: Any, as_yaml: bool = False) -> str:
    """Return a value as an option has it; several are joined by commas."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or as_yaml:
        return json.dumps(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list) and not any(isinstance(one, list | dict) or "," in str(one) for one in value):
        return ",".join(map(_written, value))
    raise _UnsaidError


# ---------------------------------------------------------------------------------------------------------------------
# What no option says: the call, with more arguments

_ARGUMENTS = {option: name for name, option in _ONCE.items()} | {
    "--ablate": "ablate", "--ablation": "ablate", "--handling": "handling", "--no-ablate": "ablate", "--no-ablation": "ablate",
    "--metric": "metric", "--spans": "spans", "--trajectories": "size",
}  # fmt: skip
_MAPPED = {"--decide": "decide", "--factor": "factors", "--over": "over", "--slo": "slo", "--with": "changes"}
_REPLACED = {"--horizon": "workload.horizon", "--tasks": "workload.tasks"}


def in_python(source: Provenance, more: Iterable[str], drop: Iterable[str] = ()) -> str:
    """Return the call of an answer with `more` options of its command as arguments, without those in `drop`.

    >>> call = "coordsim.simulate(coordsim.load('a'), seed=3)"
    >>> in_python(Provenance("a", "", "", 1, call, {}), ["--replications", "10", "--set", "x=1"])
    "coordsim.simulate(coordsim.load('a').replace('x', '1'), seed=3, replications=10)"
    """
    call = ast.parse(source.command, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or not call.args:
        return source.command
    kind, wanted = call.func.attr, _of_words("", more, source)
    sets = [*wanted.sets, *(f"{_REPLACED[name]}={value}" for name, value in wanted.options if name in _REPLACED)]
    first = ast.unparse(call.args[0])
    changes = "".join(f".replace({path!r}, {value!r})" for path, _, value in (one.partition("=") for one in sets))
    if isinstance(call.args[0], ast.List):
        first = f"[{', '.join(ast.unparse(one) + changes for one in call.args[0].elts)}]"
        changes = ""
    given = {one.arg: ast.unparse(one.value) for one in call.keywords if one.arg is not None}
    given = {name: one for name, one in given.items() if name not in {_argument(kind, word) for word in drop}}
    mapped: dict[str, dict[str, str]] = {}
    for option, value in wanted.options:
        name = _argument(kind, option)
        if option in _MAPPED and (kind, option) != ("scaling", "--over"):
            path, _, said = (value or "").partition("=")
            mapped.setdefault(name, {})[path] = said
        elif option == "--factors":
            given["load"] = f"{{'factors': [{value}]}}"
        elif option not in _REPLACED:
            given[name] = str(not option.startswith("--no-")) if value is None else _literal(value)
    given |= {name: repr(one) for name, one in mapped.items()}
    arguments = [first + changes, *(f"{name}={one}" for name, one in given.items())]
    return f"coordsim.{kind}({', '.join(arguments)})"


def _argument(kind: str, option: str) -> str:
    """Return the argument that says what an option does."""
    option = option.removesuffix("=")
    if kind == "sensitivity" and option == "--points":
        return "size"
    return _MAPPED.get(option) or _ARGUMENTS.get(option, option.lstrip("-").replace("-", "_"))


def _literal(text: str) -> str:
    """Return a value of an option as Python has it: a number, or a text."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return repr(text)
    return text if type(value) in (int, float) else repr(text)
