"""The section `plan` as options of the command write it; a mistake is told of the option.

    --decide 'models.llm.replicas=1..16@$2.5/h' --slo 'p95=2 s' --growth 10%/month:12 --confidence 99%

Leaves out: the command itself.
Checked: tests/test_plan_models.py.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..sim.engine.errors import Problem, ScenarioError
from ..sim.engine.source import Document
from .plan_values import DecisionError, decision_of, priced_as_before

__all__ = ["PlanOptions", "asked"]


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
    given = [
        ("decide", "--decide", json.dumps(decide) if decide else None),
        ("slo", "--slo", json.dumps(slo) if slo else None),
        *(("load", f"--{name}", json.dumps({name: value})) for name, value in load.items()),
        ("confidence", "--confidence", options.confidence),
        ("max_replications", "--max-replications", options.max_replications),
    ]
    written = [(name, option, text) for name, option, text in given if text is not None]
    if written and document.data.get("plan") is None:
        document = document.with_override("plan", "{}", written[0][1])
    for name, option, text in written:
        document = document.with_override(("plan", name), text, option)
    return document


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
