"""Laws from rows of a calibration whose costs are known."""

from typing import Any

import numpy as np
import pytest

from coordsim.calibration.validation.laws import follows_of, laws_of, quadratic
from coordsim.calibration.validation.system.terms import AT_ONCE

ENCODE, DECODE, CLIENT, SERVER, WAKE, HAND_OFF = 20e-6, 10e-6, 400e-6, 300e-6, 150e-6, 250e-6
OVERHEAD, EACH, SQUARED = 0.4e-3, 6e-6, 5e-9
MEDIA, QUERY, PLAN = 2e-3, 1.3e-3, 70e-6
FOLLOWS = {"model": 0.4, "media": 0.5, "tool": 1.0}


class Machine:
    """A machine that runs `pace` times as fast as the reference, and writes down the calls that it makes."""

    def __init__(self, pace: float = 1.0, noise: float = 0.0) -> None:
        self.pace = pace
        self.noise = noise
        self.rng = np.random.default_rng(2)
        self.rows: list[dict[str, Any]] = []
        self.now = 0.0

    def speed(self, at: float, core: int = -1) -> float:
        """What the sensor says."""
        return self.pace

    def work(self, name: str, size: int) -> float:
        """Return the seconds of a server's work, of which a share follows the pace."""
        seconds = {
            "model": OVERHEAD + EACH * size + SQUARED * size**2,
            "query": QUERY,
            "search": 2 * QUERY,
            "wait": 1e-5,
        }
        share = FOLLOWS["media" if name == "media0" else "model" if name == "model" else "tool"]
        slower = 1 - share + share / self.pace
        return seconds.get(name, MEDIA) * slower * (1 + self.noise * self.rng.standard_normal())

    def call(self, name: str, size: int = 20, at_once: int = 1) -> None:
        """Make calls at once."""
        self.now += 0.05
        for _ in range(at_once):
            work, pace = self.work(name, size), self.pace
            hand = HAND_OFF / 2 / pace if name == "model" else 0.0
            sent = self.now + ENCODE / pace
            read = sent + ((CLIENT + SERVER) / 2 + WAKE) / pace
            decoded = read + DECODE / pace
            started = decoded + hand
            ended = started + work
            back = ended + hand
            encoded = back + ENCODE / pace
            there = encoded + ((CLIENT + SERVER) / 2 + WAKE) / pace
            stamps = [read, read, decoded, started, ended, back, encoded, work, 0.0]
            self.rows.append(
                {
                    "name": name, "what": name, "size": size, "at_once": at_once, "begun": self.now, "sent": sent,
                    "there": there, "ended": there + DECODE / pace, "stamps": stamps, "request": 100 + 4 * size,
                    "response": 100, "first": self.now, "over": there, "spent": (CLIENT + ENCODE + DECODE) / pace,
                }
            )  # fmt: skip

    def plan(self) -> None:
        """Do the orchestrator's own work."""
        self.now += 0.05
        self.rows.append({"name": "plan", "begun": self.now, "ended": self.now + PLAN / self.pace})

    def calibrate(self) -> dict[str, Any]:
        """Make the calls of a calibration, and return its laws."""
        for _ in range(9):
            for size in (100, 300, 600, 900):
                self.call("model", size)
            for name in ("query", "search", "wait", "media0"):
                self.call(name)
            self.call("wait", at_once=AT_ONCE)
            self.plan()
        return laws_of(self.rows, self.speed, FOLLOWS)


@pytest.mark.parametrize("pace", [1.0, 0.7])
def test_known_costs_are_found_at_the_reference_speed(pace: float) -> None:
    """On a slower machine the laws are the same: they are those of the reference."""
    found = Machine(pace).calibrate()
    assert found["speed"] == pace
    assert found["plan"] == pytest.approx(PLAN)
    assert found["encode"] == pytest.approx((ENCODE, 0.0), abs=1e-9)
    assert found["decode"] == pytest.approx((DECODE, 0.0), abs=1e-9)
    assert found["client"] == pytest.approx(CLIENT)
    assert found["per_byte"] == pytest.approx(0.0, abs=1e-12)
    assert found["ways"] == pytest.approx([2 * WAKE + CLIENT + SERVER] * 72, rel=1e-6)
    assert found["hand_off"] == pytest.approx(HAND_OFF)
    assert found["query"] == pytest.approx([QUERY] * 9)
    assert found["media"] == pytest.approx([MEDIA] * 9)
    assert found["model"] == pytest.approx([OVERHEAD, EACH, SQUARED], rel=1e-6)
    assert found["model_residual"] == pytest.approx([1.0] * 36)


def test_the_quadratic_law_survives_noise() -> None:
    """With 5 % of noise on each call, times of prompts within the range are found within 3 %."""
    model = Machine(noise=0.05).calibrate()["model"]
    for tokens in (150, 450, 850):
        truth = OVERHEAD + EACH * tokens + SQUARED * tokens**2
        assert model[0] + model[1] * tokens + model[2] * tokens**2 == pytest.approx(truth, rel=0.03)


def test_no_part_of_the_quadratic_law_is_negative() -> None:
    """Times that fall off towards long prompts do not give a law that ends below 0."""
    assert min(quadratic([100, 200, 400, 800], [1e-3, 1.9e-3, 3.4e-3, 5e-3])) >= 0


def test_a_fan_out_is_told_by_its_size() -> None:
    """The median over repeats, of the time from the first call to the end of the last."""
    machine = Machine()
    machine.calibrate()
    one = machine.rows[7]
    machine.rows += [
        {**one, "what": "fan", "size": size, "first": start, "over": start + 1e-3 * size}
        for size in (2, 4)
        for start in (100.0, 200.0)
        for _ in range(size)
    ]
    assert laws_of(machine.rows, machine.speed, FOLLOWS)["fan"] == pytest.approx({"2": 2e-3, "4": 4e-3})


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_share_that_follows_the_speed_is_found(share: float) -> None:
    """From times at many speeds, with 3 % of noise, within 0.06."""
    rng = np.random.default_rng(1)
    paces = rng.uniform(0.6, 1.1, 400)
    seconds = 2e-3 * (1 - share + share / paces) * (1 + 0.03 * rng.standard_normal(400))
    assert follows_of(paces, seconds) == pytest.approx(share, abs=0.06)


def test_speeds_that_do_not_differ_tell_nothing() -> None:
    """Then all work is taken to follow the speed, whatever the noise."""
    rng = np.random.default_rng(1)
    assert follows_of(np.full(50, 0.8), rng.uniform(1, 1.1, 50)) == 1.0
    assert follows_of(1 + 1e-4 * rng.standard_normal(50), rng.uniform(1, 1.1, 50)) == pytest.approx(1.0, abs=0.01)
    assert follows_of([0.5, 1.0], [1.0, 1.0]) == 1.0
