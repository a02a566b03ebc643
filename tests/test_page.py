"""The page of a report: its sections, escaping, anchors, charts with words and tables, the limit that a reader moves, its size."""

import base64
import gzip
import itertools
import json
import math
import random
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from coordsim.sim.analysis.slo import Objective, verdict
from coordsim.sim.analysis.statistics import Estimate, mean_interval
from coordsim.sim.analysis.summarize import SHARES
from coordsim.sim.report.layout import Table
from coordsim.sim.report.numbers import show
from coordsim.sim.report.page import theme
from coordsim.sim.report.page.assemble import to_html
from coordsim.sim.report.page.front import names
from coordsim.sim.report.page.judge import cheapest, judge, sentence, slider_data
from coordsim.sim.report.page.parts import Chart, Curve, Missing, Part, Section, Slider, Switch, View
from coordsim.sim.report.page.provenance import Input, Line, Provenance
from coordsim.sim.report.page.shell import Anchors, Shell

BAD = "</script><img src=x onerror=alert(1)>"
VOID = {"meta", "input", "img", "br", "link"}
SOURCE = Provenance(
    "coding-agent", "How many replicas does it need?", "ab12" * 16, 7, "coordsim plan coding-agent -o out",
    {"coordsim": "0.1.0"}, (Line("replicas: 4", True), Line("warmup: 30 s", False, "a default")),
    (Input("h100", "measured", "its profile"), Input("tokens", "assumed", "the scenario")), ("trace.csv",),
)  # fmt: skip
OTHER = replace(SOURCE, scenario="rag", command="coordsim run rag -o out")


class Page(HTMLParser):
    """A page, read: tags with their attributes, ids, headings, the texts of some tags, and whether all tags were closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        """A tag closes the one opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text of all tags that are open."""
        for tag in set(self.open):
            self.texts[tag][-1] += data

    def ids(self) -> list[str]:
        """Return all ids, in order."""
        return [found["id"] for _, found in self.tags if "id" in found]

    def by_class(self, name: str) -> list[dict[str, str]]:
        """Return the attributes of the tags of a class."""
        return [found for _, found in self.tags if name in found.get("class", "").split()]


def packed(page: str) -> Any:
    """Return what the script of a page reads."""
    text = re.search(r'id="page-data">([^<]*)<', page)
    assert text
    return json.loads(gzip.decompress(base64.b64decode(text[1])))


def rows(scale: float, replications: int = 6, seed: int = 1) -> tuple[tuple[float, ...], ...]:
    """Return quantiles of lognormal times (s), a row a replication."""
    draw = random.Random(seed)
    found = []
    for _ in range(replications):
        times = sorted(scale * draw.lognormvariate(0, 0.8) for _ in range(500))
        found.append(tuple(times[round(share * 499)] for share in SHARES))
    return tuple(found)


CURVES = tuple(Curve(f"{n} replicas", rows(2 + 6 / n, seed=n), 2.5 * n) for n in range(1, 7))
SLIDER = Slider("Limit on T_total", 2.0, 40.0, 14.0, SHARES, CURVES, 0.95, "within")


def view(said: str, name: str = "T_total") -> View:
    """Return a view of a line with a threshold."""
    trace = {"type": "scatter", "mode": "lines", "name": name, "x": [1, 2, 3], "y": [30.0, None, 10.0]}
    drawn = theme.layout(theme.axis("replicas"), theme.axis("T_total (s)"), shapes=[theme.limit(14.0, "y")])
    return View(
        [trace], drawn, said, Table("numbers", ("replicas", "T_total"), ">>", (("1", "30 s ± 2"), ("3", "10 s")))
    )


def chart(name: str = "falls", said: str = "It falls.") -> Chart:
    """Return a chart that follows the percentile, with a scale and a threshold."""
    views = {key: view(f"{key}: {said}") for key in ("p50", "p95", "p99")}
    return Chart(name, "How does it fall?", views, Switch.PERCENTILE, ("y",), "y")


def parts() -> list[tuple[Provenance, Part]]:
    """Return what two answers say."""
    within = Chart("within", "How many keep it?", {"": view("Most do.")})
    sides = Chart("falls", "Who is faster?", {key: view(key) for key in ("A", "B", "difference")}, Switch.SIDE)
    long = Table("All trials", ("trial", "p95"), "<>", tuple((f"trial {n}", f"{n} s") for n in range(60)))
    return [
        (SOURCE, Part(Section.REPLICAS, "Four are enough.", (chart(), within), (long,), slider=SLIDER, downloads={"plan.csv": "a,b\n"})),
        (SOURCE, Part(Section.ANSWER, "Four replicas: p95 13 s ± 1.", facts=(("p95", "13 s ± 1", "pass"), ("cost", "$10 / h", "")))),
        (OTHER, Part(Section.REPLICAS, "B is faster.", (sides,), warnings=("It has not settled.",))),
        (OTHER, Part(Section.SURE, "Not very.", missing=(Missing("Ten would say.", "coordsim run rag --replications 10"),))),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def text() -> str:
    """Return a page of two answers."""
    return to_html("A report", parts(), [SOURCE, OTHER])


def test_sections_stand_in_the_order_of_their_questions_and_only_where_something_is_said(text: str) -> None:
    """Parts in any order come out by section; assumptions and how to repeat it come from the sources."""
    page = Page(text)
    assert not page.open
    wanted = [Section.ANSWER, Section.REPLICAS, Section.SURE, Section.ASSUMPTIONS, Section.REPRODUCE]
    assert [found["id"] for tag, found in page.tags if tag == "section"] == wanted
    assert [said.removesuffix(" #") for said in page.texts["h2"]] == [one.question for one in wanted]
    assert page.texts["h1"] == ["A report"]


def test_headings_go_down_by_one_level_at_a_time(text: str) -> None:
    """No heading skips a level, so that an outline can be read aloud."""
    levels = [int(tag[1]) for tag, _ in Page(text).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_where_two_answers_speak_each_is_named(text: str) -> None:
    """A section with two sources has both names as headings; one with a single source has none."""
    headings = " ".join(Page(text).texts["h3"])
    assert "coding-agent: How many replicas does it need?" in headings
    assert "rag: How many replicas does it need?" in headings
    assert not re.search(r'id="sure-\d', text)


def test_a_source_read_back_from_disk_is_the_same_source() -> None:
    """Parts belong to a source that says the same, though it is another object; one that is not listed is a mistake."""
    copied = [(replace(source), part) for source, part in parts()]
    assert to_html("A report", copied, [SOURCE, OTHER]) == to_html("A report", parts(), [SOURCE, OTHER])
    with pytest.raises(ValueError, match="not in list"):
        to_html("A report", parts(), [SOURCE])


def test_every_anchor_is_there_once_and_every_link_leads_somewhere(text: str) -> None:
    """Ids are unique though two answers use one name of a chart, and the table of contents points at ids that exist."""
    page = Page(text)
    ids = page.ids()
    assert len(ids) == len(set(ids))
    assert {"falls", "falls-2"} <= set(ids)
    links = {found["href"] for tag, found in page.tags if tag == "a"}
    assert {link[1:] for link in links} <= set(ids)
    pointers = [word for _, found in page.tags for key in ("aria-describedby", "aria-labelledby", "for") for word in found.get(key, "").split()]  # fmt: skip
    assert set(pointers) <= set(ids)


def test_a_taken_anchor_gets_a_number() -> None:
    """Names of the page itself and names used before are not given out again."""
    anchors = Anchors()
    assert [anchors.take(name) for name in ("top", "a", "a", "a-2", "a")] == ["top-2", "a", "a-2", "a-2-2", "a-3"]


def test_every_chart_has_words_and_a_table_for_each_of_its_views(text: str) -> None:
    """A chart is an image with a name, described by the sentence of the view that is shown; every view has its table."""
    page = Page(text)
    charts = packed(text)["charts"]
    places = page.by_class("chart")
    assert [one["data-chart"] for one in places] == list(charts) == ["falls", "within", "falls-2"]
    assert all(one["role"] == "img" and one["aria-label"] for one in places)
    assert (
        len(page.by_class("view")) == len(page.by_class("summary")) == sum(len(one["views"]) for one in charts.values())
    )
    shown = [one["data-view"] for one in page.by_class("view") if "hidden" not in one]
    assert shown == ["p95", "", "difference"]
    assert [one["aria-describedby"] for one in places] == ["falls--p95", "within--text", "falls-2--difference"]
    assert text.count(">The numbers: numbers <") == 7


def test_charts_travel_as_they_were_given(text: str) -> None:
    """What the script draws is what the parts hold, with the gap in the line."""
    drawn = packed(text)["charts"]["falls"]
    assert drawn["views"]["p99"]["data"][0]["y"] == [30.0, None, 10.0]
    assert (drawn["switch"], drawn["scales"], drawn["threshold"]) == ("percentile", ["y"], "y")


def test_a_chart_with_nan_is_named() -> None:
    """A number that JSON does not have is a mistake of who drew the chart, and the message says which."""
    wrong = View([{"type": "scatter", "y": [math.nan]}], {}, "", Table("", (), "", ()))
    with pytest.raises(ValueError, match="chart `holes`"):
        to_html("A report", [(SOURCE, Part(Section.TIME, "", (Chart("holes", "", {"": wrong}),)))], [SOURCE])


def test_switches_are_those_that_a_chart_has(text: str) -> None:
    """A page without a chart that follows a switch does not show it, and one without any has no bar."""
    assert packed(text)["initial"] == {"percentile": "p95", "side": "difference", "scale": ""}
    plain = to_html("A report", [(SOURCE, Part(Section.ANSWER, "Four."))], [SOURCE])
    assert packed(plain)["initial"] == {}
    assert 'id="switches"' not in plain


def test_all_that_comes_from_outside_is_escaped() -> None:
    """A name with a tag in it stays text everywhere: in words, tables, attributes, commands and what the script reads."""
    bad = Provenance(
        BAD, BAD, BAD, 7, BAD, {BAD: BAD}, (Line(BAD, False, BAD),), (Input(BAD, "assumed", BAD),), (BAD,), BAD
    )
    table = Table(BAD, (BAD, BAD), "<>", ((BAD, BAD),) * 2, BAD)
    drawn = Chart("one", BAD, {"": View([{"type": "scatter", "name": BAD, "y": [1]}], {}, BAD, table)}, threshold="y")
    said = Part(
        Section.ANSWER, BAD, (drawn,), (table,), (BAD,), (BAD,), (Missing(BAD, BAD),), ((BAD, BAD, BAD),), ((BAD,),),
        replace(SLIDER, label=BAD, curves=(Curve(BAD, rows(1.0)),)), {BAD: BAD},
    )  # fmt: skip
    page = Page(to_html(BAD, [(bad, said), (SOURCE, said)], [bad, SOURCE]))
    assert not page.open
    assert not [tag for tag, found in page.tags if tag == "img" or "onerror" in found]
    assert page.texts["h1"] == [BAD]
    assert len(page.texts["script"]) == 3


def test_the_page_asks_nothing_of_a_network(text: str) -> None:
    """Its policy allows no connection; outside plotly.js no address is fetched, and no button sends anything."""
    page = Page(text)
    (policy,) = [found["content"] for tag, found in page.tags if found.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    for tag, found in page.tags:
        assert "src" not in found, tag
        assert "action" not in found, tag
        assert found.get("href", "#").startswith("#"), tag
    without = re.sub(r'(id="page-(data|plotly)">)[^<]*', r"\1", text)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|WebSocket|importScripts", without)
    assert packed(text)["config"]["showSendToCloud"] is False


def test_the_same_answer_gives_the_same_bytes(text: str) -> None:
    """Nothing in a page depends on the time or on chance."""
    assert to_html("A report", parts(), [SOURCE, OTHER]) == text


def test_a_page_is_small() -> None:
    """Plotly.js is some 2 MB packed, and a study of 200 cells adds to it less than 3 MB."""
    many = tuple(Curve(f"cell {n}", rows(1 + n / 50, 10, n), 1.0 * n) for n in range(200))
    table = Table(
        "cells", ("cell", "p50", "p95", "p99"), "<>>>", tuple((f"cell {n}", *(f"{n} s ± 0.1",) * 3) for n in range(200))
    )
    line = {"type": "scatter", "mode": "markers", "x": list(range(200)), "y": [n / 7 for n in range(200)]}
    one = Chart(
        "cells",
        "Which cells?",
        {key: View([line] * 5, {}, key, table) for key in ("p50", "p95", "p99")},
        Switch.PERCENTILE,
    )
    said = Part(Section.REPLICAS, "Some.", (one, one), slider=replace(SLIDER, curves=many, redraws=""))
    size = len(to_html("A study", [(SOURCE, said)], [SOURCE]).encode())
    assert 1e6 < size < 5e6


def test_the_head_says_how_good_the_inputs_are(text: str) -> None:
    """Each source states its scenario, a short hash, its seed, and which inputs are measured and which assumed."""
    head = text[text.index("<header") : text.index("</header>")]
    assert head.count('<dl class="card">') == 2
    assert f'title="{SOURCE.sha256}">ab12ab12ab12<' in head
    assert "measured</span>: h100; " in head
    assert "assumed</span>: tokens</dd>" in head
    assert "imported" not in head


def test_an_answer_about_two_scenarios_names_both() -> None:
    """In its card, in its headings, and where it says what repeats it: names and hashes; and whose lines it shows."""
    both = replace(SOURCE, beside=(("<rag>", "cd34" * 16),))
    text = to_html("Both", [(both, Part(Section.ANSWER, "A."))], [both, OTHER])
    head = text[text.index("<header") : text.index("</header>")]
    assert "<dt>Scenarios</dt><dd>coding-agent and &lt;rag&gt;</dd>" in head
    assert f'title="{"cd34" * 16}">cd34cd34cd34</code> (&lt;rag&gt;)' in head
    assert "<dt>Hash of &lt;rag&gt; (SHA-256)</dt>" in text
    assert "coding-agent and &lt;rag&gt;: How many" in text
    assert "These are the lines of coding-agent; of &lt;rag&gt; the page has name and hash." in text


def test_what_was_filled_in_is_marked_and_each_number_has_its_source(text: str) -> None:
    """A line that coordsim filled in is marked, beside it stands where its number comes from; a line given is not."""
    assert "<tr class=default><td><code>warmup: 30 s</code></td><td>a default</td></tr>" in text
    assert "<tr><td><code>replicas: 4</code></td><td></td></tr>" in text
    assert "2 lines, of which 1 were filled in" in text


def test_a_verdict_is_a_word_and_a_mark(text: str) -> None:
    """A verdict is never said by a colour alone."""
    assert '<span class="badge pass"><span aria-hidden="true">✓</span> pass</span>' in text


def test_long_tables_scroll_and_every_table_can_be_reached_by_keyboard(text: str) -> None:
    """A box around each table takes the focus and has a name, its own; one of 60 rows is limited in height."""
    boxes = Page(text).by_class("table")
    assert all(one["tabindex"] == "0" and one["role"] == "region" for one in boxes)
    labels = [one["aria-label"] for one in boxes]
    assert len(labels) == len(set(labels))
    assert [one["aria-label"] for one in boxes if "long" in one["class"].split()] == [
        "All trials", f"The resolved scenario ({'; '.join(names([SOURCE, OTHER]))})"
    ]  # fmt: skip


def test_a_page_of_other_sections_can_be_made() -> None:
    """The shell takes any title and HTML."""
    page = Page(Shell("Laws", body=["<p>One.</p>"]).to_html())
    assert not page.open
    assert "One." in page.texts["p"]


# The limit that a reader moves.


def test_a_verdict_at_a_known_percentile_is_that_of_the_analysis() -> None:
    """At a share that is kept, the page's estimate and verdict are Student's t over the replications, by the rule of objectives."""
    place = SHARES.index(0.95)
    for curve in CURVES:
        wanted = mean_interval([row[place] for row in curve.rows])
        found = judge(curve, SHARES, 0.95, 14.0, 0.95)
        assert found.value == wanted
        assert found.verdict == verdict(wanted, Objective("p95", 14.0, "<="))
    assert {judge(one, SHARES, 0.95, 14.0, 0.95).verdict for one in CURVES} == {"pass", "fail", "inconclusive"}


def test_share_within_undoes_the_quantile() -> None:
    """At a replication's own quantile the share of tasks within it is that quantile's share, also between those kept."""
    one = Curve("one", ((0.0, 2.0, 4.0), (0.0, 2.0, 4.0)))
    shares = (0.0, 0.5, 1.0)
    for share in (0.0, 0.25, 0.5, 0.6, 1.0):
        limit = judge(one, shares, share, 1.0, 0.95).value.value
        assert judge(one, shares, share, limit, 0.95).within.value == pytest.approx(share)


def test_times_that_are_equal_are_all_within_a_limit_at_them() -> None:
    """Where many tasks take the same time, a limit at it holds all of them, and one just below it none."""
    one = Curve("one", ((3.0, 3.0, 3.0, 9.0),) * 2)
    shares = (0.0, 0.5, 0.9, 1.0)
    assert judge(one, shares, 0.5, 3.0, 0.95).within.value == 0.9
    assert judge(one, shares, 0.5, 2.999, 0.95).within.value == 0.0


def test_the_chance_is_half_at_the_mean_and_agrees_with_the_interval() -> None:
    """At the mean the limit is met with 50 %, at the upper end of a 95 % interval with 97.5 %."""
    value = judge(CURVES[0], SHARES, 0.95, 14.0, 0.95).value
    assert judge(CURVES[0], SHARES, 0.95, value.value, 0.95).chance == pytest.approx(0.5)
    assert judge(CURVES[0], SHARES, 0.95, value.high, 0.95).chance == pytest.approx(0.975)


def test_one_replication_leaves_it_open() -> None:
    """One replication has no interval: nothing passes, nothing fails, and no chance is stated."""
    found = judge(Curve("one", rows(1.0, 1)), SHARES, 0.95, 1000.0, 0.95)
    assert found.verdict == "inconclusive"
    assert math.isnan(found.chance)


def test_a_page_starts_at_the_percentile_of_its_sliders() -> None:
    """Where all sliders are of p99, switch, charts, sentence and table start there; where they differ at p95."""
    part = Part(Section.REPLICAS, "Some.", (chart(),), slider=replace(SLIDER, percentile="p99", redraws=""))
    text = to_html("A report", [(SOURCE, part)], [SOURCE])
    assert packed(text)["initial"]["percentile"] == "p99"
    assert [one["data-view"] for one in Page(text).by_class("view") if "hidden" not in one] == ["p99"]
    assert "p99 of T_total within 14 s: " in text
    for curve in CURVES:
        assert f">{show(judge(curve, SHARES, 0.99, 14.0, 0.95).value, 's').text}</td>" in text
    both = to_html("A report", [(SOURCE, part), (OTHER, replace(part, slider=SLIDER))], [SOURCE, OTHER])
    assert packed(both)["initial"]["percentile"] == "p95"


def test_the_sentence_of_a_limit_fits_how_many_are_judged(root: Path) -> None:
    """One curve has its verdict, several the cheapest or the first that passes; the script writes what Python writes."""
    one = replace(SLIDER, curves=(Curve("four", rows(2.0)),))
    free = replace(SLIDER, curves=tuple(replace(curve, cost=None) for curve in CURVES))
    cases = [replace(given, value=limit) for given in (SLIDER, free, one) for limit in (1.0, 7.3, 14.0, 40.0)]
    cases += [replace(one, curves=(Curve("lost", ((math.nan,) * len(SHARES),)),))]
    said = []
    for given in cases:
        judged = [judge(curve, SHARES, 0.95, given.value, 0.95) for curve in given.curves]
        said.append(sentence(given, judged, "p95"))
        data = json.dumps(slider_data(given, (), {}))
        program = (
            "((s, limit) => sentenceOf(s.curves, s.curves.map(one => judgeCurve(s, one, 0.95, limit)), 'p95', "
            f"writePlain(limit, 's', 4)))({data}, {given.value})"
        )
        assert node(root, program) == said[-1]
    assert any("the cheapest is " in text for text in said[:4])
    assert any("the first of these in the list is " in text for text in said[4:8])
    assert {re.search(r": (pass|fail|inconclusive)\.", text)[1] for text in said[8:12]} >= {"pass", "fail"}  # type: ignore[index]
    assert said[-1] == "lost: p95 is not known."


def test_answers_about_one_scenario_are_told_apart_by_what_was_done() -> None:
    """Of one question, by the command; of one command, by a number; their scenario is shown once, and so is its card."""
    run, plan = replace(SOURCE, command="coordsim run coding-agent"), replace(SOURCE, command="load('x').plan()")
    called = ["Run of coding-agent (1)", "Plan of coding-agent", "Run of coding-agent (2)"]
    assert names([run, plan, replace(run)]) == called
    text = to_html("A report", [(run, Part(Section.ANSWER, "Four."))], [run, plan])
    assert text.count('<details class="yaml"') == text.count('<dl class="card"><div><dt>Scenario') == 1
    assert "<dt>Answers</dt><dd>run, plan</dd>" in text
    other = replace(run, sha256="cd" * 32)
    assert to_html("A report", [], [run, other]).count('<details class="yaml"') == 2


def test_open_tables_links_and_code_are_in_place() -> None:
    """A table may stay open; what nobody asked is one line of links; words between backticks are code."""
    opened = Table("Objectives", ("objective", "found"), "<<", (("p95 ≤ 2 s", "1 s ± 1"),))
    part = Part(Section.ANSWER, "No `slo`.", opened=(opened,), unasked=(Section.REPLICAS, Section.MATTERS))
    text = to_html(
        "A report",
        [(SOURCE, part), (SOURCE, Part(Section.REPLICAS, "Two.")), (SOURCE, Part(Section.MATTERS, "."))],
        [SOURCE],
    )
    assert '<div class="opened"><div class="table"' in text
    assert 'Not asked yet: <a href="#replicas">How many replicas do I need?</a> · <a href="#matters">' in text
    assert "No <code>slo</code>." in text
    assert "The 1 lines" not in text
    assert "The 1 line that was filled in is not printed; the page has it." in text


def test_the_cheapest_that_passes_is_named() -> None:
    """Least cost wins; without costs the first that passes; without any that passes none."""
    curves = [Curve("a", (), 9.0), Curve("b", (), 3.0), Curve("c", (), 1.0)]
    assert cheapest(curves, ["pass", "pass", "fail"]) == 1
    assert cheapest([Curve("a", ()), Curve("b", ())], ["inconclusive", "pass"]) == 1
    assert cheapest(curves, ["fail", "fail", "inconclusive"]) is None


def test_the_page_says_at_first_what_python_says(text: str) -> None:
    """Without its script the page has the sentence and the table of the first limit, and its data has exact t quantiles."""
    slider = packed(text)["sliders"]["slo"]
    assert slider["t"] == {"6": pytest.approx(2.570581835636, rel=1e-9)}
    assert (slider["charts"], slider["redraws"]) == (["falls"], "within")
    assert len(slider["curves"]) == 6
    for curve in CURVES:
        found = judge(curve, SHARES, 0.95, 14.0, 0.95)
        assert f"<td class=right>{show(found.value, 's').text}</td><td class=left>{found.verdict}</td>" in text
    assert re.search(r"p95 of T_total within 14 s: \d of 6 pass; the cheapest is \d replicas at \$", text)


def node(root: Path, program: str) -> Any:
    """Return what a program says after the page's numbers.js, run by node; skip where there is none."""
    found = shutil.which("node")
    if not found:
        pytest.skip("node is not installed: numbers.js is not run")
    code = (root / "sim/report/page/numbers.js").read_text(
        encoding="utf-8"
    ) + f"\nconsole.log(JSON.stringify({program}))"
    done = subprocess.run([found, "-"], input=code, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def ends(of: Estimate | dict[str, float | None]) -> list[float]:
    """Return value and ends of an estimate; nan for what is infinite or not known, for which JSON has null."""
    given = of if isinstance(of, dict) else {"value": of.value, "low": of.low, "high": of.high}
    known = (given[end] for end in ("value", "low", "high"))
    return [math.nan if one is None or math.isinf(one) else one for one in known]


def test_the_script_judges_as_python_does(root: Path, text: str) -> None:
    """Over limits and percentiles, for many and for one replication and for tasks that never end, both compute the same."""
    endless = tuple((*row[:-2], math.inf, math.inf) for row in rows(3.0))
    curves = (
        *CURVES,
        Curve("one", rows(2.0, 1)),
        Curve("endless", endless),
        Curve("same", ((5.0,) * len(SHARES),) * 3),
    )
    slider = replace(SLIDER, curves=curves)
    page = to_html("A report", [(SOURCE, Part(Section.REPLICAS, "", slider=slider))], [SOURCE])
    data = json.dumps(packed(page)["sliders"]["slo"])
    asked = [(share, limit) for share in (0.5, 0.93, 0.95, 0.99, 0.9995) for limit in (1.0, 5.0, 13.7, 14.0, 39.0)]
    found = node(root, f"((s, asked) => asked.map(([q, x]) => s.curves.map(c => judgeCurve(s, c, q, x))))({data}, {json.dumps(asked)})")  # fmt: skip
    verdicts = set()
    for (share, limit), judged in zip(asked, found, strict=True):
        for curve, got in zip(curves, judged, strict=True):
            wanted = judge(curve, SHARES, share, limit, 0.95)
            verdicts.add(wanted.verdict)
            assert got["verdict"] == wanted.verdict
            # Both sum in the same order; scipy and the script differ in the last digits of Student's t.
            assert ends(got["value"]) == pytest.approx(ends(wanted.value), rel=1e-9, nan_ok=True)
            assert ends(got["within"]) == pytest.approx(ends(wanted.within), rel=1e-9, nan_ok=True)
            chance = math.nan if got["chance"] is None else got["chance"]
            assert chance == pytest.approx(wanted.chance, rel=1e-8, abs=1e-13, nan_ok=True)
    assert verdicts == {"pass", "fail", "inconclusive"}


def test_the_script_writes_estimates_as_python_does(root: Path) -> None:
    """Digits stop where the interval does, in the unit that fits, in the page as in the text."""
    known = [
        (13.04, 12.5, 13.6),
        (0.0123, 0.0119, 0.0127),
        (75.0, 71.0, 79.0),
        (1200.0, 1100.0, 1300.0),
        (4.1, 3.1, 8.0),
        (2.0, 2.0, 2.0),
    ]
    shares = [(0.992, 0.988, 0.996), (0.5, 0.31, 0.69), (0.98, 0.9, 1.0)]
    for unit, given in (("s", known), ("share", shares)):
        made = json.dumps([{"value": value, "low": low, "high": high} for value, low, high in given])
        wanted = [show(Estimate(*one, 0.95, 5, "t"), unit).text for one in given]
        assert node(root, f"{made}.map(one => writeEstimate(one, '{unit}'))") == wanted
    judged = [
        (29.7, 29.43, 29.97),
        (29.3, 29.0, 29.99),
        (0.7, 0.66, 0.7499),
        (40.0, 29.98, 50.02),
        (31.0, 30.04, 31.96),
    ]
    limits = [30.0, 30.0, 0.75, 30.0, 30.0]
    made = json.dumps(
        [
            dict(zip(("value", "low", "high", "against"), (*one, limit), strict=True))
            for one, limit in zip(judged, limits, strict=True)
        ]
    )
    wanted = [
        show(Estimate(*one, 0.95, 5, "t"), "s", against=limit).text for one, limit in zip(judged, limits, strict=True)
    ]
    assert node(root, f"{made}.map(one => writeEstimate(one, 's'))") == wanted
    assert wanted[:2] == ["29.70 s ± 0.27", "29.30 s [29.00, 29.99]"]


def test_columns_sort_by_size(root: Path) -> None:
    """Times in several units, money, counts and shares sort as numbers, words as words, and what says nothing comes last."""
    cases = [
        (["12.3 ms ± 0.4", "2 s", "–", "900 µs", "1.5 min"], ["900 µs", "12.3 ms ± 0.4", "2 s", "1.5 min", "–"]),
        (["$3.50", "$12", "-$1"], ["-$1", "$3.50", "$12"]),
        (["1.2 k", "300", "1,100"], ["300", "1,100", "1.2 k"]),
        (["99.2 % ± 0.4", "100 %", "< 0.1 %"], ["< 0.1 %", "99.2 % ± 0.4", "100 %"]),
        (["rag", "", "coding-agent", "Zoo"], ["coding-agent", "rag", "Zoo", ""]),
        (["-1.2 s ± 0.3", "0 s", "−3 s"], ["−3 s", "-1.2 s ± 0.3", "0 s"]),
    ]
    given = json.dumps([before for before, _ in cases])
    found = node(root, f"{given}.map(texts => [...texts].sort((a, b) => comparing(texts)(a, b, 1)))")
    assert found == [after for _, after in cases]
