"""The recorded session that ships: its predictions and its verdict come out again, and other measurements give other verdicts."""

import json
from functools import cache
from pathlib import Path

import pytest

from coordsim.calibration.validation.predict import frozen
from coordsim.calibration.validation.replay import Replay
from coordsim.calibration.validation.session import Outcome, Session, find, names, read
from coordsim.sim.analysis.validation import Verdict

NAME = "two-cores"
EXPECTED = Path(__file__).parent / "data" / f"validation-{NAME}.json"


@cache
def session() -> Session:
    """Return the session."""
    return read(find(NAME))


@cache
def replay() -> Replay:
    """Return what has its predictions, made once for all tests here."""
    return Replay(processes=1)


def numbers(verdict: Verdict) -> dict[str, object]:
    """Return what a verdict says, in numbers."""
    return {
        "status": verdict.status,
        "headlines": {one.metric: [one.error.value, one.error.low, one.error.high, one.floor, one.naive] for one in verdict.headlines},
        "predicted": {one.configuration: [one.predicted.p50, one.predicted.p95, one.predicted.share] for one in verdict.rows},
        "measured": {one.configuration: [one.measured.p50, one.measured.p95, one.measured.share] for one in verdict.rows},
    }  # fmt: skip


def flat(found: object) -> list[object]:
    """Return the leaves of plain data, in order."""
    if isinstance(found, dict):
        return [leaf for name in sorted(found) for leaf in flat(found[name])]
    return [leaf for one in found for leaf in flat(one)] if isinstance(found, list) else [found]


def test_it_ships() -> None:
    """By name, with every configuration in every round."""
    assert NAME in names()
    assert len(session().configurations) >= 8
    assert len({cell.round for cell in session().cells}) >= 5


@pytest.mark.slow
def test_each_model_is_the_one_that_was_frozen() -> None:
    """Before its measurement, by the hash of the scenario."""
    for cell in session().cells:
        assert frozen(session().configuration(cell.configuration), cell.laws) == cell.model, cell


@pytest.mark.slow
def test_predictions_and_verdict_come_out_again() -> None:
    """All numbers, from the recorded laws, speeds and measurements alone."""
    found, expected = numbers(replay().verdict(session())), json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert found.pop("status") == expected.pop("status")
    assert flat(found) == pytest.approx(flat(expected), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "status"), [(1.5, "fail"), (0.6, "fail")])
def test_a_system_that_is_not_as_predicted_fails(factor: float, status: str) -> None:
    """The same predictions, of a system that takes half as long again, or 40 % less."""
    cells = [
        cell.model_copy(
            update={
                "measured": Outcome(
                    seconds=tuple(factor * one for one in cell.measured.seconds),
                    inference=tuple(factor * one for one in cell.measured.inference),
                )
            }
        )
        for cell in session().cells
    ]
    assert replay().verdict(session().model_copy(update={"cells": tuple(cells)})).status == status


@pytest.mark.slow
def test_with_too_few_rounds_there_is_no_verdict() -> None:
    """Two rounds are inconclusive, whatever they say."""
    some = tuple(cell for cell in session().cells if cell.round <= 2)
    found = replay().verdict(session().model_copy(update={"cells": some}))
    assert found.status == "inconclusive"
    assert "too few rounds" in found.reasons[0].lower()
