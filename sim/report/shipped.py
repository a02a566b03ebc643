"""The scenarios that ship: where they are, what they are called, and the question each answers.

Leaves out: checking them.
Checked: tests/test_cli.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from ..engine.errors import Problem, ScenarioError, did_you_mean
from ..engine.source import load


def folder() -> Path:
    """Return the folder of the scenarios that ship."""
    return Path(str(files(__name__.partition(".")[0]) / "scenarios"))


def names() -> list[str]:
    """Return the scenarios by name, such as `quickstart` or `theory/mm1`."""
    root = folder()
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def questions() -> Iterator[tuple[str, str]]:
    """Yield every scenario's name and question; ScenarioError when one cannot be read."""
    for name in names():
        yield name, str(load(folder() / f"{name}.yaml").data.get("question", ""))


def find(text: str) -> Path:
    """Return the file that `text` means: a path, or the name of a scenario that ships where no such file exists.

    Raises ScenarioError, with the nearest name, when it is neither.
    """
    path = Path(text)
    if path.exists():
        return path
    known = names()
    if text in known:
        return folder() / f"{text}.yaml"
    bare = path.suffix not in (".yaml", ".yml") and path.name == text
    hint = did_you_mean(text.removesuffix(path.suffix), known)
    what = "no such file, and no scenario that ships has this name" if bare else "no such file"
    remedy = hint or "; `coordsim scenarios` lists those that ship, and `coordsim init` writes a starter"
    raise ScenarioError([Problem("", what + remedy)], text)
