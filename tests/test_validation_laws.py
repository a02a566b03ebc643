"""Laws from rows of a calibration whose costs are known."""

from typing import Any

import numpy as np
import pytest

from coordsim.calibration.validation.laws import laws_of, quadratic

ENCODE, DECODE, CLIENT, SERVER, WAY = 20e-6, 10e-6, 400e-6, 300e-6, 900e-6
OVERHEAD, EACH, SQUARED = 0.4e-3, 6e-6, 5e-9
MEDIA, QUERY = 2e-3, 1.3e-3


def rows(pace: float = 1.0, noise: float = 0.0, seed: int = 0) -> list[dict[str, Any]]:
    """Return the rows of calls on a machine that runs `pace` times as fast as the reference, which wakes up as fast."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    loops = dict.fromkeys(("model", "query", "search", "wait", "media0"), 0.0)
    at = 0.0
    sizes = [("model", size) for size in (100, 300, 600, 900)] + [
        (name, 20) for name in ("query", "search", "wait", "media0")
    ]
    for _ in range(9):
        for name, size in sizes:
            at += 0.05
            work = {
                "model": OVERHEAD + EACH * size + SQUARED * size * size,
                "query": QUERY,
                "search": 2 * QUERY,
                "wait": 1e-5,
            }
            seconds = work.get(name, MEDIA) * (1 + noise * rng.standard_normal()) / pace
            encode, decode = ENCODE / pace, DECODE / pace
            loops[name] += (SERVER + ENCODE + DECODE) / pace + (0.0 if name in ("model", "wait") else seconds)
            sent = at + encode
            read = sent + WAY / 2
            started = read + decode
            ended = started + seconds
            encoded = ended + encode
            there = encoded + WAY / 2
            stamps = [read - 1e-6, read, read + decode, started, ended, ended, encoded, loops[name], seconds]
            found.append(
                {
                    "name": name, "what": name, "size": size, "at_once": 1, "begun": at, "sent": sent, "there": there,
                    "ended": there + decode, "stamps": stamps, "request": 100 + 4 * size, "response": 100,
                    "cpu": (CLIENT + ENCODE + DECODE) / pace, "first": at, "over": there + decode,
                }
            )  # fmt: skip
        found.append({"name": "plan", "begun": at, "ended": at + 70e-6 / pace})
    return found


@pytest.mark.parametrize("pace", [1.0, 0.7])
def test_known_costs_are_found_at_the_reference_speed(pace: float) -> None:
    """On a slower machine the laws of work are the same: they are those of the reference."""
    found = laws_of(rows(pace), lambda at, core=-1: pace, FOLLOWS)
    assert found["plan"] == pytest.approx(70e-6)
    assert found["encode"] == pytest.approx((ENCODE, 0.0), abs=1e-9)
    assert found["decode"] == pytest.approx((DECODE, 0.0), abs=1e-9)
    assert found["client"] == pytest.approx((CLIENT, 0.0), abs=1e-9)
    assert found["server"] == pytest.approx((SERVER, 0.0), abs=1e-9)
    assert found["query"] == pytest.approx([QUERY] * 9)
    assert found["media"] == pytest.approx([MEDIA] * 9)
    assert found["model"] == pytest.approx([OVERHEAD, EACH, SQUARED], rel=1e-6)
    assert found["model_residual"] == pytest.approx([1.0] * 36)
    assert found["way"] == pytest.approx((WAY, 0.0), abs=1e-9), "a wake-up does not depend on the speed"


def test_the_quadratic_law_survives_noise() -> None:
    """With 5 % of noise on each call, times of prompts within the range are found within 3 %."""
    model = laws_of(rows(noise=0.05, seed=2), lambda at, core=-1: 1.0, FOLLOWS)["model"]
    for tokens in (150, 450, 850):
        truth = OVERHEAD + EACH * tokens + SQUARED * tokens**2
        assert model[0] + model[1] * tokens + model[2] * tokens**2 == pytest.approx(truth, rel=0.03)


def test_no_part_of_the_quadratic_law_is_negative() -> None:
    """Times that fall off towards long prompts do not give a law that ends below 0."""
    assert min(quadratic([100, 200, 400, 800], [1e-3, 1.9e-3, 3.4e-3, 5e-3])) >= 0


def test_a_fan_out_is_told_by_its_size() -> None:
    """The median over repeats, of the time from the first call to the end of the last."""
    base = rows()
    fans = [
        {**base[7], "what": "fan", "size": size, "first": start, "over": start + 1e-3 * size}
        for size in (2, 4)
        for start in (100.0, 200.0)
        for _ in range(size)
    ]
    assert laws_of([*base, *fans], lambda at, core=-1: 1.0, FOLLOWS)["fan"] == pytest.approx({"2": 2e-3, "4": 4e-3})
