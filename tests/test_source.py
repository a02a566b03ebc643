"""Reading YAML: values, positions, and every way in which a file can be wrong."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordsim.sim.engine.errors import InputError, Problem, ProfileError, ScenarioError
from coordsim.sim.engine.nodes import Position
from coordsim.sim.engine.source import Document, load


def write(folder: Path, **files: str) -> Path:
    """Write `name=text` as name.yaml and return the path of the first."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yaml"


def refusal(text: str) -> str:
    """Return the report about a bad text, without its headline."""
    with pytest.raises(ScenarioError) as caught:
        Document.from_text(text, "s.yaml")
    return str(caught.value).partition("\n")[2]


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-01-31", "2026-01-31"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("250 ms", "250 ms"),
        ("80 %", "80 %"),
        ("$3 / 1M tokens", "$3 / 1M tokens"),
        ("[1, {a: 2}]", [1, {"a": 2}]),
        ("{}", {}),
    ],
)
def test_a_scalar_follows_the_core_schema(text: str, value: object) -> None:
    """YAML 1.2: no `yes` for true, no base 60, no dates."""
    found = Document.from_text(f"x: {text}\n").data["x"]
    assert found == value
    assert type(found) is type(value)


def test_aliases_are_copies() -> None:
    """Changing the data at one place leaves the other."""
    data = Document.from_text("a: &x {k: [1]}\nb: *x\n").data
    data["a"]["k"].append(2)
    assert data == {"a": {"k": [1, 2]}, "b": {"k": [1]}}


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    """Files written by Windows editors are scenarios too, with right line numbers."""
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    document = load(path)
    assert document.data == {"a": 1, "b": 2}
    assert document.where(("b",)) == Position(str(path), 2, 4, "b: 2")


# --- positions ------------------------------------------------------------------------------------------------------

PLACED = "name: x\ntools:\n  search:\n    latency: 1 s\nlinks:\n  - {a: 1, b: 2}\n  - c: 3\n"


@pytest.mark.parametrize(
    ("path", "key", "place"),
    [
        (("name",), False, (1, 7)),
        (("name",), True, (1, 1)),
        (("tools", "search", "latency"), False, (4, 14)),
        (("tools", "search"), False, (3, 3)),
        (("tools", "search", "capacity"), True, (3, 3)),
        (("links", 0, "b"), False, (6, 15)),
        (("links", 1), False, (7, 5)),
        (("links", 9, "b"), False, (5, 1)),
        (("nothing", "here"), False, (1, 1)),
        ((), False, (1, 1)),
    ],
)
def test_every_value_has_its_place(path: tuple[Any, ...], key: bool, place: tuple[int, int]) -> None:
    """A value is cited where it stands, a mapping at its key, and what is missing at what lacks it."""
    found = Document.from_text(PLACED, "s.yaml").where(path, key)
    assert (found.line, found.column) == place
    assert found.source == PLACED.splitlines()[place[0] - 1]


def test_plain_data_has_no_lines() -> None:
    """A spec built in Python is reported by path alone."""
    document = Document.from_data({"a": [1, {"b": "x"}]}, "mine")
    assert document.data == {"a": [1, {"b": "x"}]}
    assert document.where(("a", 1, "b")) == Position("mine")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({1: "x"}, "keys must be text; got 1"),
        ({"a": float("nan")}, "a: must be finite; got nan"),
        ({"a": [object]}, "a.0: must be text, a number, a list or a mapping"),
    ],
)
def test_plain_data_that_yaml_cannot_hold_is_refused(data: Any, message: str) -> None:
    """Python data meets the same rules as a file."""
    with pytest.raises(ScenarioError, match=message):
        Document.from_data(data)


# --- bad texts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("", "  is empty; `coordsim init` writes a starter"),
        ("# only a comment\n", "  is empty; `coordsim init` writes a starter"),
        ("---\n...\n", "  is empty; `coordsim init` writes a starter"),
        ("- 1\n", "  1:1  must be a mapping, with fields such as `name: ...`; got a list\n       | - 1"),
        ("hello\n", "  1:1  must be a mapping, with fields such as `name: ...`; got 'hello'\n       | hello"),
        ("a:\n\tb: 1", "  2:1  a tab stands here; indent with spaces\n       | b: 1"),
        ("a: 'x\n", "  1:4  the quote that opens here is never closed\n       | a: 'x"),
        ("a: [1, {b: 2}", "  1:4  the bracket `[` that opens here is never closed\n       | a: [1, {b: 2}"),
        ("a: {b: 1", "  1:4  the bracket `{` that opens here is never closed\n       | a: {b: 1"),
        ("a: [1\nb: 2", "  2:2  expected `,` or `]` here, inside the brackets that open at 1:4\n       | b: 2"),
        (
            "a b\nc: 1",
            "  2:2  a `:` is not expected here; check the indentation, and the line above for a missing `:`\n       | c: 1",
        ),
        (
            "a: b: c",
            "  1:5  a `:` is not expected here; check the indentation, or put the text in quotes\n       | a: b: c",
        ),
        ("- 1\nb: 2", "  2:1  does not fit the indentation of the lines above\n       | b: 2"),
        ("a: @x", "  1:4  text may not begin with `@`; put it in quotes\n       | a: @x"),
        ("a: 1\nb 2\nc: 3", "  2:1  expected `name: value`; there is no `:` after this\n       | b 2"),
        ("a: - 1", "  1:4  a `-` is not expected here; begin the list on a line of its own\n       | a: - 1"),
        ("a: |x\n", "  1:5  after `|` or `>` the text begins on the next line\n       | a: |x"),
        ('a: "\\q"', '  1:6  no such escape; in double quotes, write a backslash twice\n       | a: "\\q"'),
        ("a: 50 % *\nb: *", "  2:5  expected a name after `*`; put the text in quotes\n       | b: *"),
        ("a: ]", "  1:4  expected a value here; got `]`\n       | a: ]"),
        ("a: \x01", "  1:4  the control character U+0001 may not stand in YAML"),
        ("a: 1\n---\nb: 2", "  2:1  a second document begins here; a file holds one\n       | ---"),
        ("a: 1\nb: 2\na: 3", "  3:1  a: this field is given twice; the first is on line 1\n       | a: 3"),
        ("1: x", '  1:1  a key must be text; got 1; write "1" in quotes\n       | 1: x'),
        ("? [a]\n: b", "  1:3  a key must be text, not a list, a mapping or an alias\n       | ? [a]"),
        ("a: &x 1\n*x : 2", "  2:1  a key must be text, not a list, a mapping or an alias\n       | *x : 2"),
        ("a: *x", "  1:4  a: `*x`: no such anchor above\n       | a: *x"),
        ("a: &x [*x]", "  1:8  a.0: `*x`: an alias inside its own anchor\n       | a: &x [*x]"),
        ("a: .nan", "  1:4  a: must be finite; got .nan\n       | a: .nan"),
        ("a: -.inf", "  1:4  a: must be finite; got -.inf\n       | a: -.inf"),
        ("a: 1e400", "  1:4  a: must be finite; got 1e400\n       | a: 1e400"),
    ],
)
def test_a_bad_text_says_where_and_what(text: str, report: str) -> None:
    """Position, rule, remedy and the line itself; no word of the parser's own."""
    assert refusal(text) == report


@pytest.mark.parametrize("text", ["a: !!python/object:os.system x", "a: !x {b: 1}", "!!str a: 1", "a: !!float 1"])
def test_tags_are_refused(text: str) -> None:
    """A scenario holds data and calls nothing."""
    assert "are not used here; write the plain value" in refusal(text)


def test_a_merge_key_is_refused_with_the_remedy() -> None:
    """`<<` left YAML with version 1.2."""
    assert "repeat the fields, or use `extends`" in refusal("a: &x {b: 1}\nc: {<<: *x}")


def test_mistakes_that_do_not_stop_the_reader_come_together() -> None:
    """Duplicates, keys and numbers are reported at once, in the order of the file."""
    assert [line.split()[0] for line in refusal("a: .nan\n2: x\nb: 1\nb: 2\n").splitlines()[::2]] == [
        "1:4",
        "2:1",
        "4:1",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 5000,
        "a: " + "{b: " * 5000,
        "\n".join(" " * depth + "a:" for depth in range(1900)),
        "- " * 5000 + "1",
        "a: " + "[" * 5000 + "]" * 5000,
        "a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 40 + "*a" + "]" * 40,
    ],
    ids=["lists", "mappings", "indents", "dashes", "closed", "through an alias"],
)
def test_deep_nesting_is_refused_before_the_stack_is_full(text: str) -> None:
    """Thousands of levels give a message and no RecursionError."""
    assert "nests deeper than 64 levels" in refusal(text)


def test_deep_plain_data_is_refused_too() -> None:
    """As for files."""
    data: dict[str, Any] = {}
    for _ in range(100):
        data = {"a": data}
    with pytest.raises(ScenarioError, match="nests deeper than 64 levels"):
        Document.from_data(data)


def test_an_alias_bomb_is_refused_before_the_memory_is_full() -> None:
    """Nine lines that stand for 10^9 values are counted as if written out."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "holds more than 200,000 values, aliases written out" in refusal("\n".join(lines))


def test_a_whole_number_of_many_digits_is_refused() -> None:
    """It is beyond any float, and reading it would take quadratic time."""
    assert "a: must be finite; got 9999" in refusal("a: " + "9" * 100_000)


@given(text=st.text("ab:-[]{}&*!|>'\"%@`?,#~<0.\\ \n\t\r\x85\ufeff", max_size=30))
def test_any_text_is_a_document_or_a_mistake(text: str) -> None:
    """No text, however odd, ends in another exception, and every mistake has a line."""
    try:
        problems = list[Problem]()
        assert isinstance(Document.from_text(text, "s.yaml").data, dict)
    except ScenarioError as error:
        problems = list(error.problems)
    assert all(problem.line > 0 or problem.message.startswith("is empty") for problem in problems)


# --- bad files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: \xff\xfe\n", "is not UTF-8: byte 0xff; save it as UTF-8"),
        ("a: 1\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "is a binary file, not YAML"),
        (b"\x1f\x8b\x08\x08gz", "is not UTF-8: byte 0x8b"),
        (b"a: x\n" * 500_000, "is larger than 2 MB; put long lists of numbers into a file of their own"),
    ],
    ids=["latin-1", "utf-16", "elf", "gzip", "large"],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """The message says what the file is and how to save it."""
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match=message):
        load(path)


def test_a_missing_file_offers_its_neighbour(tmp_path: Path) -> None:
    """Misspelt names and forgotten endings are both recognized."""
    write(tmp_path, quickstart="a: 1")
    with pytest.raises(ScenarioError, match=r"no such file; did you mean `quickstart\.yaml`"):
        load(tmp_path / "quickstrat.yaml")
    with pytest.raises(ScenarioError, match=r"no such file; did you mean `quickstart\.yaml`"):
        load(tmp_path / "quickstart")
    with pytest.raises(ScenarioError, match="no such file"):
        load(tmp_path / "no" / "such" / "folder.yaml")


def test_a_directory_a_pipe_and_an_impossible_name_are_refused(tmp_path: Path) -> None:
    """A pipe is not waited for."""
    with pytest.raises(ScenarioError, match="is a directory"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ScenarioError, match="is not a regular file"):
        load(tmp_path / "pipe")
    with pytest.raises(ScenarioError, match=r"cannot be read|no such file"):
        load("x\0.yaml")
    with pytest.raises(ScenarioError, match="cannot be read: file name too long"):
        load("x" * 5000)
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(ScenarioError, match=r"cannot be read|no such file"):
        load(tmp_path / "circle")


def test_the_caller_chooses_the_error(tmp_path: Path) -> None:
    """A profile that cannot be read is a profile's error."""
    with pytest.raises(ProfileError):
        load(tmp_path / "none.yaml", error=ProfileError)
    with pytest.raises(ProfileError):
        Document.from_text("a: [", error=ProfileError)


# --- errors ---------------------------------------------------------------------------------------------------------


def test_a_report_reads_as_the_style_guide_shows() -> None:
    """Subject, count, aligned places, paths, and the lines themselves."""
    problems = [
        Problem("tools.search.capcity", "no such field", "s.yaml", 14, 7, "      capcity: 20"),
        Problem("tools.search.latency", "must be > 0", "base.yaml", 5, 12),
        Problem("", "something about the whole"),
    ]
    assert str(ScenarioError(problems, "s.yaml")) == (
        "s.yaml has 3 mistakes\n"
        "  14:7            tools.search.capcity: no such field\n"
        "                  | capcity: 20\n"
        "  base.yaml:5:12  tools.search.latency: must be > 0\n"
        "                  something about the whole"
    )


def test_an_input_error_survives_the_way_between_processes() -> None:
    """Workers raise errors too."""
    error = ScenarioError([Problem("a", "is wrong", "s.yaml", 1, 2, "a: x")], "s.yaml")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, InputError)
    assert str(copy) == str(error)
    assert copy.problems == error.problems
