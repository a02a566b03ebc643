"""What may be kept of a name that a trace file gives: names are names, and contents that stand where a name should be are not kept.

In one place for all formats. Of a name, what follows a `?` is let go (a query), a word that looks like a key is `#`, and of a sentence (more than
five words) the first four words are kept. The type of an error is an identifier of at most 64 characters, or a code of at most five digits;
else it is the type before the first colon or bracket, if it is named as types of errors are; else it is `error`.

A word looks like a key if it begins as keys of known services do, or has 16 letters and digits in a row, three of them digits at least. Who
logs in at an address (`https://bob:...@host`) and addresses of mail are as keys are. An id of a task, a session or a problem is kept whatever
its letters and digits are; one that is a sentence, or holds a known key or an address, is told by its hash.

Leaves out: other ids in names (`names`).
Checked: tests/test_trace_private.py.
Source: values of `error.type`, https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final

__all__ = ["is_named", "is_well_known", "safe_error", "safe_id", "safe_name", "short"]

WORDS: Final = 5
KEPT: Final = 4
UNKNOWN: Final = "error"
_SECRET: Final = re.compile(
    r"(?<![0-9A-Za-z])(?:(?:sk|pk|rk|whsec)[-_]|gh[opsur]_|github_pat_|glpat-|xox[abeprs]-|hf_|AKIA|ASIA|AIza|eyJ|ya29\.)[\w\-./+=]{8,}"
    r"|(?<=://)[^/\s@]+(?=@)|(?<![\w.+\-])[\w.+\-]+@(?:[\w\-]+\.)+[A-Za-z]{2,}(?![\w\-])"
)
_KEY: Final = re.compile(
    _SECRET.pattern + r"|(?<![0-9A-Za-z])(?=(?:[A-Za-z]*[0-9]){3})(?=[0-9]*[A-Za-z])[0-9A-Za-z]{16,}(?![0-9A-Za-z])"
)
_TYPE: Final = re.compile(r"[A-Za-z_][\w.\-/$#+<>\[\]]*(?:::?[A-Za-z_][\w.\-/$#+<>\[\]]*)*|-?[0-9]{1,5}")
_LONGEST: Final = 64
_NAMED: Final = ("error", "exception", "timeout", "warning", "interrupt")
_KNOWN: Final = frozenset(
    [
        "_OTHER",
        "error",
        "tool_error",
        "timeout",
        "cancelled",
        "canceled",
        "lost",
        "rate_limit",
        "overloaded",
        "rate_limited",
        "refusal",
        "length",
        "content_filter",
    ]
)


def safe_name(name: str) -> str:
    """Return what may be kept of a name."""
    found = name.partition("?")[0].rstrip() or name[:1] if "?" in name else name
    if len(found) >= 12:
        found = _KEY.sub("#", found)
    if found.count(" ") >= WORDS:
        words = found.split()
        found = f"{' '.join(words[:KEPT])} …" if len(words) > WORDS else found
    return found


@lru_cache(maxsize=4096)
def safe_id(said: str) -> str:
    """Return an id, or its hash where it holds a content."""
    return short(said) if said.count(" ") >= WORDS or _SECRET.search(said) else said


def short(said: str) -> str:
    """Return a short SHA-256 of a text; '' for none."""
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:10] if said else ""


def safe_error(said: str) -> str:
    """Return the type of an error from what a file says of one; '' for none."""
    for one in (said, re.split(r"[:(\s]", said, maxsplit=1)[0]):
        whole = one is said
        if len(one) <= _LONGEST and _TYPE.fullmatch(one) and not _KEY.search(one) and (whole or is_named(one)):
            return one
    return UNKNOWN if said else ""


def is_well_known(error: str) -> bool:
    """Whether a type of error says nothing of who wrote it: it is named as exceptions are, is a code, or is one of the conventions."""
    return error in _KNOWN or error.lstrip("-").isdigit() or is_named(error)


def is_named(error: str) -> bool:
    """Whether an error is named as types of errors are: by its last word."""
    return error.lower().endswith(_NAMED)
