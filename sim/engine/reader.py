"""From a YAML text to a tree of nodes, in one pass over the parser's events.

Scalars follow the core schema of YAML 1.2: `yes` and `on` are text, dates are text, `1e3` is a number. Limits on depth
and size, aliases counted each time, give a hostile file a clear error instead of a full stack or a full memory.
Refused: duplicate keys, keys that are no text, tags, merge keys (`<<`), several documents, NaN and infinity.
Leaves out: files and `extends` (`source`).
Checked: tests/test_source.py.
Source: YAML 1.2.2, chapter 10.3; the parser is ruamel.yaml's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from .errors import Problem, shorten, show
from .nodes import MAX_DEPTH, MAX_NODES, Node, Position, Refusal
from .paths import Key, dotted

__all__ = ["read"]

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_MOST_DIGITS = 400  # of a whole number: more are beyond any float


def read(text: str, name: str) -> Node | None:
    """Return the tree of the one document in `text`, or None when it holds none; Refusal with every mistake."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    builder = _Builder(name, text)
    try:
        root = builder.document(iter(YAML(typ="safe", pure=True).parse(text)))
    except YAMLError as error:
        raise Refusal([*builder.problems, _syntax(error, builder)]) from None
    if builder.problems:
        raise Refusal(builder.problems)
    return root


class _Builder:
    """Builds nodes from events; mistakes that do not stop it are collected in `problems`."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.lines = re.split(r"\r\n|[\r\n\x85\u2028\u2029]", text)  # the line ends the scanner counts
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node | None] = {}
        self.open: list[Any] = []  # the events that began the lists and mappings being read
        self.count = 0

    def document(self, events: Iterator[Any]) -> Node | None:
        """Return the root of the only document."""
        root = None
        documents = 0
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    self.stop(event, "a second document begins here; a file holds one")
                first = next(events)
                root = self.node(first, events, (), 1)
                if root.is_null and getattr(first, "value", None) == "":
                    root = None
        return root

    def position(self, mark: Any) -> Position:
        """Return the place of a mark of the parser, which counts from 0."""
        line = self.lines[mark.line] if mark.line < len(self.lines) else ""
        return Position(self.name, mark.line + 1, mark.column + 1, line)

    def problem(self, event: Any, message: str, path: tuple[Key, ...] = ()) -> Problem:
        """Return a mistake at an event."""
        place = self.position(event.start_mark)
        return Problem(dotted(path), message, place.file, place.line, place.column, place.source)

    def stop(self, event: Any, message: str) -> None:
        """Give up: reading on would cost too much, or mean nothing."""
        raise Refusal([*self.problems, self.problem(event, message)])

    def node(self, event: Any, events: Iterator[Any], path: tuple[Key, ...], depth: int) -> Node:
        """Return the node that begins with `event`."""
        if depth > MAX_DEPTH:
            self.stop(event, f"nests deeper than {MAX_DEPTH} levels")
        self.counted(event, 1)
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self.alias(event, path, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if kind == "ScalarEvent":
            node = Node(self.scalar(event, path), self.position(event.start_mark))
        else:
            self.open.append(event)
            read_children = self.mapping if kind == "MappingStartEvent" else self.sequence
            node = read_children(event, events, path, depth)
            self.open.pop()
        if event.tag is not None and kind != "ScalarEvent":
            self.problems.append(self.problem(event, _tag(event), path))
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def counted(self, event: Any, nodes: int) -> None:
        """Count nodes, as if every alias were written out."""
        self.count += nodes
        if self.count > MAX_NODES:
            self.stop(event, f"holds more than {MAX_NODES:,} values, aliases written out; this is no scenario")

    def alias(self, event: Any, path: tuple[Key, ...], depth: int) -> Node:
        """Return the node an alias stands for; its values keep the place where they are written."""
        node = self.anchors.get(event.anchor)
        if node is None:
            known = event.anchor in self.anchors
            message = "an alias inside its own anchor" if known else "no such anchor above"
            self.problems.append(self.problem(event, f"`*{event.anchor}`: {message}", path))
            return Node(None, self.position(event.start_mark))
        if depth + node.height - 1 > MAX_DEPTH:
            self.stop(event, f"nests deeper than {MAX_DEPTH} levels")
        self.counted(event, node.size - 1)
        return node

    def sequence(self, event: Any, events: Iterator[Any], path: tuple[Key, ...], depth: int) -> Node:
        """Return a list."""
        items: list[Node] = []
        for inner in events:
            if type(inner).__name__ == "SequenceEndEvent":
                break
            items.append(self.node(inner, events, (*path, len(items)), depth + 1))
        size, height = _measure(items)
        return Node(None, self.position(event.start_mark), items=items, size=size, height=height)

    def mapping(self, event: Any, events: Iterator[Any], path: tuple[Key, ...], depth: int) -> Node:
        """Return a mapping; of duplicate keys the first stays."""
        fields: dict[str, Node] = {}
        for inner in events:
            if type(inner).__name__ == "MappingEndEvent":
                break
            name = self.key(inner, events, path, depth)
            value = self.node(next(events), events, (*path, "?" if name is None else name), depth + 1)
            if name is None:
                continue
            first = fields.setdefault(name, value.with_key(self.position(inner.start_mark)))
            if first.at is not value.at:
                line = first.place(key=True).line
                message = f"this field is given twice; the first is on line {line}"
                self.problems.append(self.problem(inner, message, (*path, name)))
        size, height = _measure(list(fields.values()))
        return Node(None, self.position(event.start_mark), mapping=fields, size=size, height=height)

    def key(self, event: Any, events: Iterator[Any], path: tuple[Key, ...], depth: int) -> str | None:
        """Return the text of a key, or None (and a mistake) when it is no text."""
        if type(event).__name__ != "ScalarEvent":
            self.node(event, events, path, depth + 1)
            self.problems.append(self.problem(event, "a key must be text, not a list, a mapping or an alias", path))
            return None
        self.counted(event, 1)
        written: str = event.value
        if event.tag is not None:
            self.problems.append(self.problem(event, _tag(event), path))
        elif event.style is None and written == "<<":
            message = "merge keys (`<<`) are not part of YAML 1.2; repeat the fields, or use `extends`"
            self.problems.append(self.problem(event, message, path))
        elif event.style is None and not _is_text(written):
            remedy = f'; write "{shorten(written, 20)}" in quotes' if written else ""
            self.problems.append(self.problem(event, f"a key must be text; got {written or 'nothing'}{remedy}", path))
        else:
            return written
        return None

    def scalar(self, event: Any, path: tuple[Key, ...]) -> Any:
        """Return the value of a scalar by the core schema."""
        text: str = event.value
        if event.tag is not None:
            self.problems.append(self.problem(event, _tag(event), path))
            return text
        if event.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text) and len(text) <= _MOST_DIGITS:
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and math.isinf(float(text))):
            self.problems.append(self.problem(event, f"must be finite; got {show(text)}", path))
            return 0.0
        return float(text) if _FLOAT.fullmatch(text) else text


def _is_text(written: str) -> bool:
    """Whether a plain scalar is text by the core schema."""
    return not (
        written in _WORDS or _INT.fullmatch(written) or _FLOAT.fullmatch(written) or _NOT_FINITE.fullmatch(written)
    )


def _tag(event: Any) -> str:
    """Return what is wrong with a tag."""
    tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
    return f"tags such as `{shorten(tag, 40)}` are not used here; write the plain value"


def _measure(children: list[Node]) -> tuple[int, int]:
    """Return the size and the height of a node with these children."""
    return 1 + sum(child.size for child in children), 1 + max((child.height for child in children), default=0)


def _syntax(error: Any, builder: _Builder) -> Problem:
    """Return a mistake of syntax in our words, at the place that needs a change."""
    mark, context = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    if mark is None:
        return _character(error, builder)
    message, opening = _told(str(error.problem or ""), str(error.context or ""), builder, mark)
    if opening and "bracket" in message and builder.open:
        context = builder.open[-1].start_mark
    place = builder.position(context if opening and context is not None else mark)
    return Problem("", message, place.file, place.line, place.column, place.source)


# What the parser says, and the same in our words; True when it is about the place where its context opened.
_SAYINGS = (
    ("mapping values are not allowed", "a `:` is not expected here; check the indentation, or put the text in quotes", False),
    ("could not find expected", "expected `name: value`; there is no `:` after this", True),
    ("sequence entries are not allowed", "a `-` is not expected here; begin the list on a line of its own", False),
    ("mapping keys are not allowed", "a `?` is not expected here; put the text in quotes", False),
    ("document start", "does not belong to what stands above; check the brackets and the indentation", False),
    ("chomping or indentation", "after `|` or `>` the text begins on the next line", False),
    ("unknown escape character", "no such escape; in double quotes, write a backslash twice", False),
    ("while scanning an anchor", "expected a name after `&`; put the text in quotes", False),
    ("while scanning an alias", "expected a name after `*`; put the text in quotes", False),
    ("while parsing a block", "does not fit the indentation of the lines above", False),
)  # fmt: skip


def _told(problem: str, context: str, builder: _Builder, mark: Any) -> tuple[str, bool]:
    """Return the message, and whether it is about the place where a quote or bracket opens."""
    line = builder.lines[mark.line] if mark.line < len(builder.lines) else ""
    here = line[mark.column : mark.column + 1]
    if here == "\t":
        return "a tab stands here; indent with spaces", False
    if "cannot start any token" in problem:
        return f"text may not begin with `{here}`; put it in quotes", False
    if "unexpected end of stream" in problem and "scalar" in context:
        return "the quote that opens here is never closed", True
    if "parsing a flow" in context:
        is_list = type(builder.open[-1]).__name__.startswith("Sequence") if builder.open else "sequence" in context
        opening, closing = ("[", "]") if is_list else ("{", "}")
        if "stream end" in problem:
            return f"the bracket `{opening}` that opens here is never closed", True
        opened = builder.open[-1].start_mark if builder.open else mark
        place = f"{opened.line + 1}:{opened.column + 1}"
        return f"expected `,` or `{closing}` here, inside the brackets that open at {place}", False
    if "mapping values are not allowed" in problem and ":" not in line[: mark.column]:
        return "a `:` is not expected here; check the indentation, and the line above for a missing `:`", False
    if "node content" in problem:
        return f"expected a value here; got `{here}`" if here else "expected a value here", False
    for saying, message, opening_is_meant in _SAYINGS:
        if saying in f"{context}: {problem}":
            return message, opening_is_meant
    return "is not YAML: " + shorten(problem.replace("'", "`").replace("\x00", "the end")), False


def _character(error: Any, builder: _Builder) -> Problem:
    """Return the mistake of a control character, which the parser gives by its offset."""
    offset = getattr(error, "position", None)
    if not isinstance(offset, int):
        return Problem("", "is not YAML", builder.name)
    before = builder.text[:offset]
    code = ord(builder.text[offset]) if offset < len(builder.text) else 0
    line = before.count("\n") + 1
    column = offset - (before.rfind("\n") + 1) + 1
    return Problem("", f"the control character U+{code:04X} may not stand in YAML", builder.name, line, column)
