"""Every example in a docstring runs and prints what it shows.

A walk over the imported package instead of `--doctest-modules`, which would import the files under the checkout's name.
"""

import doctest
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import coordsim


def _refuse(name: str) -> None:
    raise ImportError(f"{name} cannot be imported with a core install")


MODULES = ["coordsim", *(module.name for module in pkgutil.walk_packages(coordsim.__path__, "coordsim.", _refuse))]


@pytest.mark.parametrize("name", MODULES)
def test_every_example_in_a_docstring_runs(name: str) -> None:
    """A module imports with a core install, and its examples give what they show."""
    outcome = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert outcome.failed == 0, f"{outcome.failed} of {outcome.attempted} examples in {name} failed; they are above"


def test_the_walk_finds_every_module(root: Path) -> None:
    """No file of the package is left out, be it for want of an `__init__.py` beside it."""
    files = [*root.glob("*.py")]
    for top in ("calibration", "commands", "models", "sim"):
        files += (root / top).rglob("*.py")
    names = {".".join(["coordsim", *file.relative_to(root).with_suffix("").parts]) for file in files}
    assert {name.removesuffix(".__init__") for name in names} == set(MODULES)
