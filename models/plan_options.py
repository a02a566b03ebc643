"""The section `plan` as options of the command write it; a mistake is told of the option.

    --decide 'models.llm.replicas=1..16@$2.5/h' --slo 'p95=2 s' --growth 10%/month:12 --confidence 99%

Leaves out: the command itself.
Checked: tests/test_plan_models.py.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..sim.engine.errors import Problem, ScenarioError
from ..sim.engine.source import Document
from .plan_values import DecisionError, decision_of, priced_as_before

__all__ = ["PlanOptions", "asked", "told_of_options"]

_OPTIONS = {
    "--set plan.decide=": "--decide ",
    "--set plan.slo=": "--slo ",
    "--set plan.load=": "the load: ",
    "--set plan.confidence=": "--confidence ",
    "--set plan.max_replications=": "--max-replications ",
}


@dataclass(frozen=True)
class PlanOptions:
    """What the command line asks for, as it is written; each option replaces its part of the section.

    `decide` are `PATH=VALUES[@PRICE]`, `slo` are `METRIC=THRESHOLD`. Of `growth` (`10%/month:12`), `daily` (24 factors between
    commas, or a file that holds them) and `factors` (between commas) there is one at most.
    """

    decide: Sequence[str] = ()
    slo: Sequence[str] = ()
    growth: str | None = None
    daily: str | None = None
    factors: str | None = None
    confidence: str | None = None
    max_replications: str | None = None


def asked(document: Document, options: PlanOptions) -> Document:
    """Return the document with the options in its section `plan`. Raises ScenarioError with every mistake in them."""
    problems: list[Problem] = []
    decide = dict(_decisions(options.decide, problems))
    slo = dict(_pairs("--slo", options.slo, "p95=2 s", problems))
    load = _load(options, problems)
    if problems:
        raise ScenarioError(problems, "coordsim plan")
    section = document.data.get("plan")
    before = section.get("decide") if isinstance(section, dict) else None
    if isinstance(before, dict):
        decide = {path: priced_as_before(one, before.get(path)) for path, one in decide.items()}
    given: list[tuple[str, str]] = []
    given += [("decide", json.dumps(decide))] if decide else []
    given += [("slo", json.dumps(slo))] if slo else []
    given += [("load", json.dumps(load))] if load else []
    given += [] if options.confidence is None else [("confidence", options.confidence)]
    given += [] if options.max_replications is None else [("max_replications", options.max_replications)]
    if given and document.data.get("plan") is None:
        document = document.with_override("plan", "{}")
    for name, text in given:
        document = document.with_override(("plan", name), text)
    return document


def told_of_options(error: ScenarioError) -> ScenarioError:
    """Return the error with mistakes in the section, where options wrote it, told of the options."""
    return ScenarioError([_told(one) for one in error.problems], error.subject)


def _told(problem: Problem) -> Problem:
    for written, option in _OPTIONS.items():
        if problem.file.startswith(written):
            # What is on the line is ours: the path says which decision, and the message what was got.
            return replace(problem, file=option.strip(), line=0, column=0, source="")
    return problem


def _pairs(option: str, texts: Iterable[str], example: str, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each `NAME=VALUE`."""
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if name and equals and value:
            yield name, value
        else:
            problems.append(Problem("", f"must be a name and a value, as in `{example}`; got `{text}`", option))


def _decisions(texts: Iterable[str], problems: list[Problem]) -> Iterator[tuple[str, Any]]:
    """Yield path and decision of each `PATH=VALUES[@PRICE]`."""
    for path, text in _pairs("--decide", texts, "models.llm.replicas=1..16@$2.5/h", problems):
        try:
            yield path, decision_of(text)
        except DecisionError as error:
            problems.append(Problem(path, str(error), "--decide"))


def _load(options: PlanOptions, problems: list[Problem]) -> dict[str, Any]:
    """Return the load that the options ask for."""
    given = {"growth": options.growth, "daily": options.daily, "factors": options.factors}
    named = {name: text for name, text in given.items() if text is not None}
    if len(named) > 1:
        names = " and ".join(f"--{name}" for name in named)
        problems.append(Problem("", "must be given one at a time: each tells the load", names))
        return {}
    found: dict[str, Any] = {}
    for name, text in named.items():
        try:
            found[name] = _growth(text) if name == "growth" else _factors(text)
        except ValueError as error:
            problems.append(Problem("", str(error), f"--{name}"))
    return found


def _growth(text: str) -> dict[str, Any]:
    """Return the growth that `10%/month:12` writes."""
    rate, _, rest = (part.strip() for part in text.partition("/"))
    per, _, periods = (part.strip() for part in rest.partition(":"))
    if not (rate and per and periods.isdigit()):
        raise ValueError(f"must be a rate, a period and how many of them, as in `10%/month:12`; got `{text}`")
    return {"rate": rate, "per": per, "for": int(periods)}


def _factors(text: str) -> list[float]:
    """Return factors written between commas or white space, or in a file."""
    rule = "must be numbers between commas, or a file that holds them"
    is_list = all(character in "0123456789.,eE+- " for character in text)
    if not is_list:
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise ValueError(f"{rule}; no such file: {text}") from None
    try:
        return [float(one) for one in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"{rule}; got `{text.strip()[:60]}`") from None
