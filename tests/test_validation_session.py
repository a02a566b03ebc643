"""The session of a validation: configurations cover their factors, rounds follow the protocol, files are read as they were written."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from coordsim.calibration.validation.configurations import generate
from coordsim.calibration.validation.protocol import SHARE, Measuring, Progress, least_budget
from coordsim.calibration.validation.replay import Replay
from coordsim.calibration.validation.session import (
    Cell,
    Configuration,
    Criteria,
    Outcome,
    Session,
    SessionError,
    read,
    rounds,
    write,
)

from .validated import MACHINE, Made, made

__all__ = ["made"]

Make = Callable[..., Made]


def load(configuration: Configuration) -> float:
    """Return CPU seconds of a task."""
    return 0.01 * configuration.steps


def blank(seed: int = 0, count: int = 3, budget: float = 300.0) -> Session:
    """Return a session that nothing was measured in."""
    return Session(
        seed=seed,
        started="2026-01-01T00:00:00+00:00",
        environment=MACHINE,
        configurations=generate(count, seed, load),
        budget=budget,
    )


def measured(system: Made, session: Session, planned: int = 5, **more: Any) -> Session:
    """Return a session after its measurement."""

    def freeze(_configuration: Configuration, laws: dict[str, Any]) -> str:
        system.calls.append(("freeze", _configuration.name))
        return f"{laws['seconds']:.7g}"

    judging = Replay(processes=1, clock=system.clock)
    return Measuring(system, judging, freeze, system.now, planned, clock=system.clock, **more).measure(session)


# ---------------------------------------------------------------------------------------------------------------------
# Configurations


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [8, 9, 12])
def test_configurations_cover_every_factor(seed: int, count: int) -> None:
    """Every value comes up, none twice more often than another by more than one; at least two of each that is hard to predict."""
    found = generate(count, seed, load)
    for name, values in {
        "steps": range(2, 9),
        "modalities": range(6),
        "workers": (1, 2),
        "codec": ("json", "msgpack"),
    }.items():
        seen = Counter(getattr(one, name) for one in found)
        assert set(seen) == set(values)
        assert max(seen.values()) - min(seen.values()) <= 1
    assert {one.users for one in found} == {1, 2, 3, 4, None}
    assert sum(one.users is None for one in found) >= 2
    assert sum(one.modalities >= 3 for one in found) >= 2
    assert sorted(one.failures for one in found)[:: count - 1] == [0.0, 0.1]
    assert sorted(one.growth for one in found)[:: count - 1] == [20, 120]
    assert len({one.model_copy(update={"name": ""}) for one in found}) == count


def test_rates_keep_the_cores_busy_but_not_full() -> None:
    """What arrives asks for 30 to 75 % of the cores."""
    for seed in range(20):
        for one in generate(8, seed, load, cores=2):
            if one.rate is not None:
                assert 0.295 <= one.rate * load(one) / 2 <= 0.755


def test_a_seed_tells_the_configurations() -> None:
    """The same gives the same, another gives others; one configuration is enough."""
    assert generate(8, 3, load) == generate(8, 3, load)
    assert generate(8, 3, load) != generate(8, 4, load)
    assert len(generate(1, 0, load)) == 1
    with pytest.raises(ValueError, match="must be >= 1"):
        generate(0, 0, load)


def test_a_configuration_is_told_in_words() -> None:
    """All factors are in it; a load is a number of users, or a rate, and not both."""
    one = Configuration(name="c1", steps=3, modalities=1, rate=2.5, failures=0.05, growth=40, workers=2, codec="json")
    assert one.what == "3 steps, 1 modality, 2.5 tasks/s, 5 % of tool calls fail, 40 tokens a step, 2 workers, json"
    with pytest.raises(ValueError, match="either `users` or `rate`"):
        Configuration(**(one.model_dump() | {"users": 2}))


# ---------------------------------------------------------------------------------------------------------------------
# The protocol


def test_every_round_visits_every_configuration_in_its_own_order(made: Make) -> None:
    """Five rounds, each a permutation, not all alike; places are the order in which cells were measured."""
    found = measured(made(), blank())
    assert rounds(found) == ((1, 2, 3, 4, 5), ())
    orders = [[cell.configuration for cell in found.cells if cell.round == number] for number in range(1, 6)]
    assert {tuple(sorted(order)) for order in orders} == {("c1", "c2", "c3")}
    assert len(set(map(tuple, orders))) > 1
    assert [cell.place for cell in found.cells] == [0, 1, 2] * 5


def test_the_model_is_frozen_between_calibration_and_run(made: Make) -> None:
    """Before every run its own calibration, and the hash of what that says."""
    system = made()
    found = measured(system, blank())
    steps = [system.calls[at : at + 3] for at in range(0, len(system.calls), 3)]
    assert [[what for what, _ in step] for step in steps] == [["calibrate", "freeze", "run"]] * 15
    assert all(len({name for _, name in step}) == 1 for step in steps)
    assert all(cell.model == f"{cell.laws['seconds']:.7g}" for cell in found.cells)


def test_cells_share_the_budget(made: Make) -> None:
    """Three quarters of it are for measuring, a third of that for calibrations."""
    system = made()
    found = measured(system, blank(budget=300.0))
    assert system.now == pytest.approx(SHARE * 300.0)
    assert sum(cell.seconds for cell in found.cells) == pytest.approx(SHARE * 300.0 * 2 / 3)
    assert least_budget(3, 5) == pytest.approx(60.0)


def test_an_open_verdict_asks_for_more_rounds_until_the_budget_ends(made: Make) -> None:
    """A model that is 9 % off, in rounds that drift, is measured as long as there is time, and no longer."""
    system = made(factor=1.1, drift=0.08)
    found = measured(system, blank(budget=300.0))
    assert max(cell.round for cell in found.cells) == 6  # a round takes 45 s, and 75 s are left after five
    assert system.now <= 300.0
    settled = measured(made(), blank(budget=300.0))
    assert max(cell.round for cell in settled.cells) == 5


def test_what_predictions_will_take_is_kept_back(made: Make) -> None:
    """With predictions of a second each, no time is left for a sixth round."""
    system = made(factor=1.1, drift=0.08)

    class Slow(Replay):
        def reserve(self, session: Session) -> float:
            return 45.0

    measuring = Measuring(system, Slow(processes=1), lambda _one, _laws: "", 0.0, 5, clock=system.clock)
    assert max(cell.round for cell in measuring.measure(blank(budget=300.0)).cells) == 5


def test_a_round_that_exceeds_the_criteria_is_dropped_whole(made: Make) -> None:
    """It ends where it did, counts nowhere, and another takes its place where there is time."""
    found = measured(made(stolen=(4,)), blank(budget=300.0))
    kept, dropped = rounds(found)
    assert (kept, [one.round for one in dropped]) == ((1, 3, 4, 5, 6), [2])
    assert dropped[0].reason.startswith("20.0% of the CPU time went to other guests of the host in c")
    assert len([cell for cell in found.cells if cell.round == 2]) == 2
    verdict = Replay(processes=1).final(found)
    assert (verdict.kept, verdict.status) == (kept, "pass")
    assert all(row.tasks == 5 * 40 for row in verdict.rows)


def test_what_was_dropped_tells_nothing(made: Make) -> None:
    """The verdict is the same whatever was measured in a dropped round."""
    found = measured(made(stolen=(4,)), blank(budget=300.0))
    other = found.model_copy(
        update={
            "cells": tuple(
                cell.model_copy(update={"measured": Outcome(seconds=(9.0,) * 9, inference=(1.0,) * 9)})
                if cell.round == 2
                else cell
                for cell in found.cells
            )
        }
    )
    first, second = (Replay(processes=1).final(one) for one in (found, other))
    assert replace(first, about=()) == replace(second, about=())


@pytest.mark.parametrize("stop", [0, 1, 4, 9, 14])
def test_an_interrupted_session_goes_on_to_the_same_end(made: Make, stop: int) -> None:
    """What was measured is kept, and what follows is what would have followed; the place in the round is kept, too."""
    whole = measured(made(), blank())
    latest = [blank()]
    with pytest.raises(KeyboardInterrupt):
        measured(made(stop=stop), blank(), keep=lambda one: latest.__setitem__(0, one))
    assert len(latest[0].cells) == stop
    again = measured(made(), latest[0])
    assert [(one.round, one.configuration, one.place, one.laws) for one in again.cells] == [
        (one.round, one.configuration, one.place, one.laws) for one in whole.cells
    ]


def test_progress_tells_cells_time_and_the_interval(made: Make) -> None:
    """Before every cell; a verdict is there after two rounds."""
    seen: list[Progress] = []
    measured(made(), blank(), tell=seen.append)
    assert [one.done for one in seen] == list(range(15))
    assert {one.total for one in seen} == {15}
    assert all(before.eta > after.eta for before, after in pairwise(seen))
    assert [one.verdict is None for one in seen] == [True] * 6 + [False] * 9


# ---------------------------------------------------------------------------------------------------------------------
# Replay


def test_a_replay_is_deterministic(made: Make, tmp_path: Path) -> None:
    """What is written and read again gives the same verdict, all rows and variants."""
    found = measured(made(factor=1.05), blank())
    write(tmp_path / "session.json.gz", found, overwrite=False)
    first, second = (Replay(processes=1).final(one) for one in (found, read(tmp_path / "session.json.gz")))
    assert first == second
    assert [one.variant for one in first.ablation] == ["naive", "cores"]
    assert dict(first.about)["rounds"] == "5 kept of 5, 600 tasks"
    assert first.doubts == ()


def test_a_model_that_is_not_the_frozen_one_is_told(made: Make) -> None:
    """A later version that builds another scenario of the same laws did not predict anything."""
    found = measured(made(), blank())
    other = found.model_copy(update={"cells": (found.cells[0].model_copy(update={"model": "x"}), *found.cells[1:])})
    (doubt,) = Replay(processes=1).final(other).doubts
    assert doubt.startswith("1 of 15 models are not those that were frozen")


# ---------------------------------------------------------------------------------------------------------------------
# The file


def test_a_session_is_read_as_it_was_written(made: Make, tmp_path: Path) -> None:
    """Plain and gzipped; the same session gives the same bytes."""
    found = measured(made(), blank())
    for name in ("session.json", "session.json.gz"):
        write(tmp_path / name, found, overwrite=False)
        assert read(tmp_path / name) == found
    before = (tmp_path / "session.json.gz").read_bytes()
    write(tmp_path / "session.json.gz", found, overwrite=True)
    assert (tmp_path / "session.json.gz").read_bytes() == before


def broken(found: Session, how: str) -> bytes:
    """Return the bytes of a session that is damaged in one way."""
    data = json.loads(found.model_dump_json(exclude_none=True))
    if how == "twice":
        data["cells"].append(data["cells"][0])
    elif how == "unknown":
        data["cells"][0]["configuration"] = "c9"
    elif how == "field":
        data["cells"][0]["steel"] = 1
    elif how == "lengths":
        data["cells"][0]["measured"]["inference"].pop()
    elif how == "version":
        data["coordsim_session"] = 2
    elif how == "other":
        data = {"name": "x"}
    content = json.dumps(data).encode()
    return {"cut": content[:-9], "gzip": gzip.compress(content)[:-20], "empty": b""}.get(how, content)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("twice", "must be there once"),
        ("unknown", "which is no configuration"),
        ("field", "cells.0.steel"),
        ("lengths", "a number for each task"),
        ("version", "coordsim_session"),
        ("other", "must be a recorded validation"),
        ("cut", "must be JSON"),
        ("gzip", "cannot be read"),
        ("empty", "must be JSON"),
    ],
)
def test_a_damaged_session_is_refused(made: Make, tmp_path: Path, how: str, said: str) -> None:
    """The error names the file and what is wrong with it."""
    path = tmp_path / "session.json"
    path.write_bytes(broken(measured(made(), blank(), planned=1), how))
    with pytest.raises(SessionError, match=said) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_session_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With the file's name."""
    with pytest.raises(SessionError, match="No such file"):
        read(tmp_path / "session.json")


def test_criteria_say_which_and_where() -> None:
    """Each has its words; what is below passes."""
    cell = Cell(
        round=1, configuration="c1", place=0, laws={}, model="", speed=(1.0,), every=0.1, measured=Outcome(seconds=(1.0, 2.0), inference=(0.0, 0.5)),
        counts={}, steal=0.05, foreign=0.15, seconds=1.0, started="",
    )  # fmt: skip
    criteria = Criteria()
    assert criteria.against(cell) == ""
    assert "other guests" in criteria.against(cell.model_copy(update={"steal": 0.051}))
    assert "other processes" in criteria.against(cell.model_copy(update={"foreign": 0.16}))
    few = Outcome(seconds=(1.0,), inference=(0.0,))
    assert criteria.against(cell.model_copy(update={"measured": few})) == "1 task ended in c1"
