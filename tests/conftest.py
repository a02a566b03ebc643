"""What every test shares: the checkout's root, and settings that make runs repeatable."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from .browser import chromium, open_page
from .browser_reports import reports
from .command import call

__all__ = ["call", "chromium", "open_page", "reports", "root"]

# Worker processes inherit it: more threads than cores slow a run down, and reorder sums.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples everywhere, so that a failure is a change; no deadline, so that a busy machine is no failure.
hypothesis.settings.register_profile("coordsim", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("coordsim")


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the checkout's root, which is the package's folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="module")
def forget(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let go of the results that the tests of a module keep for each other, once they are over: they come to gigabytes."""
    yield
    for one in vars(request.module).values():
        if getattr(one, "__module__", "") == request.module.__name__ and hasattr(one, "cache_clear"):
            one.cache_clear()
