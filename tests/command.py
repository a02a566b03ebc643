"""The command, called in this process: a fixture for the tests that call it, and how a call ended."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from coordsim.cli import main

__all__ = ["Call", "Outcome", "call"]


class Outcome(NamedTuple):
    """How a call of the command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs the command in this process."""

    def run(*arguments: str | Path) -> Outcome:
        code = main([str(one) for one in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Outcome(code, captured.out, captured.err)

    return run
