"""Pages for everybody: the rules of axe-core (WCAG 2 and good practice), light and dark, on a desk and on a phone.

Leaves out: what no program can judge, such as whether words say what a chart shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .browser import DESKTOP, PHONE, Open, Scheme, Window, embedded
from .browser_reports import COMMANDS, Reports

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = ("serious", "critical")
SINGLE = (*COMMANDS, "trace", "holdout", "validation")

pytestmark = pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: npm ci --prefix tests")


def violations(window: Window, report: Path) -> list[str]:
    """Return the serious and the critical violations of a page whose charts are drawn and whose folds are open."""
    for name in embedded(report)["charts"]:
        window.draw(name)
    window.ask("() => { document.querySelectorAll('details').forEach(one => { one.open = true; }); }")
    window.ask(AXE.read_text(encoding="utf-8") + "; null")
    found: list[dict[str, Any]] = window.ask(
        "axe.run(document, { resultTypes: ['violations'] }).then(one => one.violations)"
    )
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:150]} {node['failureSummary'][:250]}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"][:3]
    ]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_with_everything_has_no_grave_violation(
    scheme: Scheme, size: tuple[int, int], reports: Reports, open_page: Open
) -> None:
    """In each scheme and at each size."""
    report = reports("scene")
    assert violations(open_page(report, size, scheme), report) == []


@pytest.mark.parametrize("kind", SINGLE)
def test_no_report_has_a_grave_violation(kind: str, reports: Reports, open_page: Open) -> None:
    """Whatever an answer puts into its page."""
    report = reports(kind)
    scheme: Scheme = "dark" if SINGLE.index(kind) % 2 else "light"
    assert violations(open_page(report, DESKTOP, scheme), report) == []
