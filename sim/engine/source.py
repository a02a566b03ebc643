"""Reading YAML with the position of every value, so that a mistake can be shown where it was written.

Here: files, `extends:`, overrides, and finding a place. A text under the key `file` becomes a path from the working
directory, whichever file wrote it.
Leaves out: YAML itself (`reader`), merging (`merge`), what the fields mean (`spec`), and writing YAML.
Checked: tests/test_source.py, tests/test_extends.py.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import nodes, paths, reader
from .errors import InputError, Problem, ScenarioError, did_you_mean, shorten
from .merge import as_patch, merge, with_preset
from .nodes import Node, Position
from .paths import Key, dotted

__all__ = ["Document", "Position", "load"]

_LARGEST_FILE = 2_000_000  # bytes; a megabyte takes a second to read
_TOO_LARGE = "is larger than 2 MB; put long lists of numbers into a file of their own"
_LONGEST_CHAIN = 32  # files that extend one another


class Document:
    """Plain data, and for every path in it the place where it was written. Treat `data` as frozen."""

    def __init__(
        self, root: Node, name: str, files: Sequence[Path] = (), changes: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Hold the tree `root`, read from `name`; `files` are all the files that took part, and `changes` what overrides replaced, in order."""
        self._root = root
        self.name = name
        self.files: list[Path] = list(files)
        self.changes = tuple(changes)
        self.data: dict[str, Any] = nodes.plain(root)

    @classmethod
    def from_text(cls, text: str, name: str = "text", error: type[InputError] = ScenarioError) -> Document:
        """Read YAML from a string; `extends` and `file` are then relative to the working directory."""
        return cls(*_Loader(error).finish(_parse(text, name, error), name, Path(), (), name))

    @classmethod
    def from_data(
        cls, data: Mapping[str, Any], name: str = "data", error: type[InputError] = ScenarioError
    ) -> Document:
        """Take plain Python data; positions then say only `name`."""
        try:
            root = nodes.from_plain(copy.deepcopy(data), Position(name))
        except nodes.Refusal as refusal:
            raise error(refusal.problems, name) from None
        return cls(*_Loader(error).finish(root, name, Path(), (), name))

    def where(self, path: Sequence[Key], key: bool = False) -> Position:
        """Return where the value at `path` was written (its key, with `key`), or its nearest ancestor that exists."""
        node = self._root
        for step in path:
            child = node.child(step)
            if child is None:
                return node.place(key=True)
            node = child
        return node.place(key)

    def with_override(self, path: str | Sequence[Key], text: str, option: str = "") -> Document:
        """Return a copy with the value at `path` replaced by the YAML in `text`, as `--set path=value` asks.

        `null` deletes. On a bare runtime preset, `runtime.policy` makes `{preset: name, policy: value}`. Mistakes are told of the
        `option`, where it says the same in other words. Raises ScenarioError when the place does not exist or the text is not YAML.
        """
        shown = path if isinstance(path, str) else dotted(tuple(path))
        option = option or f"--set {shown}={text}"
        value = nodes.at(_parse_value(text, option), Position(option))
        root = with_preset(self._root, paths.parse_path(path))
        steps = paths.resolve(nodes.plain(root), path, subject=option)
        kept = [one for one in self.changes if one[0] != shown and not one[0].startswith(f"{shown}.")]
        return Document(_replaced(root, steps, 0, value, option), self.name, self.files, [*kept, (shown, text)])

    def problem(self, path: Sequence[Key], message: str, key: bool = False) -> Problem:
        """Return a mistake at `path`, with its place."""
        at = self.where(path, key)
        return Problem(dotted(path), message, at.file, at.line, at.column, at.source)


def load(path: str | os.PathLike[str], error: type[InputError] = ScenarioError) -> Document:
    """Read a YAML file and all that it extends.

    Raises `error` with every mistake found: no such file, not UTF-8, not YAML, duplicate keys, too deep or too large.
    """
    root, name, files = _Loader(error).read(Path(path), os.fspath(path), ())
    return Document(root, name, files)


class _Loader:
    """Reads one document and what it extends; each file once."""

    def __init__(self, error: type[InputError]) -> None:
        self.error = error
        self.done: dict[Path, tuple[Node, str, list[Path]]] = {}

    def read(self, path: Path, name: str, chain: tuple[Path, ...]) -> tuple[Node, str, list[Path]]:
        """Return the tree of a file with its bases merged in; `chain` holds the files that led here."""
        known = _identity(path)
        if known not in self.done:
            root = _parse(_text(path, name, self.error), name, self.error)
            finished = self.finish(root, name, path.parent, (*chain, known), name)
            self.done[known] = (finished[0], finished[1], [path, *finished[2]])
        return self.done[known]

    def finish(
        self, root: Node, name: str, folder: Path, chain: tuple[Path, ...], subject: str
    ) -> tuple[Node, str, list[Path]]:
        """Return `root` with `file` paths relative to the working directory, and its bases merged below it."""
        root = nodes.with_paths(root, folder)
        extends = root.fields.get("extends")
        if extends is None:
            return root, name, []
        bases = extends.items if extends.items is not None else [extends]
        merged: Node | None = None
        files: list[Path] = []
        problems: list[Problem] = []
        for base in bases:
            below, _, more = self._base(base, folder, chain, subject)
            merged = below if merged is None else merge(merged, as_patch(below), problems)
            files += [file for file in more if file not in files]
        patch = root.without("extends")
        merged = patch if merged is None else merge(merged, patch, problems)
        if problems:
            raise self.error(problems, subject)
        return merged, name, files

    def _base(self, base: Node, folder: Path, chain: tuple[Path, ...], subject: str) -> tuple[Node, str, list[Path]]:
        """Return one file that is extended."""
        if not isinstance(base.value, str) or not base.value.strip():
            raise self._refused(base, "must be the name of a YAML file, or a list of them", subject)
        path = folder / base.value
        known = _identity(path)
        if known in chain:
            circle = " -> ".join(f"`{_short(file)}`" for file in (*chain[chain.index(known) :], known))
            raise self._refused(base, f"extends in a circle: {circle}", subject)
        if len(chain) >= _LONGEST_CHAIN:
            raise self._refused(base, f"more than {_LONGEST_CHAIN} files extend one another", subject)
        if not _is_file(path):
            raise self._refused(base, f"no such file: {shorten(str(path), 100)}{_meant(path)}", subject)
        return self.read(path, str(path), chain)

    def _refused(self, node: Node, message: str, subject: str) -> InputError:
        """Return the error for a bad `extends`."""
        at = node.place()
        return self.error([Problem("extends", message, at.file, at.line, at.column, at.source)], subject)


def _identity(path: Path) -> Path:
    """Return what two names of one file have in common; a name that no file can have stands for itself."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, links in a circle
        return path.absolute()


def _is_file(path: Path) -> bool:
    """Whether a file can be read here."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _short(path: Path) -> str:
    """Return a path as a person would write it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _meant(path: Path) -> str:
    """Return '; did you mean `quickstart.yaml`?' when a file of a like name is there."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml"))
    except (OSError, ValueError):
        return ""
    if f"{path.name}.yaml" in names:
        return f"; did you mean `{path.name}.yaml`?"
    return did_you_mean(path.name, names) if len(path.name) < 100 else ""


def _text(path: Path, name: str, error: type[InputError]) -> str:
    """Return the text of a file; a byte order mark is dropped."""

    def refused(message: str, line: int = 0) -> InputError:
        return error([Problem("", message, name, line)], name)

    try:
        if path.is_dir():
            raise refused("is a directory; name a YAML file in it")
        if not path.exists():
            raise refused(f"no such file{_meant(path)}")
        if not path.is_file():
            raise refused("is not a regular file")
        if path.stat().st_size > _LARGEST_FILE:
            raise refused(_TOO_LARGE)
        content = path.read_bytes()
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise refused(f"cannot be read: {reason.lower()}") from None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refused("is UTF-16; save it as UTF-8")
    if b"\0" in content:
        raise refused("is a binary file, not YAML")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise refused(f"is not UTF-8: byte 0x{content[problem.start]:02x}; save it as UTF-8", line) from None


def _parse(text: str, name: str, error: type[InputError]) -> Node:
    """Return the tree of a YAML text, which must be a mapping."""
    try:
        if len(text) > _LARGEST_FILE:
            raise nodes.Refusal([Problem("", _TOO_LARGE, name)])
        root = reader.read(text.removeprefix("\ufeff"), name)
        if root is None:
            raise nodes.Refusal([Problem("", "is empty; `coordsim init` writes a starter", name)])
        if root.mapping is None:
            message = f"must be a mapping, with fields such as `name: ...`; got {nodes.told(root)}"
            raise nodes.Refusal([Problem("", message, name, root.at.line, root.at.column, root.at.source)])
    except nodes.Refusal as refusal:
        raise error(refusal.problems, name) from None
    return root


def _parse_value(text: str, option: str) -> Node:
    """Return the value that `--set path=value` gives; nothing after the `=` is an empty text."""
    try:
        node = reader.read(text, option)
    except nodes.Refusal as refusal:
        problems = [Problem("", problem.message, option) for problem in refusal.problems]
        raise ScenarioError(problems, option) from None
    return Node("", Position(option)) if node is None else node


def _replaced(root: Node, steps: Sequence[Key], depth: int, value: Node, option: str) -> Node:
    """Return the tree, whose root is at `steps[:depth]`, with the value at `steps` replaced, or deleted by null."""
    step = steps[depth]
    if depth + 1 < len(steps):
        below = root.child(step)
        assert below is not None, "paths.resolve has found every parent"
        return root.replaced(step, _replaced(below, steps, depth + 1, value, option))
    if not value.is_null:
        return root.replaced(step, value.with_key(Position(option)))
    if root.items is None and step in root.fields:
        return root.without(str(step))
    message = "an item of a list cannot be deleted; give the whole list"
    if root.items is None:
        message = f"nothing to delete{did_you_mean(step, root.fields)}"
    raise ScenarioError([Problem(dotted(steps), message, option)], option)
