"""The scenario that a calibration's laws make, and what it predicts."""

from typing import Any

import numpy as np
import pytest

from coordsim.calibration.validation.predict import VARIANTS, fan_out, frozen, load, predict, scenario, server_of
from coordsim.calibration.validation.session import Configuration
from coordsim.models.scenario import Scenario, as_yaml

ALONE = Configuration(name="alone", steps=2, modalities=0, users=1, failures=0.0, growth=30, workers=1, codec="json")
CROWD = Configuration(name="crowd", steps=3, modalities=3, users=4, failures=0.1, growth=60, workers=2, codec="msgpack")

LAWS: dict[str, Any] = {
    "plan": 1e-4, "encode": [2e-5, 1e-9], "decode": [1e-5, 1e-9], "client": 4e-4, "server": 6e-4, "per_byte": 2e-9, "ways": [1.1e-3] * 10, "hand_off": 3e-4, "model": [4e-4, 5e-6, 6e-9],
    "model_residual": [0.9, 1.0, 1.1], "query": [1.3e-3, 1.4e-3, 1.5e-3], "search": [2.8e-3, 3e-3, 3.3e-3], "wait": [2e-4] * 5,
    "media": [1.9e-3, 2e-3, 2.2e-3], "co_run": [1.0, 1.1, 1.2, 1.3], "slice": 4e-3, "beside": 1.05, "cores": 2, "follows": {"model": 0.4, "media": 0.5, "tool": 1.0}, "image": 12000,
    "naive": {
        "model 300": 3.5e-3, "model 900": 1.1e-2, "query": 2e-3, "search": 3.5e-3, "wait": 8e-4, "media0": 2.8e-3, "plan": 5e-5,
    },
}  # fmt: skip


def test_the_scenario_is_one_that_any_user_can_run() -> None:
    """It is valid, and as YAML the same."""
    for configuration in (ALONE, CROWD, CROWD.model_copy(update={"users": None, "rate": 5.0})):
        text = as_yaml(scenario(configuration, LAWS))
        assert Scenario.from_text(text).hash == frozen(configuration, LAWS)


def test_where_no_turns_are_seen_cores_are_shared_in_parts() -> None:
    """A machine that never takes a core from a busy process has no slice; its scenario is valid, and so are its variants."""
    laws = {**LAWS, "slice": 0.0}
    assert "slice" not in scenario(CROWD, laws)["network"]["nodes"]["host"]
    for variant in ("full", "slices", "co-run"):
        assert predict(CROWD, laws, (), 0.1, variant=variant, tasks=5).seconds


def test_the_hash_tells_other_laws_and_other_configurations() -> None:
    """Whatever changes the model changes its hash."""
    assert frozen(ALONE, LAWS) != frozen(ALONE, {**LAWS, "plan": 1.1e-4})
    assert frozen(ALONE, LAWS) != frozen(CROWD, LAWS)


def test_a_task_alone_takes_the_sum_of_its_parts() -> None:
    """Two steps of one user: dispatches, calls of the model with all tokens so far, a query, a search; nothing waits but for cores."""
    laws = {**LAWS, "model_residual": [1.0], "query": [1.3e-3], "search": [3e-3]}
    found = predict(ALONE, laws, (), 0.1, tasks=5)
    messages, calls = 8, 4
    work = sum(0.4e-3 + 5e-6 * tokens + 6e-9 * tokens**2 for tokens in (120, 170)) + 1.3e-3 + 3e-3
    ways = calls * (4e-4 + 6e-4 + 2 * 5e-5) + 2 * 3e-4
    least = work + ways + 4 * 1e-4 + messages * 3e-5
    assert found.seconds == pytest.approx([least] * 5, rel=0.01)  # bytes are left out above: less than a hundredth


def test_the_speed_of_the_machine_stretches_what_follows_it() -> None:
    """At half speed all takes twice as long, but for the share of the model's work that does not follow."""
    laws = {**LAWS, "model_residual": [1.0], "query": [1.3e-3], "search": [3e-3]}
    full, half = (predict(ALONE, laws, (speed,), 0.1, tasks=3).seconds[0] for speed in (1.0, 0.5))
    model = sum(0.4e-3 + 5e-6 * tokens + 6e-9 * tokens**2 for tokens in (120, 170))
    assert half == pytest.approx(2 * full - 0.6 * model, rel=1e-6)


def test_each_variant_changes_what_it_leaves_out() -> None:
    """On a crowded machine no law is without effect, and without the cores' limit tasks are faster."""
    speed = tuple(np.linspace(0.7, 1.1, 7).tolist())
    medians = {
        name: float(np.median(predict(CROWD, LAWS, speed, 0.1, variant=name, tasks=150).seconds)) for name in VARIANTS
    }
    full = medians.pop("full")
    assert all(value != full for value in medians.values()), medians
    for name in ("cores", "stack"):
        assert medians[name] < full, name


def test_fan_outs_tell_what_a_server_computes() -> None:
    """Of fan-outs simulated with 0.5 ms, 0.5 ms is found, though alone computing and waking up are the same."""
    truth = {**LAWS, "server": 5e-4}
    assert fan_out(truth, 1) == pytest.approx(fan_out({**LAWS, "server": 1e-4}, 1), rel=0.02)
    fans = {str(size): fan_out(truth, size) for size in (1, 3, 5)}
    assert fans["5"] > fans["3"] > fans["1"]
    assert server_of(LAWS, fans) == pytest.approx(5e-4, abs=5e-5)


def test_predictions_repeat_themselves() -> None:
    """The same session gives the same numbers, to the last bit."""
    one, other = (predict(CROWD, LAWS, (1.0, 0.9), 0.1, tasks=60, seed=4) for _ in range(2))
    assert one == other
    assert predict(CROWD, LAWS, (1.0, 0.9), 0.1, tasks=60, seed=5) != one


def test_more_work_is_more_load() -> None:
    """The rough load by which rates are chosen grows with steps, modalities and tokens."""
    more = ({"steps": 4}, {"modalities": 2}, {"growth": 90})
    assert all(load(ALONE.model_copy(update=change)) > load(ALONE) for change in more)
