"""Pages on paper: the PDF that a browser prints is read back as pictures, in which every chart is whole.

Each chart gets a red line above and a blue one below, so that a picture of a page tells where it begins and ends.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from .browser import DESKTOP, Open, Window, embedded
from .browser_reports import KINDS, Reports

DOTS = 40  # per inch
MARGIN = 10  # mm: the page asks for 14
A4 = (210, 297)  # mm
_LINES = (
    "() => { const style = document.createElement('style'); style.textContent = '.chart { border-top: 8px solid rgb(255,0,0); "
    "border-bottom: 8px solid rgb(0,0,255); }'; document.head.append(style); }"
)

Picture = npt.NDArray[np.uint8]


def pictures(pdf: Path) -> list[Picture]:
    """Return the pages of a PDF, shape (rows, columns, 3)."""
    subprocess.run(["pdftoppm", "-r", str(DOTS), str(pdf), str(pdf.with_suffix(""))], check=True)
    return [picture(path) for path in sorted(pdf.parent.glob(f"{pdf.stem}-*.ppm"))]


def picture(path: Path) -> Picture:
    """Read a picture as pdftoppm writes it: three numbers in words, then a byte a colour."""
    data = path.read_bytes()
    kind, width, height, most, _ = data.split(maxsplit=4)
    assert (kind, most) == (b"P6", b"255")
    return np.frombuffer(data[-int(width) * int(height) * 3 :], np.uint8).reshape(int(height), int(width), 3)


def lines(page: Picture) -> str:
    """Return the lines across a page from top to bottom: `r` where a chart begins, `b` where it ends."""
    found = ""
    red, green, blue = (page[:, :, one].astype(int) for one in range(3))
    is_red = ((red > 200) & (green < 110) & (blue < 110)).mean(axis=1) > 0.5
    is_blue = ((blue > 200) & (green < 110) & (red < 110)).mean(axis=1) > 0.5
    for row, (begins, ends) in enumerate(zip(is_red, is_blue, strict=True)):
        found += "r" if begins and not (row and is_red[row - 1]) else ""
        found += "b" if ends and not (row and is_blue[row - 1]) else ""
    return found


def printed(window: Window, pdf: Path) -> list[Picture]:
    """Print a page on A4, and return its pages."""
    window.ask(_LINES)
    window.page.pdf(path=pdf, format="A4", prefer_css_page_size=True, print_background=True)
    return pictures(pdf)


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="pdftoppm is not installed: apt-get install poppler-utils")
@pytest.mark.parametrize("kind", [*KINDS, "scene"])
def test_paper_cuts_no_chart(kind: str, reports: Reports, open_page: Open, tmp_path: Path) -> None:
    """Every chart, also one that was never scrolled to, begins and ends on one page, and nothing runs into the margins."""
    report = reports(kind)
    window = open_page(report)
    pages = printed(window, tmp_path / "page.pdf")
    wanted = (round(A4[0] / 25.4 * DOTS), round(A4[1] / 25.4 * DOTS))
    found = [lines(page) for page in pages]
    assert "".join(found) == "rb" * len(embedded(report)["charts"])
    for number, page in enumerate(pages):
        assert abs(page.shape[1] - wanted[0]) <= 1
        assert abs(page.shape[0] - wanted[1]) <= 1
        assert found[number] == "rb" * (len(found[number]) // 2), f"page {number + 1} cuts a chart: {found}"
        edge = round(MARGIN / 25.4 * DOTS)
        for margin in (page[:, :edge], page[:, -edge:], page[:edge], page[-edge:]):
            assert margin.min() == 255, f"something runs into the margin of page {number + 1}"
    assert window.troubles == []


def test_what_is_drawn_for_paper_is_as_wide_as_paper(reports: Reports, open_page: Open) -> None:
    """While a page is printed, no chart is drawn wider than its box, and none is taller than a page."""
    report = reports("scene")
    window = open_page(report)
    room = ((A4[0] - 28) / 25.4 * 96, (A4[1] - 30) / 25.4 * 96)  # CSS pixels inside the margins
    window.page.emulate_media(media="print")
    window.page.set_viewport_size({"width": int(room[0]), "height": DESKTOP[1]})
    window.ask("() => { dispatchEvent(new Event('beforeprint')); }")
    window.settle()
    boxes = window.ask(
        "[...document.querySelectorAll('.chart')].map(one => { const box = one.getBoundingClientRect();"
        " const inside = [...one.querySelectorAll('svg.main-svg')].map(svg => svg.getBoundingClientRect());"
        " return [one.dataset.chart, Math.max(...inside.map(svg => svg.right)) - box.right, Math.max(...inside.map(svg => svg.bottom))"
        " - box.bottom, box.height]; })"
    )
    assert {name for name, *_ in boxes} == set(embedded(report)["charts"])
    assert [name for name, right, below, _ in boxes if right > 3 or below > 0.5] == []
    assert [name for name, *_, height in boxes if height > room[1]] == []
    window.ask("() => { dispatchEvent(new Event('afterprint')); }")
    window.page.emulate_media(media="screen")
    window.page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    window.page.wait_for_function(
        "room => document.querySelector('.chart svg.main-svg').getBoundingClientRect().width > room", arg=room[0]
    )


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="pdftoppm is not installed: apt-get install poppler-utils")
def test_paper_is_white_and_heads_its_tables(reports: Reports, open_page: Open, tmp_path: Path) -> None:
    """A page that is read in the dark prints as one that is read in the light, and the heads of tables are printed."""
    shown = []
    for scheme in ("light", "dark"):
        window = open_page(reports("scene"), scheme=scheme)
        window.page.pdf(path=tmp_path / f"{scheme}.pdf", format="A4", prefer_css_page_size=True, print_background=True)
        shown.append(pictures(tmp_path / f"{scheme}.pdf"))
    light, dark = shown
    assert len(light) == len(dark)
    for one, other in zip(light, dark, strict=True):
        assert one.mean() > 180
        assert abs(one.mean() - other.mean()) < 1
    text = subprocess.run(
        ["pdftotext", "-layout", str(tmp_path / "light.pdf"), "-"], check=True, capture_output=True, text=True
    ).stdout
    for head in ("configuration", "verdict", "tasks within", "servers", "statistic"):
        assert head in text
    assert "Reset" not in text
