"""An answer as a file: `result.json` in every folder that a command writes with `-o`, from which `coordsim report` makes its pages.

    coordsim_result   1, the version of this format
    coordsim          the version of the software that wrote it
    kind              run, plan, study, compare, scaling, sensitivity, faults, trace, holdout or validation
    source            `page.provenance.Provenance`
    result            the result of the analysis, field by field

What is read equals what was written: numbers are not rounded, and what JSON cannot say is a mapping with the key `~`: nan, infinity,
arrays, and mappings whose keys are no texts. The same answer gives the same bytes.

Leaves out: the runs behind an answer, which a report does not show.
Checked: tests/test_stored.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ... import __version__
from ..engine.errors import CoordsimError, did_you_mean, listed
from .codec import DamagedError, OtherFieldsError, decode, encode
from .page.provenance import Provenance
from .sections.further import command_of, into

__all__ = ["KINDS", "NAME", "VERSION", "Stored", "StoredError", "dump", "is_own", "kind_of", "parse", "read"]

NAME, KEY, VERSION = "result.json", "coordsim_result", 1

# The type of each kind of answer, by module and name: only what is asked for is imported.
KINDS: dict[str, tuple[str, str]] = {
    "run": ("digest", "RunDigest"),
    "plan": ("planned", "PlanResult"),
    "study": ("study", "StudyResult"),
    "compare": ("comparison", "ComparisonResult"),
    "scaling": ("scaling", "ScalingResult"),
    "sensitivity": ("sensitivity", "SensitivityResult"),
    "faults": ("fault_study", "StudyResult"),
    "trace": ("trace_digest", "TraceDigest"),
    "holdout": ("holdout", "HoldoutResult"),
    "validation": ("validation", "Verdict"),
}
# What stands beside it in a folder; without it, that tells what kind of answer an older coordsim wrote.
_BESIDE = {
    "summary.json": "run", "plan.json": "plan", "study.json": "study", "comparison.json": "compare", "scaling.json": "scaling",
    "sensitivity.json": "sensitivity", "faults.json": "faults",
    "trace.json": "trace", "holdout.json": "holdout", "verdict.json": "validation",
}  # fmt: skip


class StoredError(CoordsimError):
    """An answer that cannot be read: where, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer: its kind, what was found, and where it came from."""

    kind: str
    found: Any
    source: Provenance


def type_of(kind: str) -> type:
    """Return the type of the results of a kind."""
    module, name = KINDS[kind]
    found: type = getattr(import_module(f"..analysis.{module}", __package__), name)
    return found


def kind_of(found: object) -> str:
    """Return the kind of a result. Raises TypeError for what is none."""
    name = type(found).__module__.rpartition(".")[2], type(found).__name__
    for kind, known in KINDS.items():
        if known == name:
            return kind
    raise TypeError(f"must be a result of an analysis; got {type(found).__name__}")


def dump(kind: str, found: Any, source: Provenance) -> str:
    """Return the text of `result.json`: a line for each of its fields."""
    data = {KEY: VERSION, "coordsim": __version__, "kind": kind, "source": encode(source), "result": encode(found)}
    lines = (
        f"{json.dumps(name)}: {json.dumps(one, ensure_ascii=False, allow_nan=False, separators=(',', ':'))}"
        for name, one in data.items()
    )
    return "{" + ",\n".join(lines) + "}\n"


def read(path: Path) -> Stored:
    """Return the answer in a folder, or in a file. Raises StoredError."""
    file = path / NAME if path.is_dir() else path
    if not file.is_file():
        raise StoredError(_absent(path))
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoredError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return parse(text, str(file))


def is_own(path: Path, kind: str) -> bool:
    """Whether a path is a folder that a command wrote an answer of a kind to, which holds more than `result.json`."""
    return path.is_dir() and any((path / name).is_file() for name, known in _BESIDE.items() if known == kind)


def parse(text: str, name: str = NAME) -> Stored:
    """Return the answer in a text; `name` says in errors where it is from. Raises StoredError."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoredError(f"{name} is damaged: {error}; run its command again") from error
    if not isinstance(data, dict) or KEY not in data:
        raise StoredError(f"{name} is no answer of coordsim: it must be a mapping with `{KEY}: {VERSION}`")
    version = data[KEY]
    if type(version) is not int or version < 1:
        raise StoredError(f"{name} is damaged: `{KEY}` must be {VERSION}; run its command again")
    if version > VERSION:
        by = f"; coordsim {data['coordsim']} wrote it" if isinstance(data.get("coordsim"), str) else ""
        raise StoredError(
            f"{name} has version {version}, and this coordsim reads up to {VERSION}{by}; install a newer coordsim"
        )
    return _checked(data, name)


def _checked(data: Mapping[str, Any], name: str) -> Stored:
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
        raise StoredError(f"{name} holds a {kind}; an answer is one of {listed(KINDS)}{hint}")
    try:
        source = decode(Provenance, data.get("source"), "source")
        return Stored(kind, decode(type_of(kind), data.get("result"), "result"), source)
    except OtherFieldsError as error:
        by, again = _written_by(data), _again(data, kind)
        raise StoredError(
            f"{name} was written by another version of coordsim ({by}; this is coordsim {__version__}): {error}; write it again with `{again}`"
        ) from error
    except (DamagedError, RecursionError) as error:
        wrote = data.get("coordsim")
        by = f" (coordsim {wrote} wrote it, this is {__version__})" if wrote != __version__ else ""
        raise StoredError(f"{name} is damaged{by}: {error}; write it again with `{_again(data, kind)}`") from error


def _told(data: Mapping[str, Any], field: str) -> Any:
    """Return what the source of an answer says, though it may be of another version."""
    source = data.get("source")
    return source.get(field) if isinstance(source, dict) else None


def _written_by(data: Mapping[str, Any]) -> str:
    """Return the versions that wrote an answer."""
    versions = _told(data, "versions")
    known = versions if isinstance(versions, dict) and versions else {"coordsim": data.get("coordsim", "of no version")}
    return ", ".join(f"{name} {version}" for name, version in known.items())


def _again(data: Mapping[str, Any], kind: str) -> str:
    """Return the command that asked for an answer."""
    command = _told(data, "command")
    if isinstance(command, str) and command.startswith("coordsim."):
        return command
    asked = isinstance(command, str) and command.startswith("coordsim ")
    return f"{command if asked else f'coordsim {command_of(kind)} ...'} {into(kind)} DIR"


def _absent(path: Path) -> str:
    """Return what to do about a place without an answer."""
    if not path.exists():
        return f"{path} is not there; name a folder that a command wrote with `-o`"
    for name, kind in _BESIDE.items():
        if (path / name).is_file():
            again = f"coordsim {command_of(kind)} ... {into(kind)} {path} --overwrite"
            return f"{path} holds a {kind} and no {NAME}: an older coordsim wrote it; run it again with `{again}`"
    if (path / "journal.jsonl").is_file():
        return f"{path} holds an answer that is not complete; go on with its command and `--resume`"
    return f"{path} holds no {NAME}; name a folder that a command wrote with `-o`, such as `coordsim run NAME -o DIR`"
