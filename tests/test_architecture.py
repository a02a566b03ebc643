"""The shape of the house: the direction of imports, their form, and how long a file or a function may be.

Leaves out: what ruff and mypy hold.
"""

import ast
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("calibration", "commands", "models", "sim")
SOURCES = sorted(itertools.chain(ROOT.glob("*.py"), *((ROOT / folder).rglob("*.py") for folder in FOLDERS)))
LONGEST_FILE = 450
LONGEST_FUNCTION = 60


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the package `folder`/coordsim, or on the installed one when there is none."""
    command = (
        "import sys; from importlinter.cli import lint_imports as lint; sys.exit(lint(sys.argv[1], no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", command, str(ROOT / "pyproject.toml")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_imports_go_down_only() -> None:
    """Every contract in pyproject.toml is kept."""
    done = _lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("sim/engine/planted.py", "from ... import models"),
        ("sim/engine/planted.py", "from .. import report"),
        ("sim/trace/planted.py", "from ..analysis import here"),
        ("sim/analysis/planted.py", "from ..report import here"),
        ("sim/report/planted.py", "from ..trace import here"),
        ("models/planted.py", "from .. import calibration"),
        ("models/planted.py", "import torch"),
    ],
)
def test_an_import_that_goes_up_is_caught(tmp_path: Path, module: str, line: str) -> None:
    """Planting one forbidden import in a copy of the package breaks a contract."""
    copy = tmp_path / "coordsim"
    for source in SOURCES:
        target = copy / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    for part in ("analysis", "report", "trace"):
        (copy / "sim" / part).mkdir(exist_ok=True)
        (copy / "sim" / part / "__init__.py").touch()
        (copy / "sim" / part / "here.py").touch()
    (copy / module).write_text(f"{line}\n")
    done = _lint_imports(tmp_path)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout, done.stdout + done.stderr
    assert "planted" in done.stdout


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_package_imports_itself_relatively(source: Path) -> None:
    """No module imports `coordsim` by name, so that a copy under any name stays whole."""
    names = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.append(node.module or "")
    assert [name for name in names if name.partition(".")[0] == "coordsim"] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_at_one_sitting(source: Path) -> None:
    """No file and no function is longer than the house allows."""
    text = source.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_FILE
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
