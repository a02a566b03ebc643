"""Markdown of a report: short enough for a comment, folded where long, and what anybody wrote is text, not markup."""

import re
from dataclasses import replace

import pytest

from coordsim.sim.report.layout import Table
from coordsim.sim.report.page.markdown import LARGEST, to_markdown
from coordsim.sim.report.page.parts import Chart, Missing, Part, Section, View
from coordsim.sim.report.page.provenance import Input, Line, Provenance

SOURCE = Provenance(
    "desk", "Why?", "0123456789abcdef", 3, "coordsim run desk", {"coordsim": "0.1.0"},
    (Line("seed: 3", True), Line("replications: 10", False)), (Input("profile x", "measured", "here"),), ("trace.csv",),
)  # fmt: skip
SHORT = Table("Few", ("name", "value"), "<>", (("a|b", "1"), ("c", "2")), "all of them")
LONG = Table("Many", ("name", "value"), "<>", tuple((f"row {place}", str(place)) for place in range(60)))


def view(words: str) -> View:
    """Return a view with words and a table."""
    return View([], {}, words, SHORT)


def test_sections_come_in_order_with_words_facts_and_tables() -> None:
    """The answer in bold, facts and tables as tables, long ones folded, a chart as its summary and its numbers."""
    chart = Chart("bars", "Which is it?", {"p50": view("The median."), "p95": view("It is search.")})
    facts = (("p95 ≤ 1 s", "0.9 s ± 0.2", "inconclusive"), ("Mean", "0.5 s", ""))
    parts = [
        (SOURCE, Part(Section.TIME, "Most is search.", (chart,), (LONG,))),
        (
            SOURCE,
            Part(Section.ANSWER, "Fine.", tables=(SHORT,), facts=facts, notes=("a note",), warnings=("take care",)),
        ),
    ]
    said = to_markdown("desk", parts, [SOURCE])
    order = ["## desk", "### What is the answer?", "**Fine.**", "| p95 ≤ 1 s | 0.9 s ± 0.2 | inconclusive |", "take care", "**Few**",
             "### Where does the time go?", "Which is it? It is search.", "<summary>Few (2 rows)</summary>", "<summary>Many (60 rows)</summary>"]  # fmt: skip
    assert [said.index(one) for one in order] == sorted(said.index(one) for one in order)
    assert "The median." not in said
    assert "| a\\|b | 1 |" in said
    assert "| --- | ---: |" in said
    assert "row 39" in said
    assert "row 40" not in said
    assert "and 20 rows more" in said
    assert said.count("<details>") == said.count("</details>") == 3
    for one in ("coordsim run desk", "hash `0123456789ab`, seed 3", "measured: profile x (here)", "needs `trace.csv`"):
        assert one in said
    assert "of 2 lines of the resolved scenario 1 were given" in said
    assert to_markdown("desk", parts, [SOURCE]) == said


def test_what_nobody_speaks_to_comes_last_and_folded() -> None:
    """Sections that say only what is missing do not stand between the others; what an answer misses stands with it."""
    missing = (Missing("How many", "coordsim plan desk"),)
    parts = [
        (
            SOURCE,
            Part(Section.ANSWER, "Fine.", facts=(("a", "b", ""),), missing=(Missing("More", "coordsim run desk"),)),
        ),
        (SOURCE, Part(Section.REPLICAS, "None of the answers.", missing=missing)),
    ]
    said = to_markdown("desk", parts, [SOURCE])
    assert Section.REPLICAS.question not in said
    assert said.index("What no answer speaks to") > said.index("- More: `coordsim run desk`")
    assert "- How many: `coordsim plan desk`" in said


def test_several_answers_are_told_apart_by_their_commands() -> None:
    """Where two speak in a section each is named; the scenario that they share is told once."""
    other = replace(SOURCE, command="coordsim.plan(coordsim.load('desk'))")
    parts = [(SOURCE, Part(Section.ANSWER, "One.")), (other, Part(Section.ANSWER, "Two."))]
    said = to_markdown("desk", parts, [SOURCE, other])
    assert (
        said.index("#### `coordsim run desk`")
        < said.index("**One.**")
        < said.index("#### `coordsim.plan")
        < said.index("**Two.**")
    )
    assert "```python\ncoordsim.plan" in said
    assert said.count("- measured: profile x") == 1
    both = to_markdown("desk", parts, [replace(SOURCE, beside=(("counter_", "fedcba9876543210"),))])
    assert "- scenario counter\\_, hash `fedcba987654`" in both


def test_names_are_text() -> None:
    """Neither HTML nor Markdown comes of a name, in words, tables, code and titles; code between backticks stays code."""
    evil = "<script>alert(1)</script> *b* _i_ [x](http://y) a_b `code <b>` ~~s~~"
    source = replace(SOURCE, scenario=evil, command=f"coordsim run '{evil}' ``` x")
    part = Part(
        Section.ANSWER, evil, tables=(replace(SHORT, title=evil, rows=((evil, "1"),)),), blocks=(("```", evil),)
    )
    said = to_markdown(evil, [(source, part)], [source])
    outside = re.sub(r"(?s)````.*?````", "", said)
    outside = re.sub(r"`[^`\n]*`", "", outside)
    assert "<script" not in outside
    assert "](" not in outside.replace("\\](", "")
    assert "&lt;script&gt;" in outside
    assert "\\*b\\* \\_i\\_" in outside
    assert "a_b" in outside
    assert "`code <b>`" in said


@pytest.mark.parametrize("size", [1, 5_000, 70_000])
def test_the_answer_stays_whatever_is_long(size: int) -> None:
    """A command, a title, an answer, inputs or answers without end: never more than fits, and title, answer and scenario stay."""
    parts = [(SOURCE, Part(Section.ANSWER, "Fine.", facts=(("a", "b" * size, ""),)))]
    called = replace(SOURCE, command="coordsim run desk --set x=" + "&`" * size)
    resting = replace(
        SOURCE, inputs=tuple(Input(f"profile {place}", "measured", "here") for place in range(size // 10))
    )
    many = [replace(SOURCE, command=f"coordsim run {place}", sha256=f"{place:064}") for place in range(size // 50)]
    wordy = Part(Section.ANSWER, "Fine. " + "&" * size)
    for title, told, sources in (
        ("desk", parts, [called]),
        ("desk", [(called, parts[0][1]), (SOURCE, parts[0][1])], [called, SOURCE]),
        ("desk", parts, [resting]),
        ("desk", [(one, Part(Section.ANSWER, "Fine.")) for one in many] or parts, many or [SOURCE]),
        ("desk" + "<" * size, [(SOURCE, wordy)], [SOURCE]),
    ):
        said = to_markdown(title, told, sources)
        assert len(said) <= LARGEST
        assert said.startswith("## desk")
        assert "**Fine." in said
        assert "- scenario desk, hash" in said
        assert said.count("<details>") == said.count("</details>")
        assert said.rstrip().endswith("</details>")
    said = to_markdown("desk", parts, [called, SOURCE])
    assert "coordsim run desk\n" in said  # a short command stays where a long one goes
    assert ("1 command did not fit here." in said) is (size == 70_000)
    assert ("the rest did not fit" in said) is (size == 70_000)


def test_what_does_not_fit_is_left_out_from_the_end() -> None:
    """A comment has room for so many characters; the page is named for the rest, and how to reproduce it stays."""
    tables = tuple(replace(LONG, title=f"Table {place}", rows=LONG.rows[:40]) for place in range(200))
    said = to_markdown("desk", [(SOURCE, Part(Section.ANSWER, "Fine.", tables=tables))], [SOURCE])
    assert LARGEST * 0.9 < len(said) <= LARGEST
    assert "the rest did not fit" in said
    assert said.rstrip().endswith("</details>")
    assert said.count("<details>") == said.count("</details>")
