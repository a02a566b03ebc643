"""JSON of any size, walked as it comes: a window of text moves over the stream, and values are parsed where they lie.

Takes one document, documents one after the other (JSON lines among them), and arrays of documents alike. What the caller takes by `value` is
parsed at once, by the standard library; what it walks by `members` and `elements` needs no memory for the whole.

Leaves out: other encodings than UTF-8. Bytes that are not UTF-8 become U+FFFD.
Checked: tests/test_trace_otlp.py.
Source: RFC 8259, https://www.rfc-editor.org/rfc/rfc8259.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

__all__ = ["Damage", "Window"]

CHUNK = 1 << 20
LARGEST = 1 << 28
"""Characters of a value that is parsed at once: what is larger is taken for damage (a quote that never closes)."""

_BLANK = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|"|[\[\]{}]', re.DOTALL)
_NEXT = re.compile(r"\n(?=\{)")


class Damage(Exception):
    """The text is no JSON from here on; `cut` tells that it ends too early. Its message holds nothing of the text."""

    def __init__(self, cut: bool) -> None:
        super().__init__("cut short" if cut else "damaged")
        self.cut = cut


class Window:
    """The text of a stream of bytes from the place that was read to."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.text = ""
        self.at = 0
        self.ended = False
        self._lines = 0  # of the text that was let go
        self.broken = False  # a compressed stream that ended too early, or was damaged
        self._undo = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._parse = json.JSONDecoder().raw_decode
        self._parse_long = json.JSONDecoder(parse_int=_whole).raw_decode

    def more(self) -> bool:
        """Read on; False at the end of the stream."""
        if self.ended:
            return False
        try:
            piece = self.stream.read(max(CHUNK, len(self.text) - self.at))
        except (OSError, EOFError, zlib.error):
            piece, self.broken = b"", True
        self.ended = not piece
        self._lines += self.text.count("\n", 0, self.at)
        self.text = self.text[self.at :] + self._undo.decode(piece, self.ended)
        self.at = 0
        return True

    @property
    def line(self) -> int:
        """The line of the stream, from 1, that was read to."""
        return self._lines + self.text.count("\n", 0, self.at) + 1

    def peek(self) -> str:
        """The next character that is no blank, '' at the end."""
        mark = self.text[self.at : self.at + 1]
        if mark and mark not in " \t\r\n":
            return mark
        while True:
            match = _BLANK.match(self.text, self.at)
            self.at = match.end() if match is not None else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self, wanted: str) -> None:
        """Go past a character. Raises Damage where another stands."""
        if self.peek() != wanted:
            raise Damage(cut=not self.peek())
        self.at += 1

    def members(self) -> Iterator[str]:
        """The names in an object; its user takes or skips each value before it asks for the next."""
        self.take("{")
        while self.peek() != "}":
            if self.peek() == ",":
                self.at += 1
                continue
            if self.peek() != '"':
                raise Damage(cut=not self.peek())
            name = self.value()
            self.take(":")
            yield name
        self.at += 1

    def elements(self) -> Iterator[None]:
        """Once for each element of an array; its user takes or skips it before it asks for the next."""
        self.take("[")
        while self.peek() != "]":
            if self.peek() == ",":
                self.at += 1
                continue
            yield
        self.at += 1

    def value(self) -> Any:
        """The value that comes next, whole. Raises Damage."""
        if not self.peek():
            raise Damage(cut=True)
        parse = self._parse
        while True:
            try:
                found, end = parse(self.text, self.at)
                if end == len(self.text) and not self.ended and not isinstance(found, str | dict | list):
                    self.more()  # a number may go on
                    continue
                self.at = end
                return found
            except json.JSONDecodeError as wrong:
                near = wrong.msg.startswith("Unterminated string") or wrong.pos >= len(self.text) - 16
                if not near or len(self.text) - self.at > LARGEST:
                    raise Damage(cut=False) from None
                if not self.more():
                    raise Damage(cut=True) from None
            except RecursionError:
                return self._deep()
            except ValueError:  # a number of thousands of digits
                if parse is self._parse_long:
                    raise Damage(cut=False) from None
                parse = self._parse_long

    def skip(self) -> None:
        """Go past the value that comes next; an array goes by element by element."""
        if self.peek() == "[":
            for _ in self.elements():
                self.value()
        else:
            self.value()

    def resume(self) -> bool:
        """After damage: go to the next line that begins an object; False where none comes."""
        while True:
            match = _NEXT.search(self.text, self.at)
            if match is not None:
                self.at = match.end()
                return True
            self.at = max(self.at, len(self.text) - 1)
            if not self.more():
                return False

    def _deep(self) -> Any:
        """A value nested deeper than the standard library goes."""
        import ijson  # type: ignore[import-untyped]

        end = self._end()  # it may read on, and move the window
        text = self.text[self.at : end]
        self.at = end
        try:
            return _built(ijson.basic_parse(io.BytesIO(text.encode("utf-8", "replace")), use_float=True))
        except (ijson.JSONError, ValueError):
            raise Damage(cut=False) from None

    def _end(self) -> int:
        """Where the value that begins here ends, by its brackets."""
        while True:
            depth = 0
            for token in _TOKEN.finditer(self.text, self.at):
                mark = token.group()
                if mark == '"':
                    break
                depth += (mark in "[{") - (mark in "]}")
                if depth == 0:
                    return token.end()
            if len(self.text) - self.at > LARGEST or not self.more():
                raise Damage(cut=True)


def _built(events: Iterable[tuple[str, Any]]) -> Any:
    """The value of a stream of events. Its time grows with their number alone: names of paths, which grow with depth, are not made."""
    top: list[Any] = []
    open_: list[Any] = [top]
    names: list[str] = [""]
    for event, value in events:
        if event == "map_key":
            names[-1] = value
            continue
        if event in ("end_map", "end_array"):
            open_.pop()
            names.pop()
            continue
        opened = event in ("start_map", "start_array")
        made: Any = ({} if event == "start_map" else []) if opened else value
        if isinstance(open_[-1], dict):
            open_[-1][names[-1]] = made
        else:
            open_[-1].append(made)
        if opened:
            open_.append(made)
            names.append("")
    return top[0]


def _whole(digits: str) -> int | float:
    """A whole number; one too long to be undone is infinite."""
    return int(digits) if len(digits) < 400 else float("inf")
