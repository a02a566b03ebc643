"""Names from trace files: without the ids that some hold, as hashes where asked, and not too many of them.

Leaves out: names of models, which often end in a date: those are taken as they are.
Checked: tests/test_trace_read.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from ..engine.ledger import STRUCTURE, Account
from .observation import Observation
from .private import is_well_known, safe_error, safe_id, safe_name, short
from .stamped import is_stamped
from .tally import Fate, Tally

__all__ = ["ACCOUNTS", "Namer", "normalised"]

ACCOUNTS: Final = 200
"""Accounts at most, and as many of structure: what comes later shares one account of its category."""

_REMEMBERED: Final = 100 * ACCOUNTS
OTHERS: Final = "others"
_FIXED: Final = frozenset(
    [
        "chat",
        "embeddings",
        "tool.execute",
        "tool.invoke",
        "inside",
        "wrapper",
        "think",
        "human",
        "backoff",
        "step",
        "failed attempt",
        "between spans",
        "span",
        "span of unknown kind",
    ]
)
_LONG: Final = 120  # characters of a name that are kept
_ID: Final = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|(?<![0-9A-Za-z])(?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{8,}(?![0-9A-Za-z])"
    r"|[0-9]{5,}"
)
_COUNT: Final = re.compile(r"(?<=[\s_\-.:/#])[0-9]+$")


def normalised(name: str, *, counted: bool = True) -> str:
    """Return a name with `#` in place of each id in it and, if `counted`, of a number at its end."""
    found = _ID.sub("#", name[:_LONG])
    return _COUNT.sub("#", found) if counted else found


@dataclass(slots=True)
class Namer:
    """Gives spans their names, and accounts theirs. `hashed`: a short SHA-256 stands for each name, the same for the same."""

    tally: Tally
    hashed: bool = False
    beyond: int = 0  # names that share an account with others
    _said: set[tuple[Fate, str]] = field(default_factory=set)  # of the span at hand
    _seen: dict[tuple[str, bool], str] = field(default_factory=dict)
    _kept: dict[str, str] = field(default_factory=dict)
    _errors: dict[str, str] = field(default_factory=dict)
    _known: dict[Account, Account] = field(default_factory=dict)
    _opened: dict[bool, set[Account]] = field(default_factory=lambda: {True: set(), False: set()})

    def rename(self, span: Observation) -> None:
        """Change the names of a span in place, and count those that were guessed. What was exported keeps the names that it got then."""
        if not self.hashed and is_stamped(span):
            return
        if span.kind not in ("llm", "embedding"):
            span.component = self._plain(span.component, span.kind not in ("tool", "retriever"))
        else:
            span.component = self._safe(span.component)
        if span.error:
            span.error = self._error(span.error)
        span.name = self._plain(span.name, True)
        span.agent = self._plain(span.agent, True)
        span.trace, span.session, span.problem = self._id(span.trace), self._id(span.session), self._id(span.problem)
        if self._said:  # a span counts once, however many of its names are changed
            for fate, what in sorted(self._said):
                self.tally.note(fate, what)
            self._said.clear()
        if self.hashed:
            if is_stamped(span):
                self.tally.note("guessed", "spans of an export whose names are hashed: read as those of any trace")
            span.stamp = None  # it holds names too: what an export says of itself is then guessed as for any other
            span.component, span.name, span.agent = short(span.component), short(span.name), short(span.agent)
            span.trace, span.session, span.problem = short(span.trace), short(span.session), short(span.problem)

    def admit(self, account: Account) -> None:
        """Keep an account as it is, however many there are: an export has as many as were kept before."""
        self._known[account] = account
        self._opened[account.category == STRUCTURE].add(account)

    def limited(self, account: Account) -> Account:
        """Return the account, or the one that stands for all that are too many."""
        found = self._known.get(account)
        if found is not None:
            return found
        opened = self._opened[account.category == STRUCTURE]
        if account in opened or len(opened) < ACCOUNTS:
            found = account
        else:
            name = account.name if account.name in _FIXED else OTHERS
            found = Account(account.category, OTHERS, name)
            self.beyond += 1
        if len(self._known) < _REMEMBERED:  # a file with a new name in each span must not fill the memory
            self._known[account] = found
        opened.add(found)
        return found

    def remark(self) -> str:
        """Say how many names share an account. Names are remembered up to a number: beyond it one may count more than once."""
        least = len(self._known) < _REMEMBERED
        return f"names beyond {ACCOUNTS} share the account `{OTHERS}` of their category: {self.beyond:,} names" + (
            "" if least else " at most"
        )

    def _plain(self, name: str, counted: bool) -> str:
        if not name:
            return ""
        found = self._seen.get((name, counted))
        if found is None:
            found = normalised(self._safe(name), counted=counted)
            if len(self._seen) < _REMEMBERED:
                self._seen[name, counted] = found
        if found != name and "#" in found:
            self._said.add(("guessed", "names that hold an id or a number: `#` stands for it"))
        return found

    def _safe(self, name: str) -> str:
        """Return a name without what is a content."""
        found = self._kept.get(name)
        if found is None:
            found = safe_name(name)
            if len(self._kept) < _REMEMBERED:
                self._kept[name] = found
        if found != name:
            self._said.add(("noted", "names that hold a sentence, a query or a key: cut"))
        return found

    def _id(self, said: str) -> str:
        """Return an id without what is a content."""
        found = safe_id(said)
        if found != said:
            self._said.add(("noted", "names that hold a sentence, a query or a key: cut"))
        return found

    def _error(self, said: str) -> str:
        found = self._errors.get(said)
        if found is None:
            found = safe_error(said)
            if self.hashed and not is_well_known(found):
                found = short(found)
            if len(self._errors) < _REMEMBERED:
                self._errors[said] = found
        return found
