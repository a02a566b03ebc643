"""Notebook 03 in JupyterLab, in a browser: it runs, a slider moves, the chart follows, and nothing is asked of any network.

Skipped where JupyterLab, its widgets, playwright or Chromium is not installed.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NEEDS = ("jupyterlab", "ipywidgets", "anywidget", "ipykernel", "playwright")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PATIENCE = 120  # s: a hang, not a limit of speed
BARS = "() => document.querySelector('.js-plotly-plot').calcdata.map(trace => trace.map(bar => bar.s))"
TOKEN = "a-test"  # of a server that only this machine reaches, for a minute

pytestmark = [
    pytest.mark.slow,
    *(pytest.mark.skipif(find_spec(one) is None, reason=f"{one} is not installed: pip install 'coordsim[dev,notebook]'") for one in NEEDS),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt install chromium"),
]  # fmt: skip


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def lab(root: Path, tmp_path: Path) -> Iterator[str]:
    """Run JupyterLab on a copy of the notebook, with settings of its own; yield its address."""
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(root / "notebooks" / "03_what_if.ipynb", work)
    port = free_port()
    home = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--ServerApp.root_dir={work}", f"--IdentityProvider.token={TOKEN}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=work, env={**os.environ, **home}, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + PATIENCE
        while not answers(f"{address}/api?token={TOKEN}"):
            assert server.poll() is None, (tmp_path / "lab.log").read_text(encoding="utf-8")[-3000:]
            assert time.monotonic() < until, (tmp_path / "lab.log").read_text(encoding="utf-8")[-3000:]
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()  # and it ends its kernels
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def answers(address: str) -> bool:
    """Return whether a server answers."""
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def page() -> Iterator[Any]:
    """Return a page of a browser that reaches this machine alone; `asked` is what it wanted from elsewhere."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        made = browser.new_page(viewport={"width": 1280, "height": 1000})
        made.set_default_timeout(PATIENCE * 1000)
        asked: list[str] = []

        def gate(route: Any) -> None:
            if route.request.url.startswith("http://127.0.0.1:"):
                route.continue_()
            else:
                asked.append(route.request.url)
                route.abort()

        made.route(lambda url: url.startswith("http"), gate)
        yield made, asked
        browser.close()


def test_a_slider_moves_the_chart_in_a_browser(lab: str, page: Any, tmp_path: Path) -> None:
    """The whole notebook runs; then a key on the slider changes bars and status, and the key back brings the first ones again."""
    shown, asked = page
    shown.goto(f"{lab}/lab/tree/03_what_if.ipynb?token={TOKEN}")
    shown.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
    shown.get_by_text("Python 3 (ipykernel)").first.wait_for()
    shown.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
    shown.locator(".lm-Menu-itemLabel").get_by_text("Run All Cells", exact=True).click()
    # The last cell of code prints what three modalities make of it.
    shown.locator(".jp-OutputArea-output pre", has_text="3: + image").wait_for()
    slider = shown.locator(".widget-slider", has_text="inference speed")
    slider.scroll_into_view_if_needed()
    status = shown.locator(".widget-html", has_text="T_total").first
    assert "8 of 8 replications" in status.inner_text()
    before = shown.evaluate(BARS)
    assert before[1][0] < before[0][0]
    handle = slider.locator(".noUi-handle")
    handle.focus()
    handle.press("ArrowLeft")
    shown.wait_for_function("old => document.querySelector('.js-plotly-plot').calcdata[1][0].s > old", arg=before[1][0])
    final = shown.locator(".widget-html", has_text="8 of 8 replications")
    final.wait_for()
    moved = shown.evaluate(BARS)
    assert moved[0][0] == before[0][0]  # the scenario as it is stays
    assert before[1][0] < moved[1][0] < moved[0][0]
    shown.screenshot(path=str(tmp_path / "moved.png"))
    handle.press("ArrowRight")
    shown.wait_for_function(
        "old => document.querySelector('.js-plotly-plot').calcdata[1][0].s === old", arg=before[1][0]
    )
    assert shown.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == []
