"""Variants of a scenario: built by changes, checked before anything runs, and sent to processes as text.

A variant is known by what it says, as JSON that loads to it in any process: two ways to say the same are one variant, and it
runs once. Text is sent faster than what it says, and is read once a process.

Leaves out: which variants a study wants.
Checked: tests/test_variants.py.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from ..sim.analysis.result import Result
from ..sim.engine.errors import ScenarioError
from ..sim.engine.source import Document

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["Change", "Variants", "document_of", "reason", "scenario_of", "simulate_text"]

Change = tuple[str, str]  # a path, and the YAML to put there
ASIDE = ("compare", "scaling", "study", "sensitivity", "plan")  # sections that say what to run, and change no run


@dataclass
class Variants:
    """The variants of one scenario: `found` holds each by its key, and `doubts` what they say about themselves."""

    scenario: "Scenario"
    found: dict[str, str] = field(default_factory=dict)
    doubts: set[str] = field(default_factory=set)

    def key(self, changes: Iterable[Change] = ()) -> str:
        """Return the key of the scenario with changes in place, one after the other. Raises ScenarioError."""
        document = document_of(self.scenario)
        for path, text in changes:
            document = type(self.scenario).overridden(document, path, text)
        text = json.dumps({name: value for name, value in document.data.items() if name not in ASIDE})
        if text not in self.found:
            self.doubts.update(type(self.scenario).of(document).doubts())
            self.found[text] = text
        return text

    def take(self, text: str) -> str:
        """Take a variant that is text already; return its key."""
        return self.found.setdefault(text, text)


def document_of(scenario: "Scenario") -> Document:
    """Return the document that a scenario was read from, or one that says the same."""
    return scenario._document or Document.from_data(scenario.to_data(), scenario.name)


def reason(error: ScenarioError, most: int = 3) -> str:
    """Return the first mistakes of a variant in one line."""
    return "; ".join(": ".join(filter(None, (one.path, one.message))) for one in error.problems[:most])


@lru_cache(maxsize=8)
def scenario_of(text: str) -> "Scenario":
    """Return the scenario that a key stands for."""
    from .scenario import Scenario

    return Scenario.of(Document.from_data(json.loads(text), "variant"))


def simulate_text(text: str, seed: int, replication: int, spans: str = "none") -> Result:
    """Run one replication of a variant given by its key."""
    from .simulate import simulate

    return simulate(scenario_of(text), seed, replication, spans)
