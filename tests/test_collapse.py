"""Collapses are told from noise, from quick recovery and from long drains, on series whose state is known."""

import math
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest

from coordsim.sim.analysis.collapse import Collapse, Watch, collapses

Array = npt.NDArray[np.float64]
WINDOW, BEFORE, DURING, WINDOWS = 60.0, 10, 3, 60  # seconds; windows
RATE, SHARE = 20.0, 0.95  # tasks a second, of which end well
TRIGGER = (BEFORE * WINDOW, (BEFORE + DURING) * WINDOW)


def observe(share: Array, queue: Array | None = None, *, seed: int = 0, load: Array | None = None) -> Collapse:
    """Return what the trigger did in a series of Poisson counts with this share of goodput in each window."""
    rng = np.random.default_rng(seed)
    rates = RATE * WINDOW * (np.ones(share.size) if load is None else load)
    times = WINDOW * np.arange(1, share.size + 1)
    arrived, good = rng.poisson(rates), rng.poisson(rates * share)
    return collapses(times, arrived / WINDOW, good / WINDOW, [TRIGGER], queue=queue)[0]


def shares(down: float, until: int, windows: int = WINDOWS) -> Array:
    """Return a share of goodput that drops to `down` when the trigger begins and is back after window `until`."""
    share = np.full(windows, SHARE)
    share[BEFORE:until] = down
    return share


def backlog(level: float, windows: int = WINDOWS, seed: int = 1) -> Array:
    """Return a backlog that fills during the trigger and then stays about `level`."""
    rising = np.interp(np.arange(windows), [BEFORE - 1, BEFORE + DURING - 1], [20.0, level])
    return rising + np.random.default_rng(seed).uniform(-10, 10, windows)


def test_goodput_that_stays_down_is_metastable() -> None:
    """Down to a fifth for 47 windows after a trigger of 3, with a backlog that does not fall: metastable."""
    for seed in range(20):
        found = observe(shares(0.2, WINDOWS), backlog(5000, seed=seed), seed=seed)
        assert found.state == "metastable", found.why
        assert found.metastable is True
        assert found.time_to_recover == math.inf
        assert found.time_to_detect == WINDOW
        assert found.depth == pytest.approx(1 - 0.2 / SHARE, abs=0.05)
        assert not found.baseline.excludes(SHARE)


def test_goodput_that_is_back_at_once_has_recovered() -> None:
    """Down during the trigger only: back in the first window after it, and not metastable."""
    found = observe(shares(0.2, BEFORE + DURING), backlog(20))
    assert (found.state, found.metastable, found.time_to_recover) == ("recovered", False, 0.0)
    assert found.time_to_detect == WINDOW


def test_time_to_recover_is_from_the_end_of_the_trigger() -> None:
    """Back seven windows after the trigger: seven windows; one bad window later on does not change it, three do."""
    share = shares(0.2, BEFORE + DURING + 7)
    assert observe(share, backlog(20)).time_to_recover == 7 * WINDOW
    share[40] = 0.2
    assert observe(share, backlog(20)).time_to_recover == 7 * WINDOW
    share[40:43] = 0.2
    assert observe(share, backlog(20)).time_to_recover == (43 - BEFORE - DURING) * WINDOW


@pytest.mark.parametrize("spare", [0.1, 0.03])
def test_a_long_drain_is_recovering_and_not_metastable(spare: float) -> None:
    """A server with little to spare keeps late for long after a burst, but its backlog falls at the spare rate."""
    rng, capacity = np.random.default_rng(3), RATE / (1 - spare)
    load = np.ones(WINDOWS)
    load[BEFORE : BEFORE + DURING] = 5.0
    arrived = rng.poisson(RATE * WINDOW * load)
    queue, waiting, share = 0.0, [], []
    for count in arrived:
        queue = max(0.0, queue + count - rng.poisson(capacity * WINDOW))
        waiting.append(queue)
        share.append(SHARE if queue < capacity * WINDOW else 0.0)  # later than a window is too late
    times = WINDOW * np.arange(1, WINDOWS + 1)
    good = rng.poisson(np.array(share) * RATE * WINDOW)
    found = collapses(times, arrived / WINDOW, good / WINDOW, [TRIGGER], queue=waiting)[0]
    assert found.state == "recovering", found.why
    assert found.metastable is False
    assert found.time_to_recover == math.inf
    assert "backlog falls" in found.why


def test_without_a_backlog_a_long_drop_cannot_be_told() -> None:
    """The same drop is metastable with a flat backlog, and cannot be told from a drain without one."""
    found = observe(shares(0.2, WINDOWS))
    assert (found.state, found.metastable) == ("cannot tell", None)
    assert "backlog" in found.why


def test_a_backlog_that_levels_off_is_left_open() -> None:
    """A backlog that falls fast at first and then hardly any more is neither a drain nor flat."""
    after = np.arange(WINDOWS) - BEFORE - DURING
    queue = np.where(after < 0, 20.0, 4000 + 4000 * np.exp(-np.maximum(after, 0) / 8.0))
    found = observe(shares(0.2, WINDOWS), queue)
    assert found.metastable is None
    assert "levels off" in found.why


def test_a_run_that_ends_too_early_cannot_be_told() -> None:
    """Twelve windows are the least, and three times the trigger; fewer than `hold` say nothing at all."""
    for windows, words in ((BEFORE + DURING + 11, "are short"), (BEFORE + DURING + 2, "only 2 windows")):
        found = observe(shares(0.2, windows, windows), backlog(5000, windows))
        assert found.metastable is None
        assert words in found.why
    long = Watch(patience=30)
    times, flat = WINDOW * np.arange(1, WINDOWS + 1), np.full(WINDOWS, RATE)
    found = collapses(times, flat, flat * shares(0.2, WINDOWS), [TRIGGER], queue=backlog(5000), watch=long)[0]
    assert found.metastable is None


def test_load_that_stays_up_is_no_metastable_state() -> None:
    """When the arrivals do not come down again, the load is to blame, and it is said so."""
    load = np.where(np.arange(WINDOWS) < BEFORE, 1.0, 2.0)
    found = observe(shares(0.3, WINDOWS), backlog(5000), load=load)
    assert found.metastable is None
    assert "arrive after the trigger" in found.why


def test_goodput_of_a_workload_that_has_ended_is_not_judged() -> None:
    """Windows after the last arrivals are neither a recovery nor a collapse."""
    load = np.where(np.arange(WINDOWS) < 40, 1.0, 0.0)
    found = observe(shares(0.2, WINDOWS), backlog(5000), load=load)
    assert found.state == "metastable"
    assert observe(shares(0.2, BEFORE + DURING), backlog(20), load=load).state == "recovered"


def test_no_baseline_is_no_verdict() -> None:
    """Without five windows before the trigger, without arrivals, or without goodput there is nothing to fall from."""
    times, flat = WINDOW * np.arange(1, WINDOWS + 1), np.full(WINDOWS, RATE)
    early = collapses(times, flat, flat, [(0.0, 60.0), (600.0, 660.0)])
    idle = collapses(times, 0 * flat, 0 * flat, [TRIGGER])
    bad = collapses(times, flat, 0 * flat, [TRIGGER])
    for one, words in (
        (early[0], "0 windows"),
        (early[1], "0 windows"),
        (idle[0], "no task arrived"),
        (bad[0], "well"),
    ):
        assert (one.state, one.metastable) == ("cannot tell", None)
        assert words in one.why
        assert math.isnan(one.time_to_detect)
    assert collapses(times, flat, flat, []) == ()


def test_windows_of_few_tasks_are_refused() -> None:
    """Five tasks a window: chance alone brings a window to nothing, and the answer says to take longer ones."""
    rng = np.random.default_rng(5)
    times = np.arange(1.0, 61.0)
    found = collapses(times, rng.poisson(5.0, 60), rng.poisson(5.0 * SHARE, 60), [(10.0, 13.0)])[0]
    assert found.metastable is None
    assert "windows of more tasks" in found.why
    assert "more than all of it" in found.why  # a band of 194 % says no more
    assert found.band > 1


@pytest.mark.parametrize("burst", [1.0, 2.0])
def test_noise_is_no_collapse(burst: float) -> None:
    """Over 500 runs without an effect at most 1 % and three standard errors see one, and none is metastable.

    With `burst` 2 the trigger doubles the load and all of it is served.
    """
    runs, load = 500, np.ones(WINDOWS)
    load[BEFORE : BEFORE + DURING] = burst
    states = Counter(observe(np.full(WINDOWS, SHARE), backlog(20), seed=seed, load=load).state for seed in range(runs))
    assert states["recovered"] + states["recovering"] <= runs * (0.01 + 3 * math.sqrt(0.01 * 0.99 / runs))
    assert states["metastable"] == 0
    assert states["unharmed"] > 0.95 * runs


@pytest.mark.parametrize("level", [20.0, 5000.0])
def test_a_backlog_that_wanders_is_no_drain(level: float) -> None:
    """About a higher level than before, or about the same, it is metastable in 95 of 100 runs and recovering in none."""
    after = np.arange(WINDOWS) >= BEFORE + DURING

    def wandering(seed: int) -> Array:
        noise = np.random.default_rng(seed).normal(0, np.where(after, level / 25, 4.0))
        return np.maximum(np.where(after, level, 20.0) + noise, 0.0)

    states = Counter(observe(shares(0.2, WINDOWS), wandering(seed), seed=seed).state for seed in range(100))
    assert states["metastable"] >= 95
    assert states["recovering"] == 0


def test_each_trigger_is_judged_before_the_next() -> None:
    """The first of two triggers recovers, the second does not; a third that follows at once leaves the second open."""
    share = shares(0.2, BEFORE + DURING)
    share[30:] = 0.2
    times, flat = WINDOW * np.arange(1, WINDOWS + 1), np.full(WINDOWS, RATE)
    queue = np.where(np.arange(WINDOWS) < 30, 20.0, 5000.0)
    second = 30 * WINDOW, 32 * WINDOW
    found = collapses(times, flat, flat * share, [second, TRIGGER], queue=queue)
    assert [one.state for one in found] == ["recovered", "metastable"]
    assert [one.start for one in found] == [TRIGGER[0], second[0]]
    third = 33 * WINDOW, 34 * WINDOW
    found = collapses(times, flat, flat * share, [TRIGGER, second, third], queue=queue)
    assert [one.state for one in found] == ["recovered", "cannot tell", "metastable"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": [2.0, 1.0, 3.0]}, "times must rise"),
        ({"offered": [1.0, 1.0]}, "offered must hold"),
        ({"good": [1.0, -1.0, 1.0]}, "good must hold"),
        ({"queue": [1.0]}, "queue must hold"),
        ({"triggers": [(2.0, 1.0)]}, "start before it ends"),
        ({"start": 5.0}, "must begin before"),
    ],
)
def test_series_that_cannot_be_are_refused(change: dict[str, object], message: str) -> None:
    """Falling times, lengths that differ, negative rates and triggers that end before they start raise."""
    given = {"times": [1.0, 2.0, 3.0], "offered": [1.0] * 3, "good": [1.0] * 3, "triggers": [(1.0, 2.0)]} | change
    with pytest.raises(ValueError, match=message):
        collapses(**given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tolerance"):
        Watch(tolerance=0)
