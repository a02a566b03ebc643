"""Every kind of report in a browser: silent, offline, each chart drawn as what it was meant to be, on a desk and on a phone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from .browser import PHONE, Open, Window, embedded
from .browser_reports import KINDS, Reports

PAGES = (*KINDS, "scene")
# What a number that is none looks like when a program writes it.
NO_NUMBER = re.compile(r"\b(?:nan|NaN|inf|Infinity|None(?! of)|undefined|(?<!=)null)\b|\[object Object\]")
# What was written by somebody else may say null: scenarios and commands (and `--set PATH=null`, by the rule above).
QUOTED = re.compile(r"<script.*?</script>|<style.*?</style>|<pre.*?</pre>|<code.*?</code>", re.DOTALL)


def check_drawn(drawn: dict[str, Any], view: dict[str, Any], where: str) -> None:
    """Assert that plotly made of every trace what it was meant to be: it draws what it does not know as something else, silently."""
    wanted = [one.get("type", "scatter") for one in view["data"]]
    assert wanted, f"{where} draws nothing"
    assert [one["type"] or "scatter" for one in drawn["data"]] == wanted, where
    assert drawn["types"] == wanted, where
    assert True in drawn["visible"], where
    assert drawn["marks"], where
    assert not [one for one in drawn["buttons"] if re.search("cloud|upload|edit in|plotly|share", one, re.IGNORECASE)]


def positions(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the buttons that show a page's charts in all their positions."""
    places = {"percentile": ("p50", "p99", "p95"), "side": ("A", "B", "difference"), "scale": ("linear", "log", "")}
    return [(switch, value) for switch in data["initial"] for value in places[switch]]


def check_positions(window: Window, data: dict[str, Any]) -> None:
    """Press every switch through its positions, and assert that each chart follows."""
    state = dict(data["initial"])
    for switch, value in positions(data):
        state[switch] = value
        window.page.locator(f'#switches button[data-switch="{switch}"][data-value="{value}"]').click()
        window.settle()
        for name, chart in data["charts"].items():
            if (switch == "scale" and chart["scales"]) or switch == chart["switch"]:
                views = chart["views"]
                view = views.get(state.get(chart["switch"], ""), next(iter(views.values())))
                check_drawn(window.drawn(name), view, f"{name} at {switch}={value}")
                shown = window.page.locator(f"#{name} .view:not([hidden])").get_attribute("data-view")
                assert views[shown or ""] == view


@pytest.fixture(params=PAGES)
def report(request: pytest.FixtureRequest, reports: Reports) -> Path:
    """Return the page of each kind."""
    return reports(request.param)


def test_a_page_opens_in_silence_and_draws_what_it_means(report: Path, open_page: Open) -> None:
    """No trouble in the console, no request, and in every position every trace is of the type that was asked for."""
    window, data = open_page(report), embedded(report)
    assert data["charts"]
    for name, chart in data["charts"].items():
        first = data["initial"].get(chart["switch"], "")
        check_drawn(window.drawn(name), chart["views"].get(first, next(iter(chart["views"].values()))), name)
    check_positions(window, data)
    assert window.troubles == []
    assert window.requests == []
    assert window.ask("document.documentElement.scrollWidth <= innerWidth")


def test_a_page_says_its_answer_and_shows_no_number_that_is_none(report: Path, open_page: Open) -> None:
    """Without scripts, too, the first section answers, every chart has words and numbers, and nan, inf and None stand nowhere."""
    window = open_page(report, scripts=False)
    page = window.page
    assert page.locator("#answer .answer").first.is_visible()
    assert [one for one in page.locator(".answer").all_text_contents() if not one.strip()] == []
    assert [one for one in page.locator(".view .summary").all_text_contents() if not one.strip()] == []
    assert page.locator(".of-chart").count() == len(embedded(report)["charts"])
    text = QUOTED.sub("", report.read_text(encoding="utf-8"))
    assert len(text) > 2000
    assert NO_NUMBER.findall(re.sub(r"<[^>]*>", " ", text)) == []


def test_a_page_fits_a_phone(report: Path, open_page: Open) -> None:
    """At the width of a phone nothing sticks out of the screen, neither the page nor any chart."""
    window = open_page(report, PHONE)
    for name in embedded(report)["charts"]:
        window.draw(name)
    assert window.ask("document.documentElement.scrollWidth") <= PHONE[0]
    wide = window.ask(
        "[...document.querySelectorAll('.chart')].filter(one => [one, ...one.querySelectorAll('svg.main-svg')]"
        ".some(box => box.getBoundingClientRect().right > innerWidth + 0.5)).map(one => one.dataset.chart)"
    )
    assert wide == []
    assert window.troubles == []
