"""The real system: its processes start, answer, are measured into a ledger, and end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the system's models are torch's")
pytest.importorskip("aiohttp", reason="the system speaks HTTP by aiohttp")
pytest.importorskip("msgpack", reason="one of the system's codecs")

from coordsim.calibration.validation.bench import System, open_system
from coordsim.calibration.validation.measured import result_of
from coordsim.calibration.validation.processes import Child, children
from coordsim.calibration.validation.session import Configuration
from coordsim.calibration.validation.system.terms import DECK, deck, failures, waits
from coordsim.sim.engine.ledger import Account

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a sensor a core needs Linux"),
]

PLAIN = Configuration(name="plain", steps=2, modalities=2, users=2, failures=0.0, growth=30, workers=1, codec="json")


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """The running system, with as many modality workers as these tests use."""
    with open_system("cpu", media_workers=2) as running:
        yield running


def told(system: System, configuration: Configuration, seconds: float = 0.5) -> dict[str, Any]:
    """Let the system run, and return what the orchestrator tells."""
    settings = {"seed": 1, **configuration.model_dump(include={"codec", "failures", "workers"})}
    wanted = configuration.model_dump(include={"steps", "modalities", "users", "rate", "growth"})
    found: dict[str, Any] = system.orchestrator.ask(
        {"do": "run", "settings": settings, "seconds": seconds, "seed": 1, **wanted}
    )
    return found


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_every_moment_of_a_task_is_in_the_ledger(system: System, codec: str) -> None:
    """Spans on the critical path sum to T_total, of a calls' kinds there are as many as the configuration says."""
    run = told(system, PLAIN.model_copy(update={"codec": codec}))
    result = result_of("plain", run)
    assert result.arrived == len(run["tasks"]) >= 2
    assert result.categories().sum(axis=1) == pytest.approx(result.response_times, rel=1e-9)
    assert result.fact("calls").tolist() == [PLAIN.steps * (2 + PLAIN.modalities)] * result.arrived
    inference = {account.component for account in result.accounts if account.category == "inference"}
    assert inference == {"model", "media0", "media1"}
    assert Account("tool", "query", "tool.execute") in result.accounts
    assert Account("context", "model", "prefill again") in result.accounts
    assert (result.category("inference") > 0).all()


def test_the_branch_that_comes_last_is_on_the_critical_path(system: System) -> None:
    """Of two modality workers at a barrier one is overlapped work, and the law holds task by task."""
    result = result_of("plain", told(system, PLAIN))
    assert (result.overlapped > 0).all()
    fork = [span for span in result.task_at(0.5).spans if span.component.startswith("media")]
    assert {span.critical for span in fork} == {True, False}


def test_failures_are_met_by_timeouts_and_retries(system: System) -> None:
    """A quarter of the calls of tools hang or end in an error: each is tried again, and the time is recovery."""
    failing = PLAIN.model_copy(update={"failures": 0.25, "modalities": 0, "users": 4})
    result = result_of("failing", told(system, failing, 1.5))
    errors, timeouts = result.fact("errors").sum(), result.fact("timeouts").sum()
    assert errors > 0
    assert timeouts > 0
    assert result.fact("retries").sum() + result.fact("given_up").sum() == errors + timeouts
    assert result.category("recovery").sum() > 0.25 * timeouts


def test_poisson_arrivals_come_at_their_rate(system: System) -> None:
    """The number of arrivals lies within what chance allows, and who comes is served."""
    result = result_of(
        "open", told(system, PLAIN.model_copy(update={"users": None, "rate": 20.0, "modalities": 0}), 1.0)
    )
    assert 20 - 4.5 * 20**0.5 <= result.arrived <= 20 + 4.5 * 20**0.5
    assert result.ended == result.arrived


def test_a_calibration_tells_all_laws(system: System) -> None:
    """Each is there, positive where it must be, and the time of the model grows with tokens."""
    laws = system.calibrate(PLAIN, 0.2, 3)
    assert laws["plan"] > 0
    for name in ("encode", "decode"):
        assert laws[name][0] > 0, name
    assert min(laws["client"], laws["server"], laws["hand_off"], laws["slice"]) > 0
    assert set(laws["follows"]) == {"model", "media", "tool"}
    for name in ("query", "search", "media", "model_residual", "ways"):
        assert min(laws[name]) >= 0
        assert np.median(laws[name]) > 0, name
    overhead, each, squared = laws["model"]
    assert each + squared > 0
    assert overhead >= 0
    assert len(laws["co_run"]) == len(laws["co_run_wall"]) == 4
    assert min(laws["co_run"]) >= 1
    assert set(laws["fan"]) == set(laws["fans"]) - {"1"} == {"2"}
    assert laws["naive"]["model 900"] > laws["naive"]["model 300"]


def test_a_run_tells_what_the_machine_did(system: System) -> None:
    """The speed a value a period, shares of the cores' time, counts."""
    run = system.run(PLAIN, 0.6, 5)
    assert len(run.measured.seconds) == len(run.measured.inference) == run.counts["tasks"]
    assert len(run.speed) >= 5
    assert min(run.speed) > 0
    assert 0 <= run.steal <= 1
    assert run.foreign >= 0
    assert run.seconds >= 0.5


def test_decks_meet_their_law_exactly() -> None:
    """In each turn of a deck there are as many failures as the share says, hangs and errors alike, and every wait once."""
    fates = deck(failures(0.1), 3)
    for _ in range(3):
        turn = [next(fates) for _ in range(DECK)]
        assert turn.count("hang") == turn.count("error") == 2
    assert sorted(waits()) == waits()
    pauses = deck(waits(), 4)
    assert sorted(next(pauses) for _ in range(DECK)) == waits()


def test_a_process_that_fails_is_told() -> None:
    """Its name and exit status, and no other process is left behind."""
    with (
        pytest.raises(RuntimeError, match="`serve_tool` ended with exit status 1"),
        children([("fill",), ("serve_tool", "nonsense")]),
    ):
        pass


def test_processes_end_with_who_started_them(tmp_path: Path) -> None:
    """Killed outright, it leaves no process behind."""
    script = tmp_path / "start.py"
    script.write_text(
        "import time\n"
        "from coordsim.calibration.validation.processes import children\n"
        "with children([('fill',), ('sense', '0')]) as both:\n"
        "    print(*(one.pid for one in both), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        pids = [int(word) for word in started.stdout.readline().split()]
        started.send_signal(signal.SIGKILL)
        started.wait()
    until = time.monotonic() + 10
    while any(map(_runs, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_runs, pids))


def test_a_child_answers_what_it_is_asked() -> None:
    """The sensor reads about as often as it should."""
    with children([("sense", str(min(os.sched_getaffinity(0))))]) as (sensor,):
        assert isinstance(sensor, Child)
        time.sleep(0.5)
        readings = sensor.ask()
        assert len(readings) >= 1
        assert all(seconds > 0 for _, seconds in readings)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"
