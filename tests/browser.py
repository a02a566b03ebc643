"""A real browser: the system's Chromium, offline, with pages opened from disk, and all that went wrong in them kept.

The browser lives as long as a module's tests: while Playwright runs, its loop counts as this thread's, and nothing else could have one.

Leaves out: other browsers, and what pages are expected to show.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

__all__ = ["CHROMIUM", "DESKTOP", "PHONE", "Open", "Window", "chromium", "embedded", "open_page", "opener"]

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
DESKTOP, PHONE = (1280, 900), (390, 844)  # CSS pixels
PATIENCE = 30_000  # ms: on a busy machine slow is no failure
_ELSEWHERE = re.compile(r"^(?!file:|data:|blob:)")
_DRAWN = """chosen => {
    const place = document.querySelector(chosen), full = place._fullLayout;
    const axes = Object.keys(full).filter(key => /^[xy]axis\\d*$/.test(key)).map(key => [key, full[key].type]);
    return {
        data: place.data.map(one => ({ type: one.type, y: one.y ?? null, x: one.x ?? null, error: one.error_y ?? null })),
        types: place._fullData.map(one => one.type),
        visible: place._fullData.map(one => one.visible),
        axes: Object.fromEntries(axes),
        shapes: (place.layout.shapes ?? []).map(one => ({ x0: one.x0, y0: one.y0 })),
        marks: place.querySelectorAll(".trace, .slice, .point, .hm image, .cartesianlayer path").length,
        buttons: [...place.querySelectorAll(".modebar-btn")].map(one => one.dataset.title ?? ""),
    };
}"""
_TROUBLE = frozenset({"error", "warning", "assert"})

Scheme = Literal["light", "dark"]


@dataclass
class Window:
    """A page that is open: what it complained of, and every request it made after that of the page itself."""

    page: Page
    troubles: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def ask(self, script: str, given: Any = None) -> Any:
        """Return what a JavaScript expression, or a function of `given`, comes to in the page."""
        return self.page.evaluate(script, given)

    def chart(self, name: str) -> str:
        """Return the selector of a chart by its anchor."""
        return f'.chart[data-chart="{name}"]'

    def draw(self, name: str) -> None:
        """Scroll to a chart, and wait until it is drawn."""
        self.page.locator(self.chart(name)).scroll_into_view_if_needed()
        self.page.wait_for_function(
            "chosen => Boolean(document.querySelector(chosen)._fullLayout?._paper)", arg=self.chart(name)
        )

    def drawn(self, name: str) -> Any:
        """Return what plotly holds of a chart that is drawn: the data it was given and what it made of them, axes and shapes."""
        self.draw(name)
        return self.ask(_DRAWN, self.chart(name))

    def settle(self) -> None:
        """Wait until the page has drawn what was asked for so far."""
        self.ask("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def hear(self, message: ConsoleMessage) -> None:
        """Keep what the console shows as a trouble."""
        if message.type in _TROUBLE:
            self.troubles.append(f"{message.type}: {message.text}")

    def meet(self, request: Request) -> None:
        """Keep a request, unless it is for the page itself or for what the page carries."""
        if not request.is_navigation_request() and not request.url.startswith(("data:", "blob:")):
            self.requests.append(request.url)


Open = Callable[..., Window]


def embedded(path: Path) -> Any:
    """Return what a page carries for its script: charts, sliders and files by anchor."""
    found = re.search(r'<script type="text/plain" id="page-data">([^<]*)</script>', path.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium; the tests that need it skip where there is none."""
    if not CHROMIUM:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """Return a function that opens a file in a window of its own, at a size, in a colour scheme, with or without scripts."""
    yield from opener(chromium)


def opener(chromium: Browser) -> Iterator[Open]:
    """Yield the function of `open_page`, and close its windows after that."""
    contexts: list[BrowserContext] = []

    def open_(
        path: Path, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light", scripts: bool = True, at: str = ""
    ) -> Window:
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            java_script_enabled=scripts,
            reduced_motion="reduce",
            accept_downloads=True,
        )
        contexts.append(context)
        context.set_offline(True)
        context.set_default_timeout(PATIENCE)
        context.route(_ELSEWHERE, lambda route: route.abort())
        window = Window(context.new_page())
        window.page.on("console", window.hear)
        window.page.on("pageerror", lambda error: window.troubles.append(f"page error: {error}"))
        window.page.on("request", window.meet)
        window.page.goto(path.as_uri() + at)
        if scripts:
            window.page.wait_for_selector("html[data-ready=yes]", state="attached")
        return window

    yield open_
    for context in contexts:
        context.close()
