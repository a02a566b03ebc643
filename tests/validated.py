"""A validation whose system, predictions and clock are made up: fixtures for the tests of its protocol and of its command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from coordsim.calibration import calibrate, environment, validate_command
from coordsim.calibration.validation import bench, predict, replay
from coordsim.calibration.validation.protocol import Run
from coordsim.calibration.validation.session import Configuration, Outcome

__all__ = ["MACHINE", "VARIANTS", "Made", "made"]

MACHINE = {"device": "a made-up machine", "cpu": "a made-up machine", "cores": "2 of 2"}
VARIANTS = {"full": "nothing", "naive": "nearly everything", "cores": "cores are finite"}
OFF = {"full": 1.0, "naive": 1.6, "cores": 0.9}  # what a variant predicts of what the laws say


@dataclass
class Made:
    """A bench, and its clock: the system takes `factor` times what its laws say, or another time in each round with `drift`.

    `steal` is of each run of the rounds in `stolen`; the keyboard interrupts before the run with number `stop`.
    """

    factor: float = 1.0
    drift: float = 0.0
    spread: float = 0.15
    tasks: int = 40
    stolen: tuple[int, ...] = ()
    stop: int = -1
    now: float = 0.0
    calls: list[tuple[str, str]] = field(default_factory=list)

    def calibrate(self, configuration: Configuration, seconds: float, seed: int) -> dict[str, Any]:
        """Return laws: what a task takes."""
        self.now += seconds
        self.calls.append(("calibrate", configuration.name))
        rng = np.random.default_rng(seed)
        return {"seconds": 0.01 * configuration.steps * float(rng.uniform(0.98, 1.02)), "cores": 2}

    def run(self, configuration: Configuration, seconds: float, seed: int) -> Run:
        """Let tasks pass."""
        runs = sum(what == "run" for what, _ in self.calls)
        if runs == self.stop:
            raise KeyboardInterrupt
        self.now += seconds
        self.calls.append(("run", configuration.name))
        rng = np.random.default_rng(seed)
        middle = 0.01 * configuration.steps * self.factor * np.exp(rng.normal(0.0, self.drift))
        steal = 0.2 if runs in self.stolen else 0.01
        found = drawn(middle, self.spread, self.tasks, rng)
        return Run(found, {"tasks": self.tasks, "calls": 3}, (1.0, 0.9), 0.1, steal, 0.02, seconds)

    def clock(self) -> float:
        """Return the time that has passed."""
        return self.now


def drawn(middle: float, spread: float, count: int, rng: np.random.Generator) -> Outcome:
    """Return lognormal tasks, 40 % of whose time is inference."""
    seconds = middle * np.exp(rng.normal(0.0, spread, count))
    return Outcome(seconds=tuple(seconds.tolist()), inference=tuple((0.4 * seconds).tolist()))


def predicted(
    configuration: Configuration,
    laws: Mapping[str, Any],
    speed: Any,
    every: float,
    *,
    variant: str,
    tasks: int,
    seed: int,
) -> Outcome:
    """Return tasks as the laws say."""
    return drawn(laws["seconds"] * OFF[variant], 0.15, tasks, np.random.default_rng(seed))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    """Return a function that puts a made-up system in the place of the real one, by what it is like."""

    def put(**how: Any) -> Made:
        system = Made(**how)

        @contextmanager
        def opened(_device: str) -> Iterator[Made]:
            yield system

        monkeypatch.setattr(bench, "open_system", opened)
        monkeypatch.setattr(validate_command, "_clock", system.clock)
        monkeypatch.setattr(validate_command, "_now", lambda: "2026-01-01T00:00:00+00:00")
        return system

    for name, value in {
        "predict": predicted,
        "frozen": lambda _configuration, laws: f"{laws['seconds']:.7g}",
        "load": lambda _configuration: 0.05,
        "scenario": lambda configuration, laws: {"coordsim": 1, "name": configuration.name, "seconds": laws["seconds"]},
        "VARIANTS": VARIANTS,
    }.items():
        monkeypatch.setattr(predict, name, value)
    monkeypatch.setattr(replay, "cores", lambda: 1)
    monkeypatch.setattr(calibrate, "choose_device", lambda _device: "cpu")
    monkeypatch.setattr(environment, "environment", lambda _device: MACHINE)
    return put
