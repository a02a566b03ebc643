"""What an install holds, and what `import coordsim` costs.

Leaves out: `make demo` and `make test` themselves, which CI runs from a bare checkout.
"""

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import coordsim

CODE = ("calibration", "commands", "models", "sim")
DATA = ("calibration", "commands", "models", "scenarios", "sim")
HEAVY = {"dask", "jinja2", "joblib", "networkx", "numpy", "pandas", "plotly", "pyarrow", "pydantic", "scipy", "torch"}


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def shipped(root: Path) -> set[str]:
    """Return every file that an install must hold, as a path below the package."""
    found = {*root.glob("*.py"), root / "py.typed"}
    for top in DATA:
        found |= {path for path in (root / top).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {path.relative_to(root).as_posix() for path in found if not path.name.startswith(".")}


def python(*arguments: str, cwd: Path) -> str:
    """Run this interpreter in `cwd`, with no say from the caller's environment, and return what it prints."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_tests_see_this_checkout(root: Path) -> None:
    """The package under test is the one beside the tests, imported once and under its own name."""
    assert Path(coordsim.__file__ or "").parent == root
    front = str(root / "__init__.py")
    assert [name for name, module in sys.modules.items() if getattr(module, "__file__", None) == front] == ["coordsim"]


def test_the_list_of_packages_is_the_disk(root: Path, project: dict[str, Any]) -> None:
    """Every folder with code is listed in pyproject.toml, has an `__init__.py`, and nothing else is listed."""
    folders = {path.parent.relative_to(root) for top in CODE for path in (root / top).rglob("*.py")}
    on_disk = {".".join(["coordsim", *folder.parts]) for folder in folders} | {"coordsim"}
    listed = project["tool"]["setuptools"]["packages"]
    assert listed == sorted(on_disk)
    assert [folder for folder in sorted(folders) if not (root / folder / "__init__.py").is_file()] == []


def test_scenarios_are_yaml_only(root: Path) -> None:
    """The folder of scenarios holds YAML, and beside it synthetic traces to replay: the patterns in pyproject.toml ship all."""
    files = {path.relative_to(root / "scenarios") for path in (root / "scenarios").rglob("*") if path.is_file()}
    traces = {path for path in files if path.parent == Path("data")}
    assert traces
    assert all(path.name.startswith("synthetic-") for path in traces)
    assert {path.suffix for path in traces} == {".csv", ".jsonl"}
    assert {path.suffix for path in files - traces} == {".yaml"}


@pytest.mark.slow
def test_a_wheel_holds_every_file(root: Path, tmp_path: Path) -> None:
    """A wheel built from a source distribution has every module and every data file, and no test."""
    source = tmp_path / "any-name"
    # A copy: a build leaves files behind, and what an earlier one left must not get in.
    shutil.copytree(
        root, source, ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "runs")
    )
    python("-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source), cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = next(archive.read(name) for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert names == {f"coordsim/{name}" for name in shipped(root)}
    assert {"coordsim/__main__.py", "coordsim/cli.py", "coordsim/scenarios/quickstart.yaml"} <= names
    assert b"coordsim = coordsim.cli:main" in entry_points


@pytest.mark.parametrize("name", sorted(coordsim._EXPORTS))
def test_a_public_name_resolves(name: str) -> None:
    """A name of the public API is found, and found where the table says."""
    value = getattr(coordsim, name)
    assert value is getattr(sys.modules[f"coordsim.{coordsim._EXPORTS[name]}"], name)
    assert name in dir(coordsim)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    """A misspelt name fails the way it does on any module."""
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        _ = coordsim.simulat


def test_editors_see_what_resolves(root: Path) -> None:
    """The imports meant for type checkers and the table that resolves names say the same."""
    seen = {
        alias.name: node.module
        for node in ast.walk(ast.parse((root / "__init__.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert seen == coordsim._EXPORTS


def test_one_version(project: dict[str, Any]) -> None:
    """The installed version, the one for a bare source tree and pyproject.toml agree."""
    assert coordsim.__version__ == coordsim._VERSION == project["project"]["version"]


def test_a_bare_import_is_light(tmp_path: Path) -> None:
    """`import coordsim` pulls in none of its heavy dependencies."""
    loaded = python("-c", "import sys, coordsim; print(*sys.modules)", cwd=tmp_path).split()
    assert HEAVY & set(loaded) == set()


@pytest.mark.parametrize("where", ["checkout", "elsewhere"])
def test_the_command_runs_as_a_module(root: Path, tmp_path: Path, where: str) -> None:
    """`python -m coordsim` works from the checkout and from any other folder."""
    assert "Usage" in python("-m", "coordsim", "--help", cwd=root if where == "checkout" else tmp_path)


def test_the_lock_pins_what_is_asked_for(root: Path, project: dict[str, Any]) -> None:
    """Every requirement has one exact version in the lock, and a line says nothing but name and version."""
    lines = (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if len(pin) != 2 or not pin[1][:1].isdigit() or set(" /@+:;") & set(pin[1])] == []
    extras = project["project"]["optional-dependencies"].values()
    asked = itertools.chain(project["project"]["dependencies"], *extras)
    assert {re.split(r"[>=;\[ ]", text)[0] for text in asked} - {name for name, _ in pins} == set()
    assert ["torch", "2.13.0"] in pins
