"""What a reader turns and moves in a page: switches, the limit, tables, links, colours, downloads, keys.

The page is made of numbers from a formula, so that what it computes itself is computed a second time here, with scipy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from coordsim.sim.analysis.slo import objective, verdict
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.analysis.summarize import SHARES
from coordsim.sim.report.numbers import plain, show
from coordsim.sim.report.page import judge
from coordsim.sim.report.page.parts import Curve

from .browser import Open, Window, embedded, opener
from .browser_reports import Reports
from .page_scene import LIMIT, REPLICATIONS, UNITS, curves

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXACT = 1e-9  # relative: one formula, summed in another order


@pytest.fixture(scope="module")
def scene(reports: Reports) -> Path:
    """Return the page with everything."""
    return reports("scene")


@pytest.fixture(scope="module")
def shared(chromium: Browser, scene: Path) -> Iterator[Window]:
    """Open the page once, for all tests that put back what they change."""
    for opened in opener(chromium):
        yield opened(scene)


@pytest.fixture
def window(shared: Window) -> Window:
    """Return the open page with everything as it is at first."""
    shared.troubles.clear()
    shared.ask("location.hash = '#top'")
    shared.page.wait_for_function(
        "[...document.querySelectorAll('#switches [aria-pressed=true]')].map(one => one.textContent).join() === 'p95,as drawn,B − A'"
    )
    shared.settle()
    return shared


def press(window: Window, switch: str, value: str) -> None:
    """Press a button of a switch, and wait until the charts have followed."""
    button = window.page.locator(f'#switches button[data-switch="{switch}"][data-value="{value}"]')
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    window.settle()


def words(window: Window, chart: str) -> tuple[str, str]:
    """Return the words of a chart and the text of its table, as they are shown."""
    shown = window.page.locator(f"#{chart} .view:not([hidden])")
    assert shown.count() == 1
    table = shown.locator("table").text_content()
    assert table is not None
    return shown.locator(".summary").inner_text(), table


def mean(values: Sequence[float]) -> Estimate:
    """Return a mean over replications with Student's interval, by scipy."""
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    middle = float(np.mean(values))
    return Estimate(middle, middle - half, middle + half, 0.95, len(values), "t over replications")


def within(curve: Curve, limit: float) -> Estimate:
    """Return the share of tasks within a limit, from the quantiles of each replication, by numpy; all tasks of each say no interval."""
    found = mean([float(np.interp(limit, row, SHARES)) for row in curve.rows])
    if found.half_width == 0:
        return Estimate(found.value, -math.inf, math.inf, 0.95, found.n, found.method)
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0), 0.95, found.n, found.method)


def judged(curve: Curve, percentile: str, limit: float) -> list[str]:
    """Return the row of the table of verdicts that a configuration should have."""
    values = [float(np.interp(float(percentile[1:]) / 100, SHARES, row)) for row in curve.rows]
    value = mean(values)
    chance = float(stats.t.cdf((limit - value.value) / stats.sem(values), len(values) - 1))
    said = verdict(value, objective("p95", limit))
    share = show(within(curve, limit), "share").text
    met = "< 0.1 %" if chance < 0.001 else "> 99.9 %" if chance > 0.999 else plain(chance, "share")
    return [curve.label, show(value, "s").text, said, share, met, f"${curve.cost:,.2f}"]


def rows_of(window: Window, table: str) -> list[list[str]]:
    """Return the texts of the cells of a table's body."""
    found: list[list[str]] = window.ask(
        "chosen => [...document.querySelectorAll(chosen + ' tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))",
        table,
    )
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Switches


def test_the_percentile_changes_chart_words_and_table(window: Window, scene: Path) -> None:
    """Each percentile shows its own data, its own sentence and its own table, and the sentence of the limit follows."""
    views = embedded(scene)["charts"]["times"]["views"]
    seen = set()
    for percentile in ("p95", "p50", "p99"):
        press(window, "percentile", percentile)
        drawn = window.drawn("times")
        assert drawn["data"][0]["y"] == views[percentile]["data"][0]["y"]
        said, table = words(window, "times")
        assert said.startswith(f"{percentile}: ")
        assert window.page.locator("#slo .said").inner_text().startswith(f"{percentile} of T_total")
        seen.add((tuple(drawn["data"][0]["y"]), said, table))
    assert len(seen) == 3
    assert window.troubles == []


def test_the_side_changes_chart_words_and_table(window: Window, scene: Path) -> None:
    """The page opens at the difference, and A and B show their own data, sentences and tables."""
    views = embedded(scene)["charts"]["sides"]["views"]
    opened = window.drawn("sides")["data"][0]["y"]
    assert opened == views["difference"]["data"][0]["y"]
    for side in ("A", "B", "difference"):
        press(window, "side", side)
        assert window.drawn("sides")["data"][0]["y"] == views[side]["data"][0]["y"]
        said, table = words(window, "sides")
        assert f"Side {side} is at" in said
        assert f"side {side}" in table


def test_the_scale_sets_the_axes_that_may_change(window: Window) -> None:
    """Linear and log set the type of the axis that a chart names, "as drawn" gives back its own, and other charts stay."""
    assert window.drawn("times")["axes"] == {"xaxis": "linear", "yaxis": "log"}
    other = window.drawn("met")["axes"]
    for scale, wanted in (("linear", "linear"), ("log", "log"), ("linear", "linear"), ("", "log")):
        press(window, "scale", scale)
        assert window.drawn("times")["axes"] == {"xaxis": "linear", "yaxis": wanted}
        assert window.drawn("met")["axes"] == other
    assert window.troubles == []


# ---------------------------------------------------------------------------------------------------------------------
# The limit on T_total


def test_the_limit_says_at_first_what_python_wrote(window: Window, scene: Path, open_page: Open) -> None:
    """Sentence and verdicts that the script writes for the first limit are, to the letter, those in the page's source."""
    plain_page = open_page(scene, scripts=False)
    written = plain_page.page.locator("#slo tbody tr").all_text_contents()
    assert window.page.locator("#slo .said").inner_text() == plain_page.page.locator("#slo .said").inner_text()
    assert window.page.locator("#slo tbody tr").all_text_contents() == written
    assert rows_of(window, "#slo") == [judged(curve, "p95", LIMIT) for curve in curves()]


def test_a_moved_limit_judges_anew(window: Window) -> None:
    """Verdicts, estimates, shares and chances at another limit are those that scipy gives, and the cheapest that passes is named."""
    first = window.page.locator("#slo .said").inner_text()
    verdicts = set()
    for limit, percentile in ((1.1, "p95"), (1.45, "p95"), (1.45, "p99"), (3.5, "p99")):
        press(window, "percentile", percentile)
        window.page.locator("#slo input[type=range]").fill(str(limit))
        window.settle()
        wanted = [judged(curve, percentile, limit) for curve in curves()]
        assert rows_of(window, "#slo") == wanted
        passing = [row for row in wanted if row[2] == "pass"]
        said = window.page.locator("#slo .said").inner_text()
        assert said != first
        assert f"{percentile} of T_total within {plain(limit, 's', 4)}: {len(passing)} of 4 pass" in said
        assert not passing or f"the cheapest is {passing[0][0]} at {passing[0][5]} an hour ({passing[0][1]})" in said
        verdicts |= {row[2] for row in wanted}
    assert verdicts >= {"pass", "fail"}
    assert window.troubles == []


def test_a_moved_limit_redraws_its_line_and_its_chart(window: Window) -> None:
    """The line of the limit stands at the new value, and the shares within it have the values and the intervals of scipy."""
    limit = 1.25
    assert window.drawn("times")["shapes"] == [{"x0": 0, "y0": LIMIT}]
    before = window.drawn("met")["data"][0]["y"]
    window.page.locator("#slo input[type=number]").fill(str(limit))
    window.page.locator("#slo input[type=number]").press("Enter")
    window.settle()
    assert window.drawn("times")["shapes"] == [{"x0": 0, "y0": limit}]
    drawn = window.drawn("met")["data"][0]
    wanted = [within(curve, limit) for curve in curves()]
    assert drawn["y"] == pytest.approx([one.value for one in wanted], rel=EXACT)
    assert drawn["error"]["array"] == pytest.approx([one.high - one.value for one in wanted], rel=1e-6, abs=EXACT)
    assert drawn["error"]["arrayminus"] == pytest.approx([one.value - one.low for one in wanted], rel=1e-6, abs=EXACT)
    assert drawn["y"] != before
    window.page.locator("#slo .reset").click()
    window.settle()
    assert window.drawn("met")["data"][0]["y"] == before


@pytest.fixture(scope="module")
def blank(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    """Open a page with nothing in it: none of the rules that a report's page has for scripts from elsewhere."""
    path = tmp_path_factory.mktemp("blank") / "blank.html"
    path.write_text("<!doctype html><html data-ready=yes></html>", encoding="utf-8")
    for opened in opener(chromium):
        yield opened(path)


CASES: list[tuple[str, list[list[float]]]] = [
    ("twelve replications", [list(row) for row in curves()[1].rows]),
    ("two replications", [list(row) for row in curves()[0].rows[:2]]),
    ("one replication", [list(curves()[2].rows[0])]),
    ("replications that agree", [list(curves()[2].rows[0])] * 3),
    ("tasks that never end", [[*row[:-4], *[math.inf] * 4] for row in curves()[1].rows]),
    ("a replication without a task", [*[list(row) for row in curves()[1].rows[:3]], [math.nan] * len(SHARES)]),
]


@pytest.mark.parametrize(("name", "rows"), CASES, ids=[name for name, _ in CASES])
def test_the_page_judges_as_python_does(name: str, rows: list[list[float]], root: Path, blank: Window) -> None:
    """Value, interval, verdict, share and chance are the same numbers in the script and in Python, at any limit and percentile."""
    script = (root / "sim" / "report" / "page" / "numbers.js").read_text(encoding="utf-8")
    curve = Curve(name, tuple(tuple(row) for row in rows))
    sent = [[None if math.isnan(value) else value if math.isfinite(value) else "inf" for value in row] for row in rows]
    slider = {"shares": SHARES, "t": {str(n): float(stats.t.ppf(0.975, n - 1)) for n in range(2, REPLICATIONS + 1)}}
    asked = [(share, limit) for share in (0.5, 0.93, 0.95, 0.99) for limit in (0.1, 0.21, 0.9, 1.7, 2.4, 50.0)]
    got = blank.ask(
        f"given => {{ {script}\nconst [slider, rows, asked] = given;"
        "const plain = one => Number.isNaN(one) ? 'nan' : Number.isFinite(one) ? one : one > 0 ? 'inf' : '-inf';\n"
        "return asked.map(([share, limit]) => { const one = judgeCurve(slider, { rows }, share, limit);\n"
        "return [one.verdict, ...[one.value.value, one.value.low, one.value.high, one.within.value, one.within.low, one.within.high,"
        " one.chance].map(plain)]; }); }",
        [slider, sent, asked],
    )
    for (share, limit), (said, *numbers) in zip(asked, got, strict=True):
        known = judge.judge(curve, SHARES, share, limit, 0.95)
        wanted = [
            known.value.value, known.value.low, known.value.high, known.within.value, known.within.low, known.within.high,
            known.chance,
        ]  # fmt: skip
        assert said == known.verdict
        assert [float(one) for one in numbers] == pytest.approx(wanted, rel=EXACT, abs=EXACT, nan_ok=True), (
            share,
            limit,
        )


# ---------------------------------------------------------------------------------------------------------------------
# Tables, links, colours, files, keys


def test_tables_sort_by_size_whatever_the_unit(window: Window) -> None:
    """A click puts 950 ms before 1.2 s and 3 min before 1,200 s, a second click turns it round, and a dash stays last."""
    box = window.page.locator("details", has_text="Mixed units").last
    box.locator("summary").click()
    head = box.locator("th").nth(1)
    ordered = ["0 s", "950 ms ± 10", "1.2 s", "75 s ± 4", "3 min", "1,200 s ± 100"]
    assert sorted([*ordered, "–"]) == sorted(UNITS)
    for direction, wanted in (("ascending", ordered), ("descending", ordered[::-1])):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == direction
        assert box.locator("tbody td:nth-child(2)").all_text_contents() == [*wanted, "–"]
    box.locator("th button").first.click()
    assert head.get_attribute("aria-sort") is None
    assert box.locator("tbody td:first-child").all_text_contents() == list("abcdefg")


def test_a_link_opens_at_its_chart(scene: Path, open_page: Open) -> None:
    """A page that is opened at a chart's anchor shows that chart, and it is drawn."""
    window = open_page(scene, at="#stacks")
    window.draw("stacks")
    top = window.ask("document.getElementById('stacks').getBoundingClientRect().top")
    assert 0 <= top < window.ask("innerHeight / 2")


def test_every_entry_of_the_contents_leads_somewhere(window: Window) -> None:
    """Each link inside the page names an anchor that is there once, and no two things have one name."""
    names = window.ask("[...document.querySelectorAll('[id]')].map(one => one.id)")
    links = window.ask("[...document.querySelectorAll('a[href^=\"#\"]')].map(one => one.getAttribute('href').slice(1))")
    assert len(names) == len(set(names))
    assert set(links) <= set(names)
    assert {"answer", "replicas", "times", "met", "time", "tree", "heat", "stacks", "runtime", "sides"} <= set(links)


def test_an_address_holds_what_the_reader_set(scene: Path, open_page: Open) -> None:
    """What is set comes back from the address alone: percentile, side, scale, limit and place."""
    first = open_page(scene)
    press(first, "percentile", "p50")
    press(first, "scale", "linear")
    press(first, "side", "A")
    first.page.locator("#slo input[type=range]").fill("1.25")
    first.settle()
    first.page.locator("nav a[href='#sides']").click()
    address = first.ask("location.hash")
    second = open_page(scene, at=address)
    for name in ("times", "sides", "met"):
        assert second.drawn(name) == first.drawn(name)
    assert rows_of(second, "#slo") == rows_of(first, "#slo")
    assert words(second, "times") == words(first, "times")
    assert second.page.locator("#switches button[aria-pressed=true]").all_text_contents() == ["p50", "linear", "A"]


@pytest.mark.parametrize(
    "at", ["#nowhere", "#times?percentile=p12&slo=much&side=<b>", "#%", "#?&&=", "#toString?valueOf=1"]
)
def test_an_odd_address_does_no_harm(at: str, scene: Path, open_page: Open) -> None:
    """A name or a value that the page does not know leaves everything as it is at first, without an error."""
    window = open_page(scene, at=at)
    assert window.page.locator("#switches button[aria-pressed=true]").all_text_contents() == [
        "p95",
        "as drawn",
        "B − A",
    ]
    assert window.drawn("times")["data"][0]["y"] == embedded(scene)["charts"]["times"]["views"]["p95"]["data"][0]["y"]
    assert window.troubles == []


def test_the_back_button_takes_a_switch_back(scene: Path, open_page: Open) -> None:
    """After p99 and then p50, back shows p99 again, and back once more p95."""
    window, views = open_page(scene), embedded(scene)["charts"]["times"]["views"]
    window.draw("times")
    press(window, "percentile", "p99")
    press(window, "percentile", "p50")
    for wanted in ("p99", "p95"):
        window.page.go_back()
        window.page.wait_for_selector(f'#switches button[data-value="{wanted}"][aria-pressed=true]')
        window.settle()
        assert window.drawn("times")["data"][0]["y"] == views[wanted]["data"][0]["y"]


_COLOURS = """() => {
    const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number); return (r + g + b) / 3; };
    const text = document.querySelector('.chart[data-chart=times] .xtick text');
    return { paper: light(getComputedStyle(document.body).backgroundColor), ink: light(getComputedStyle(document.body).color),
             chart: light(getComputedStyle(text).fill) };
}"""


def test_dark_is_as_the_reader_has_it_and_can_be_switched(scene: Path, open_page: Open) -> None:
    """A dark screen gets light ink on dark paper, in charts too; the button turns it, and says which it is."""

    def is_dark(window: Window) -> bool:
        window.draw("times")
        seen: dict[str, Any] = window.ask(_COLOURS)
        dark: bool = seen["paper"] < 60
        assert (seen["ink"] > 180) == dark
        assert (seen["chart"] > 180) == dark
        assert window.page.locator("#theme-switch").get_attribute("aria-pressed") == ("true" if dark else "false")
        return dark

    for scheme in ("light", "dark"):
        window = open_page(scene, scheme=scheme)
        assert is_dark(window) == (scheme == "dark")
        window.page.locator("#theme-switch").click()
        window.settle()
        assert is_dark(window) == (scheme == "light")


def test_downloads_are_the_files_they_name(window: Window, tmp_path: Path) -> None:
    """A button gives the file with its name and its text, byte for byte, without a request."""
    for name, text in {"numbers.json": '{"a": [1, 2.5, "é"]}\n', "numbers.csv": "a,b\n1,2\n"}.items():
        with window.page.expect_download() as waiting:
            window.page.get_by_role("button", name=f"Download {name}").click()
        assert waiting.value.suggested_filename == name
        waiting.value.save_as(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == text
    assert window.requests == []
    assert window.troubles == []


def test_the_keyboard_reaches_and_works_everything(scene: Path, open_page: Open) -> None:
    """Tab comes to the link past the contents, every switch, the limit and the heads of tables; keys turn each of them."""
    window = open_page(scene)
    keys = window.page.keyboard
    keys.press("Tab")
    assert window.ask("document.activeElement.className") == "skip"
    seen = []
    for _ in range(120):
        keys.press("Tab")
        one = window.ask(
            "(() => { const one = document.activeElement; return one.dataset.switch ?? (one.closest('th') ? 'head' : one.type ?? one.tagName); })()"
        )
        seen.append(one)
        if one == "head":
            break
        if one == "SUMMARY" and not window.ask("document.activeElement.parentElement.open"):
            keys.press("Enter")
    assert {"percentile", "scale", "side", "range", "number", "head", "SUMMARY"} <= set(seen)
    keys.press("Enter")
    assert window.ask("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"
    window.page.locator("#slo input[type=range]").focus()
    before = window.page.locator("#slo .said").inner_text()
    for _ in range(60):
        keys.press("ArrowLeft")
    window.settle()
    assert window.page.locator("#slo .said").inner_text() != before
    window.page.locator('#switches button[data-value="p99"]').focus()
    keys.press("Space")
    assert window.page.locator('#switches button[data-value="p99"]').get_attribute("aria-pressed") == "true"


def test_nothing_of_a_scenario_becomes_markup(window: Window) -> None:
    """Names are shown as they are written: what looks like HTML in one is text."""
    assert "made-up <b>&amp; escaped</b>" in window.page.locator("header").inner_text()
    assert window.page.locator("header dl b").count() == 0


def test_without_scripts_the_words_and_numbers_are_there(scene: Path, open_page: Open) -> None:
    """A page whose scripts do not run shows every sentence and every table of every position, and nothing that would need a script."""
    window = open_page(scene, scripts=False)
    page = window.page
    assert page.locator("noscript p, header p.note").first.is_visible()
    assert page.locator(".answer").all_inner_texts() == ["Four servers are enough: p95 1.2 s ± 0.1.", "Four.", "In queues.", "It saves a third."]  # fmt: skip
    assert [one for one in page.locator("#times .summary").all() if not one.is_visible()] == []
    assert page.locator("#times .view").count() == 3
    for one in (*page.locator(".chart").all(), *page.locator("button").all(), *page.locator("input").all()):
        assert not one.is_visible()
    page.locator("#times summary").first.click()
    assert page.locator("#times table").first.is_visible()
