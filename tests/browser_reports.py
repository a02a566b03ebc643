"""Reports of every kind, each made once by its command with few tasks, for all workers of a test run."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from coordsim.cli import main

__all__ = ["COMMANDS", "KINDS", "Reports", "reports"]

_FEW = ("--workers", "1", "--quiet", "--overwrite")
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("quickstart", "--tasks", "300", "--replications", "4"),
    "plan": ("capacity/mmc", "--tasks", "400"),
    "sweep": ("capacity/mmc", "--over", "models.server.replicas=9..12", "--seeds", "1,2", "--tasks", "600", "--replications", "4"),
    "compare": ("quickstart", "--runtime", "external-orchestrator", "--runtime", "agent-native", "--tasks", "60", "--replications", "3"),
    "scaling": ("quickstart", "--over", "steps=1..8", "--tasks", "40", "--replications", "3"),
    "faults": ("retry-storm", "--tasks", "1200", "--replications", "2"),
    "sensitivity": ("capacity/mmc", "--tasks", "300", "--replications", "3"),
}  # fmt: skip
KINDS = (*COMMANDS, "trace", "holdout", "validation", "combined")
MADE_BUT_NOT_MET = 4  # the code of a command whose answer is there, and is not what was hoped for

Reports = Callable[[str], Path]


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """Return a function that gives the page of a kind of report, `combined` of all of them, or `scene` of everything there is."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "reports"
    folder.mkdir(exist_ok=True)

    def page(kind: str) -> Path:
        with (folder / f"{kind}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = folder / kind / "report.html"
            if not path.exists():
                _make(kind, path, page)
        return path

    return page


def _make(kind: str, path: Path, page: Reports) -> None:
    if kind == "scene":
        from .page_scene import write

        path.parent.mkdir(exist_ok=True)
        write(path)
    elif kind == "trace":
        from .measured import write as write_trace

        write_trace(path.parent)
    elif kind == "holdout":
        from .held_out import write as write_holdout

        write_holdout(path.parent)
    elif kind == "validation":
        from .verdicts_made import write as write_validation

        write_validation(path.parent)
    elif kind == "combined":
        others = [str(page(one).parent) for one in COMMANDS]
        path.parent.mkdir(exist_ok=True)
        _call("report", *others, "-o", str(path))
    else:
        _call(kind, *COMMANDS[kind], *_FEW, "-o", str(path.parent))


def _call(*arguments: str) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(list(arguments))
    assert code in (0, MADE_BUT_NOT_MET), said.getvalue()
