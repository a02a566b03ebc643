"""Names that a scenario may use: of classes, models, tools and agents of a trace.

Leaves out: which of them a class needs (`estimate`, `scenario_flow`).
Checked: tests/test_trace_fit.py, tests/test_trace_scenario.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["NO_MODEL", "Keys", "bare_name", "name_of", "short_names", "unique"]

NO_MODEL = "no-model"
_LONGEST = 60
_DATE = r"-(20\d{6}|20\d\d-\d\d-\d\d)$"
# Words of YAML, and of workflows.
_TAKEN = frozenset(
    ["true", "false", "null", "none", "yes", "no", "on", "off", "y", "n", "start", "end", "done", "begin", "nothing"]
)


def bare_name(name: str) -> str:
    """Return a model's own name, without who made it and how it is packed."""
    return name.rsplit("/", 1)[-1].split(":", 1)[0]


def name_of(text: str, otherwise: str) -> str:
    """Return a legal name that is like a text, without dots, which paths have; no word that means something where names stand."""
    close = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:_LONGEST].strip("-_")
    if close and (not close[0].isalpha() or close.lower() in _TAKEN):
        close = f"{otherwise}-{close}"
    return close or otherwise


def unique(name: str, used: set[str]) -> str:
    """Return the name, numbered where it is `used` (these are in lower case), and add it to these."""
    found, number = name, 2
    while found.lower() in used:
        found, number = f"{name}-{number}", number + 1
    used.add(found.lower())
    return found


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return a short legal name for each class, all different: a model's is bare, and has no date where it is not needed."""
    names = list(names)
    packed = [name_of(bare_name(name), "tasks") for name in names]
    for short in ([re.sub(_DATE, "", one) for one in packed], packed):
        if len({one.lower() for one in short}) == len(names):
            return dict(zip(names, short, strict=True))
    used: set[str] = set()
    return {name: unique(name_of(name, "tasks"), used) for name in names}


def _suffixes(classes: Mapping[str, str]) -> dict[str, str]:
    """Return what a class adds to the name of a tool that is not the same in others: the least that tells it apart."""
    parts = {name: short.split("-") for name, short in classes.items()}
    out = {}
    for name, own in parts.items():
        others = [one for other, one in parts.items() if other != name]
        size = next((k for k in range(1, len(own)) if all(one[:k] != own[:k] for one in others)), len(own))
        while size < len(own) and own[size].isdecimal():
            size += 1
        out[name] = "-".join(own[:size])
    return out


@dataclass
class Keys:
    """Gives models and tools legal keys, all different. `classes` are the short names of classes; the only one is in no key."""

    classes: Mapping[str, str]
    _used: set[str] = field(default_factory=lambda: {NO_MODEL})

    def of(self, name: str, task_class: str, otherwise: str) -> str:
        """Return a key for what a class ('': all classes) calls `name`; `otherwise` stands for a name of no letters."""
        same = name == task_class and name in self.classes
        key = name_of(bare_name(name) if same else name, otherwise)
        if len(self.classes) > 1 and task_class and not same:
            key = f"{key}-{_suffixes(self.classes)[task_class]}"
        return unique(key, self._used)
